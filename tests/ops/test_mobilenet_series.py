from __future__ import annotations

import copy
from typing import Any

import naive
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.host import DropPath
from mmrazor_mutators.ops import MBBlock
from mmrazor_mutators.ops.conv_module import build_conv_module
from mmrazor_mutators.ops.squeeze_excitation import SELayer

PLACES = [(4, 4, 1), (4, 6, 1), (4, 4, 2), (3, 5, 2), (3, 5, 3)]
every_place = pytest.mark.parametrize(('in_channels', 'out_channels', 'stride'), PLACES)


def build(in_channels: int = 4, out_channels: int = 4, stride: int = 1, **kwargs: Any) -> Any:
    arguments = {'kernel_size': 3, 'expand_ratio': 3, **kwargs}
    shape = {'in_channels': in_channels, 'out_channels': out_channels, 'stride': stride}
    return naive.randomize(MBBlock(**arguments, **shape))


def images(channels: int = 4, batch: int = 3) -> Tensor:
    return torch.randn(batch, channels, 7, 6, dtype=torch.float64)


def excited(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Squeeze and excitation with two matrices and their biases."""
    squeezed = (x.mean((2, 3)) @ weights[0][:, :, 0, 0].T + weights[1]).clamp(min=0)
    return x * torch.sigmoid(squeezed @ weights[2][:, :, 0, 0].T + weights[3])[..., None, None]


def reference(op: Any, x: Tensor, activate: Any) -> Tensor:
    """The block, written down with functions alone."""
    out = x
    if hasattr(op, 'expand_conv'):
        out = F.conv2d(out, op.expand_conv.conv.weight)
        out = activate(naive.norm(out, op.expand_conv.bn))
    weight = op.depthwise_conv.conv.weight
    groups, pad = len(weight), weight.shape[-1] // 2
    out = F.conv2d(out, weight, None, op.stride, pad, groups=groups)
    out = activate(naive.norm(out, op.depthwise_conv.bn))
    if hasattr(op, 'se'):
        out = excited(out, list(op.se.parameters()))
    out = naive.norm(F.conv2d(out, op.linear_conv.conv.weight), op.linear_conv.bn)
    return x + out if x.shape == out.shape else out


@every_place
@pytest.mark.parametrize('kernel_size', [3, 5, 7])
@pytest.mark.parametrize('expand_ratio', [1, 6])
@pytest.mark.parametrize('se_cfg', [None, {'ratio': 2, 'divisor': 1}])
def test_is_its_formula(
    in_channels: int,
    out_channels: int,
    stride: int,
    kernel_size: int,
    expand_ratio: int,
    se_cfg: Any,
) -> None:
    op = build(
        in_channels,
        out_channels,
        stride,
        kernel_size=kernel_size,
        expand_ratio=expand_ratio,
        se_cfg=se_cfg,
        act_cfg={'type': 'ReLU6'},
    )
    x = images(in_channels)
    assert_close(op(x), reference(op, x, lambda y: y.clamp(0, 6)))


def test_without_norms_and_activations() -> None:
    op = build(norm_cfg=None, act_cfg=None)
    x = images()
    convs = [op.expand_conv.conv, op.depthwise_conv.conv, op.linear_conv.conv]
    assert all(conv.bias is not None for conv in convs)
    out = F.conv2d(x, convs[0].weight, convs[0].bias)
    out = F.conv2d(out, convs[1].weight, convs[1].bias, padding=1, groups=12)
    assert_close(op(x), x + F.conv2d(out, convs[2].weight, convs[2].bias))


def test_parts_have_the_names_of_v0_2_0() -> None:
    keys = [key for key, _ in build(se_cfg={}, out_channels=6).named_parameters()]
    norms = ['conv.weight', 'bn.weight', 'bn.bias']
    assert keys == [
        *[f'expand_conv.{key}' for key in norms],
        *[f'depthwise_conv.{key}' for key in norms],
        *[f'se.conv{i}.conv.{key}' for i in (1, 2) for key in ('weight', 'bias')],
        *[f'linear_conv.{key}' for key in norms],
    ]
    assert 'expand_conv.conv.weight' not in build(expand_ratio=1).state_dict()


def test_drop_path_drops_samples() -> None:
    op = build(drop_path_rate=0.6)
    x = images(batch=64)
    with torch.no_grad():
        residual = reference(op, x, torch.relu) - x
        added = op(x) - x
    kept = added.abs().amax((1, 2, 3)) > 1e-9
    assert 10 < kept.sum() < 45  # Of 64, about 26.
    assert_close(added[kept], residual[kept] / 0.4)
    op.eval()
    assert_close(op(x), op._run(x))
    assert isinstance(op.drop_path, DropPath)


@pytest.mark.parametrize(('out_channels', 'stride'), [(6, 1), (4, 2)])
def test_drop_path_needs_an_input_to_fall_back_on(out_channels: int, stride: int) -> None:
    op = build(4, out_channels, stride, drop_path_rate=0.9)
    assert isinstance(op.drop_path, nn.Identity)
    assert isinstance(build(drop_path_rate=0.0).drop_path, nn.Identity)


def test_configs_are_not_changed_nor_kept() -> None:
    cfgs = {
        'conv_cfg': {'type': 'Conv2d'},
        'norm_cfg': {'type': 'BN', 'requires_grad': False},
        'act_cfg': {'type': 'ReLU'},
        'se_cfg': {
            'ratio': 4,
            'act_cfg': ({'type': 'ReLU'}, {'type': 'Tanh'}),
        },
    }
    before = copy.deepcopy(cfgs)
    op = build(**cfgs)
    assert cfgs == before
    cfgs['norm_cfg']['type'] = 'IN'
    assert op.expand_conv.norm_cfg == before['norm_cfg']
    assert not op.expand_conv.bn.weight.requires_grad


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'kernel_size': 4}, '`kernel_size` to be an odd int .* but got 4'),
        ({'expand_ratio': 0}, '`expand_ratio` to be an int of at least 1, but got 0'),
        ({'expand_ratio': 1.5}, '`expand_ratio` .* but got 1.5'),
        ({'se_cfg': True}, '`se_cfg` to be None or a dict of arguments, but got True'),
        ({'drop_path_rate': 1.0}, '`drop_path_rate` .* below 1, but got 1.0'),
        ({'drop_path_rate': -0.1}, '`drop_path_rate` .* but got -0.1'),
        ({'drop_path_rate': True}, '`drop_path_rate` .* but got True'),
        ({'conv_cfg': {'type': 'NoConv'}}, "but got conv_cfg={'type': 'NoConv'}"),
        ({'norm_cfg': {'type': 'NoNorm'}}, "norm_cfg={'type': 'NoNorm'}"),
        ({'act_cfg': {'type': 'NoAct'}}, "act_cfg={'type': 'NoAct'}"),
        ({'act_cfg': {}}, 'act_cfg={}'),
        ({'act_cfg': 3}, 'act_cfg=3'),
        ({'stride': 0}, '`stride` .* but got 0'),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**arguments)


@pytest.mark.parametrize(
    ('arguments', 'squeeze_channels'),
    [
        ({}, 8),
        ({'ratio': 4}, 16),
        ({'ratio': 5}, 16),  # 12, of which 8 would leave too little.
        ({'ratio': 5, 'divisor': 1}, 12),
        ({'squeeze_channels': 3}, 3),
    ],
)
def test_inner_channels(arguments: dict[str, Any], squeeze_channels: int) -> None:
    layer = SELayer(64, **arguments)
    assert layer.conv1.out_channels == layer.conv2.in_channels == squeeze_channels


@pytest.mark.parametrize('bias', [True, False, 'auto'])
def test_squeeze_excitation(bias: Any) -> None:
    layer = naive.randomize(SELayer(6, squeeze_channels=4, bias=bias))
    weights = list(layer.parameters())
    if not bias:
        weights = [weights[0], torch.zeros(()), weights[1], torch.zeros(())]
    x = images(6)
    assert_close(layer(x), excited(x, weights))


def test_one_activation_for_both() -> None:
    layer = naive.randomize(SELayer(6, squeeze_channels=4, act_cfg={'type': 'ReLU'}))
    x = images(6)
    pooled = x.mean((2, 3), keepdim=True)
    inner = F.conv2d(pooled, layer.conv1.conv.weight, layer.conv1.conv.bias).relu()
    expected = x * F.conv2d(inner, layer.conv2.conv.weight, layer.conv2.conv.bias).relu()
    assert_close(layer(x), expected)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'channels': 0}, '`channels` .* but got 0'),
        ({'ratio': 0}, '`ratio` .* but got 0'),
        ({'divisor': 0}, '`divisor` .* but got 0'),
        ({'squeeze_channels': 0}, '`squeeze_channels` .* but got 0'),
        ({'bias': 'never'}, "`bias` .* but got 'never'"),
        ({'act_cfg': 'ReLU'}, "`act_cfg` .* but got 'ReLU'"),
        ({'act_cfg': ({'type': 'ReLU'},)}, r"`act_cfg` .* but got \({'type': 'ReLU'},\)"),
        ({'act_cfg': 3}, '`act_cfg` .* but got 3'),
    ],
)
def test_bad_arguments_of_squeeze_excitation(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SELayer(**{'channels': 8, **arguments})


def test_conv_module_takes_arguments_of_the_host() -> None:
    module = build_conv_module(2, 3, 3, bias=True, norm_cfg=None, act_cfg=None, inplace=False)
    x = torch.randn(2, 2, 5, 4)
    assert_close(module(x), F.conv2d(x, module.conv.weight, module.conv.bias, padding=1))
