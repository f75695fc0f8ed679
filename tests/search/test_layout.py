from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.algorithms.base import BaseAlgorithm
from mmrazor_mutators.ops.fast_convs import PointwiseConv2d
from mmrazor_mutators.search.layout import keep_channels_apart, lay_out_channels_last

LAST = torch.channels_last


def laid_out(conv: nn.Module) -> Any:
    lay_out_channels_last(conv)
    return conv


def is_guarded(conv: nn.Module) -> bool:
    return keep_channels_apart in conv._forward_pre_hooks.values()


def test_weights_follow_and_stay_the_same_objects() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, groups=2), nn.Linear(2, 2))
    parts, values = list(net.parameters()), copy.deepcopy(net.state_dict())
    net.to(memory_format=LAST)
    lay_out_channels_last(net)
    assert all(a is b for a, b in zip(net.parameters(), parts, strict=True))
    assert_close(dict(net.state_dict()), dict(values), rtol=0, atol=0)
    assert net[0].weight.stride() == (27, 1, 9, 3)
    assert net[1].weight.stride() == (18, 9, 3, 1)


@pytest.mark.parametrize(
    ('conv', 'guarded'),
    [
        (nn.Conv2d(3, 8, 1, 2), True),
        (nn.Conv2d(15, 8, 1, (1, 2)), True),
        (nn.Conv2d(16, 8, 1, 2), False),
        (nn.Conv2d(3, 8, 1), False),
        (nn.Conv2d(3, 8, (1, 3), 2), False),
        (nn.Conv2d(4, 8, 1, 2, groups=2), False),
        (PointwiseConv2d(3, 8, 1, 2), False),
        (PointwiseConv2d(3, 8, 1, 2, padding=1), True),
    ],
    ids=str,
)
def test_strided_pointwise_convolutions_of_few_channels_are_guarded(
    conv: nn.Module, guarded: bool
) -> None:
    lay_out_channels_last(conv)
    lay_out_channels_last(conv)
    assert len(conv._forward_pre_hooks) == guarded
    assert is_guarded(conv) == guarded
    for twin in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert is_guarded(twin) == guarded


@pytest.mark.parametrize('size', [(4, 5), (1, 5), (4, 1), (1, 1)])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('by_name', [True, False])
def test_a_guarded_convolution_reads_rows(
    channels: int, size: tuple[int, int], by_name: bool
) -> None:
    conv = laid_out(nn.Conv2d(channels, 2, 1, 2).to(memory_format=LAST))
    seen: list[Tensor] = []
    conv.register_forward_pre_hook(
        lambda _, args, kwargs: seen.extend([*args, *kwargs.values()]), with_kwargs=True
    )
    rows = torch.empty((3, channels, *size), memory_format=torch.contiguous_format)
    together = torch.randn(3, *size, channels).permute(0, 3, 1, 2)
    for x in (together, together[:, :, :1], torch.randn(rows.shape), together[0]):
        _ = conv(input=x) if by_name else conv(x)
        assert torch.equal(seen[-1], x)
        assert seen[-1].stride() == torch.empty(x.shape).stride()
    assert conv.weight.stride() == (channels, 1, 1, 1)


def test_rows_are_not_copied() -> None:
    x = torch.randn(2, 3, 4, 5)
    args, kwargs = keep_channels_apart(nn.Identity(), (x,), {'mode': 'loss'})
    assert args[0] is x
    assert kwargs == {'mode': 'loss'}


def test_values_and_derivatives_stay() -> None:
    conv = nn.Conv2d(3, 4, 1, 2).double()
    twin = laid_out(copy.deepcopy(conv))
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64).contiguous(memory_format=LAST)
    leaves = x.requires_grad_(), conv.weight, conv.bias
    found = twin(x).square().sum()
    naive = F.conv2d(x, conv.weight, conv.bias)[:, :, ::2, ::2].square().sum()
    assert_close(found, naive)
    ours = torch.autograd.grad(found, (x, twin.weight, twin.bias), create_graph=True)
    plain = torch.autograd.grad(naive, leaves, create_graph=True)
    assert_close(ours, plain)
    assert_close(
        torch.autograd.grad(ours[1].square().sum(), x),
        torch.autograd.grad(plain[1].square().sum(), x),
    )


@pytest.mark.parametrize('channels_last', [True, False])
def test_algorithms_lay_networks_out_so(channels_last: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1, 2)).to(memory_format=LAST)
    algorithm = BaseAlgorithm(net, channels_last=channels_last)
    algorithm._begin(True, None)
    assert is_guarded(net[1]) == channels_last
    assert net[0].weight.is_contiguous(memory_format=LAST) == channels_last


@pytest.mark.parametrize(
    ('rule', 'choice'), [({'width': [4, 16]}, 'w4'), ({'kernel_size': [1, 3]}, 'k1')]
)
def test_networks_that_get_smaller_meet_no_channels_that_lie_together(
    rule: dict[str, Any], choice: str
) -> None:
    """A strided 1x1 convolution may get so few channels only when it is exported."""
    width = 'width' in rule
    second = nn.Conv2d(16, 8, 1, 2) if width else nn.Conv2d(8, 8, 3, 2, 1)
    model = nn.Sequential(nn.Conv2d(3, second.in_channels, 3, padding=1), second)
    images = torch.randn(2, 3, 8, 8)
    rules = [{'match': '0' if width else '1', **rule}]
    supernet = mm.make_searchable(model, rules, images)
    mutator = mm.build_mutator({'type': 'DartsMutator'})
    mutator.prepare_from_supernet(supernet)
    lay_out_channels_last(supernet)
    (space,) = mutator.search_spaces
    assert all(c._parameters['weight'].is_contiguous(memory_format=LAST) for c in supernet)
    small = mutator.export_subnet(supernet, {space: {'chosen': [choice]}})
    whole = mutator.export_subnet(supernet, {space: {'chosen': ['w16' if width else 'k3']}})
    assert small[0].weight.is_contiguous()
    assert not whole[0].weight.is_contiguous()
    assert whole[0].weight.is_contiguous(memory_format=LAST)
    assert (small[1].in_channels, small[1].kernel_size) == (4 if width else 8, (1, 1))
    assert small(images).shape == whole(images).shape
