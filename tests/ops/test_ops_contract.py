"""What every registered operation promises; a new one joins without a new line."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.ops import BaseOP

REQUIRED = {'expand_ratio': 3, 'kernel_size': 3, 'pool_type': 'max'}
PLACES = [(4, 4, 1), (4, 5, 1), (4, 4, 2), (3, 5, 2)]

OURS = sorted(
    name
    for name, op in mm.OPS.module_dict.items()
    if op.__module__.startswith('mmrazor_mutators')
)

every_op = pytest.mark.parametrize('name', OURS)
every_place = pytest.mark.parametrize(('in_channels', 'out_channels', 'stride'), PLACES)


def build(name: str, in_channels: int = 4, out_channels: int = 4, stride: int = 1) -> Any:
    return mm.build_op(
        {
            'type': name,
            'in_channels': in_channels,
            'out_channels': out_channels,
            'stride': stride,
            **required_arguments(name),
        }
    )


def required_arguments(name: str) -> dict[str, Any]:
    own = inspect.signature(mm.OPS.get(name).__init__).parameters
    return {key: value for key, value in REQUIRED.items() if key in own}


@every_op
@every_place
def test_size_is_rounded_up(
    name: str, in_channels: int, out_channels: int, stride: int
) -> None:
    op = build(name, in_channels, out_channels, stride)
    assert isinstance(op, BaseOP)
    out = op(torch.randn(2, in_channels, 7, 4))
    assert out.shape == (2, out_channels, -(-7 // stride), 4 // stride)


@every_op
@every_place
def test_gradient(name: str, in_channels: int, out_channels: int, stride: int) -> None:
    op = build(name, in_channels, out_channels, stride).double()
    x = torch.randn(2, in_channels, 5, 4, dtype=torch.float64, requires_grad=True)
    if op.is_zero:
        assert not op(x).requires_grad
    else:
        assert torch.autograd.gradcheck(op, x, fast_mode=True)


@every_op
@every_place
def test_memory_format_makes_no_difference(
    name: str, in_channels: int, out_channels: int, stride: int
) -> None:
    op = build(name, in_channels, out_channels, stride).double()
    x = torch.randn(2, in_channels, 7, 4, dtype=torch.float64)
    expected = op(x)
    out = op.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert_close(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last)


@every_op
@pytest.mark.parametrize('stride', [1, 2])
def test_copies_agree_and_stand_alone(name: str, stride: int) -> None:
    op = build(name, stride=stride)
    x = torch.randn(2, 4, 6, 6)
    copies = [copy.deepcopy(op), pickle.loads(pickle.dumps(op))]
    expected = op(x)
    for twin in copies:
        assert_close(twin(x), expected)
        for mine, other in zip(op.parameters(), twin.parameters(), strict=True):
            assert mine.data_ptr() != other.data_ptr()


@every_op
def test_unknown_argument(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} takes no argument 'strid'.*'stride'"):
        mm.build_op({'type': name, 'in_channels': 4, 'out_channels': 4, 'strid': 2})
    with pytest.raises(TypeError, match='strid'):
        mm.OPS.get(name)(**required_arguments(name), in_channels=4, out_channels=4, strid=2)
