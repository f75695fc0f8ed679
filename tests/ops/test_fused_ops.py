"""Norms that scale or serve several, and dilated convolutions without dilation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.mutables.mixing import mix
from mmrazor_mutators.ops.batch_norm import (
    follow_batch,
    normalize_by_batch,
    normalizes_by_batch,
    scaled_norm,
)
from mmrazor_mutators.ops.fast_convs import DepthwiseConv2d, PointwiseConv2d
from mmrazor_mutators.sharing import shared_work
from mmrazor_mutators.typing import Mixture


@pytest.fixture
def x() -> Tensor:
    return 3 * torch.randn(5, 4, 6, 3, dtype=torch.float64) + 1


def norm_after(batches: int = 2, **kwargs: Any) -> nn.BatchNorm2d:
    """Return a norm that has seen some batches."""
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(4, **{'affine': False, **kwargs}).double()
    for _ in range(batches):
        norm(torch.randn(3, 4, 5, 5, dtype=torch.float64))
    return norm


NORMS = [{}, {'affine': True}, {'momentum': None}, {'track_running_stats': False}, {'eps': 0.1}]


@pytest.mark.parametrize('kwargs', NORMS)
@pytest.mark.parametrize('training', [True, False])
def test_a_scaled_norm(kwargs: dict[str, Any], training: bool, x: Tensor) -> None:
    norms = [norm_after(**kwargs).train(training) for _ in range(2)]
    weight = torch.tensor(-0.7, dtype=torch.float64, requires_grad=True)
    x.requires_grad_()
    outputs = scaled_norm(norms[0], x, weight), weight * norms[1](x)
    assert_close(*outputs)
    slope = torch.randn_like(x)
    first, other = (torch.autograd.grad((y * slope).sum(), (x, weight)) for y in outputs)
    assert_close(first, other)
    assert_close(dict(norms[0].state_dict()), dict(norms[1].state_dict()))


def test_a_scaled_norm_has_second_derivatives(x: Tensor) -> None:
    norm, x = norm_after(), x[:2, :, :2, :2].clone().requires_grad_()
    weight = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda a, w: scaled_norm(norm, a, w), (x, weight))


def test_one_batch_for_two_norms(x: Tensor) -> None:
    norms = norm_after(1), norm_after(3, momentum=0.4)
    twins = norm_after(1), norm_after(3, momentum=0.4)
    assert all(map(normalizes_by_batch, norms))
    normalized, moments = normalize_by_batch(x, norms[0])
    for norm, twin in zip(norms, twins, strict=True):
        follow_batch(norm, moments)
        assert_close(normalized, twin(x))
        assert_close(dict(norm.state_dict()), dict(twin.state_dict()))


@pytest.mark.parametrize('kwargs', [k for k in NORMS if k and 'eps' not in k])
def test_norms_of_their_own_are_not_shared(kwargs: dict[str, Any]) -> None:
    assert not normalizes_by_batch(norm_after(**kwargs))
    assert not normalizes_by_batch(norm_after().eval())
    assert not normalizes_by_batch(nn.GroupNorm(2, 4, affine=False))


@pytest.mark.parametrize('size', [(6, 8), (7, 6), (5, 9), (2, 2)])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('kernel', [3, 5])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('layout', [torch.channels_last, torch.contiguous_format])
def test_dilated_convolutions(
    size: tuple[int, int],
    stride: int,
    kernel: int,
    layout: torch.memory_format,
    training: bool,
) -> None:
    conv = DepthwiseConv2d(
        6, 6, kernel, stride, kernel - 1, dilation=2, groups=6, bias=False
    ).double()
    conv.train(training)
    x = torch.randn(2, 6, *size, dtype=torch.float64).contiguous(memory_format=layout)
    x.requires_grad_()
    plain = F.conv2d(x, conv.weight, None, stride, kernel - 1, 2, groups=6)
    out = conv(x)
    assert_close(out, plain)
    slope = torch.randn_like(plain)
    leaves = (x, conv.weight)
    mine, naive = (torch.autograd.grad((y * slope).sum(), leaves) for y in (out, plain))
    assert_close(mine, naive)


@pytest.mark.parametrize('options', [{'padding': 1}, {'padding': 2, 'dilation': 1}])
def test_other_convolutions_are_left_alone(options: dict[str, int]) -> None:
    options = {'dilation': 2, **options}
    conv = DepthwiseConv2d(3, 3, 3, groups=3, **options).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert_close(conv(x), F.conv2d(x, conv.weight, conv.bias, groups=3, **options))


@pytest.mark.parametrize('options', [{}, {'bias': False}, {'stride': 2}, {'padding': 1}])
@pytest.mark.parametrize('layout', [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize('training', [True, False])
def test_pointwise_convolutions(
    options: dict[str, Any], layout: torch.memory_format, training: bool
) -> None:
    conv = PointwiseConv2d(4, 6, 1, **options).double().train(training)
    x = torch.randn(3, 4, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    x.requires_grad_()
    strides = {key: value for key, value in options.items() if key != 'bias'}
    out, plain = conv(x), F.conv2d(x, conv.weight, conv.bias, **strides)
    assert_close(out, plain)
    assert out.is_contiguous(memory_format=layout)
    slope = torch.randn_like(plain)
    leaves = [x, *conv.parameters()]
    mine, naive = (torch.autograd.grad((y * slope).sum(), leaves) for y in (out, plain))
    assert_close(mine, naive)


OPERATIONS: list[dict[str, Any]] = [
    {'type': 'DartsPoolBN', 'pool_type': 'max'},
    {'type': 'DartsPoolBN', 'pool_type': 'avg', 'use_drop_path': True},
    {'type': 'DartsSepConv', 'kernel_size': 3},
    {'type': 'DartsDilConv', 'kernel_size': 3, 'use_drop_path': True},
    {'type': 'DartsSkipConnect', 'stride': 2},
    {'type': 'NasBench201AvgPool'},
    {'type': 'NasBench201Conv', 'kernel_size': 1},
    {'type': 'NasBench201Conv', 'kernel_size': 3},
]


@pytest.mark.parametrize('cfg', OPERATIONS, ids=lambda cfg: cfg['type'])
@pytest.mark.parametrize('affine', [True, False])
@pytest.mark.parametrize('kind', ['forward', 'forward_pre', 'full_backward'])
def test_whoever_listens_to_a_part_is_called(
    cfg: dict[str, Any], affine: bool, kind: str
) -> None:
    """Mixed with others, each part runs as it does in the operation alone."""

    def heard(together: bool, name: str) -> list[str]:
        found: list[str] = []
        torch.manual_seed(0)
        args = {'in_channels': 4, 'out_channels': 4, **cfg}
        if cfg['type'] != 'NasBench201AvgPool':
            args['norm_cfg'] = {'type': 'BN', 'affine': affine}
        op, other = (mm.OPS.build(args) for _ in range(2))
        part = op.get_submodule(name)
        getattr(part, f'register_{kind}_hook')(lambda *_: found.append(name))
        x = torch.randn(2, 4, 6, 6).contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        weights = torch.tensor([0.3, 0.7], requires_grad=True)
        if together:
            with shared_work():
                out = mix([other, op], [x, x], Mixture(weights))
        else:
            out = weights[0] * other(x) + weights[1] * op(x)
        out.sum().backward()
        return found

    for name, _ in mm.OPS.build({'in_channels': 4, 'out_channels': 4, **cfg}).named_modules():
        assert heard(True, name) == heard(False, name), name
