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
from mmrazor_mutators.ops import ShuffleBlock, ShuffleXception

# In (3, 5, 2) and (5, 5, 1) the second branch has a channel more than the first.
PLACES = [(4, 4, 1), (5, 5, 1), (4, 6, 1), (4, 4, 2), (6, 8, 2), (3, 5, 2), (4, 6, 3)]
every_place = pytest.mark.parametrize(('in_channels', 'out_channels', 'stride'), PLACES)
BLOCKS = [(ShuffleBlock, 3), (ShuffleBlock, 5), (ShuffleBlock, 7), (ShuffleXception, None)]
every_block = pytest.mark.parametrize(('block', 'kernel_size'), BLOCKS)


def build(
    block: Any,
    kernel_size: int | None,
    in_channels: int,
    out_channels: int,
    stride: int,
    **kw: Any,
) -> Any:
    own = {} if kernel_size is None else {'kernel_size': kernel_size}
    shape = {'in_channels': in_channels, 'out_channels': out_channels, 'stride': stride}
    return naive.randomize(block(**own, **shape, **kw))


def depthwise(x: Tensor, part: Any, stride: int) -> Tensor:
    weight = part.conv.weight
    pad = weight.shape[-1] // 2
    return naive.norm(F.conv2d(x, weight, None, stride, pad, groups=len(weight)), part.bn)


def pointwise(x: Tensor, part: Any) -> Tensor:
    return naive.norm(F.conv2d(x, part.conv.weight), part.bn).clamp(min=0)


def branch(op: Any, x: Tensor) -> Tensor:
    """The second branch, written down with functions alone."""
    if isinstance(op, ShuffleBlock):
        first, middle, last = op.branch2
        return pointwise(depthwise(pointwise(x, first), middle, op.stride), last)
    for i, part in enumerate(op.branch2):
        x = depthwise(x, part.depthwise_conv, 1 if i else op.stride)
        x = pointwise(x, part.pointwise_conv)
    return x


def reference(op: Any, x: Tensor) -> Tensor:
    """Both branches, and their channels in turn."""
    half = op.out_channels // 2
    if op.stride == 1 and op.in_channels == op.out_channels:
        first, second = x[:, :half], branch(op, x[:, half:])
    else:
        first = pointwise(depthwise(x, op.branch1[0], op.stride), op.branch1[1])
        second = branch(op, x)
    channels = []
    for i in range(second.shape[1]):
        channels += [first[:, i], second[:, i]] if i < half else [second[:, i]]
    return torch.stack(channels, dim=1)


@every_block
@every_place
def test_is_its_formula(
    block: Any, kernel_size: int, in_channels: int, out_channels: int, stride: int
) -> None:
    op = build(block, kernel_size, in_channels, out_channels, stride)
    x = torch.randn(3, in_channels, 7, 6, dtype=torch.float64)
    assert_close(op(x), reference(op, x))


@pytest.mark.parametrize('stride', [1, 2])
def test_parts_have_the_names_of_v0_2_0(stride: int) -> None:
    norms = ['conv.weight', 'bn.weight', 'bn.bias']
    beside = [f'branch1.{i}.{key}' for i in range(2) for key in norms] if stride == 2 else []
    keys = [key for key, _ in build(ShuffleBlock, 3, 4, 4, stride).named_parameters()]
    assert keys == [*beside, *[f'branch2.{i}.{key}' for i in range(3) for key in norms]]
    keys = [key for key, _ in build(ShuffleXception, None, 4, 4, stride).named_parameters()]
    parts = [f'{i}.{part}_conv' for i in range(3) for part in ('depthwise', 'pointwise')]
    assert keys == [*beside, *[f'branch2.{part}.{key}' for part in parts for key in norms]]


@every_block
def test_other_norms_and_activations(block: Any, kernel_size: int) -> None:
    cfgs = {
        'conv_cfg': {'type': 'Conv2d'},
        'norm_cfg': {'type': 'GN', 'num_groups': 1},
        'act_cfg': {'type': 'Tanh'},
    }
    before = copy.deepcopy(cfgs)
    op = build(block, kernel_size, 4, 6, 2, **cfgs)
    assert cfgs == before
    kinds = {type(module) for module in op.modules()}
    assert {nn.GroupNorm, nn.Tanh} <= kinds
    assert not {nn.BatchNorm2d, nn.ReLU} & kinds
    activated = [module for module in op.modules() if isinstance(module, nn.Tanh)]
    assert len(activated) == (3 if block is ShuffleBlock else 4)


@every_block
@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'out_channels': 1}, '`out_channels` to be an int of at least 2, but got 1'),
        ({'norm_cfg': {'type': 'NoNorm'}}, "norm_cfg={'type': 'NoNorm'}"),
        ({'act_cfg': {'type': 'NoAct'}}, "act_cfg={'type': 'NoAct'}"),
        ({'conv_cfg': {'type': 'NoConv'}}, "conv_cfg={'type': 'NoConv'}"),
        ({'stride': 0}, '`stride` .* but got 0'),
    ],
)
def test_bad_arguments(
    block: Any, kernel_size: int, arguments: dict[str, Any], message: str
) -> None:
    shape = {'in_channels': 4, 'out_channels': 4, 'stride': 1, **arguments}
    with pytest.raises(ConfigError, match=message):
        build(block, kernel_size, **shape)


@pytest.mark.parametrize('kernel_size', [2, 0, '3', None])
def test_bad_kernel(kernel_size: Any) -> None:
    with pytest.raises(ConfigError, match=f'`kernel_size` .* but got {kernel_size!r}'):
        ShuffleBlock(kernel_size, in_channels=4, out_channels=4)
