from __future__ import annotations

import naive
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.ops import (
    NasBench201AvgPool,
    NasBench201Conv,
    NasBench201SkipConnect,
    NasBench201Zero,
)

PLACES = pytest.mark.parametrize(
    ('in_channels', 'out_channels', 'stride'), [(3, 3, 1), (3, 5, 1), (4, 4, 2), (3, 5, 2)]
)


def images(channels: int) -> Tensor:
    return torch.randn(2, channels, 7, 6, dtype=torch.float64)


@pytest.mark.parametrize('kernel_size', [1, 3])
@PLACES
def test_conv(kernel_size: int, in_channels: int, out_channels: int, stride: int) -> None:
    op = naive.randomize(
        NasBench201Conv(
            kernel_size, in_channels=in_channels, out_channels=out_channels, stride=stride
        )
    )
    _, conv, norm = op.conv.net
    x = images(in_channels)
    assert_close(op(x), naive.norm(naive.conv(x.relu(), conv.weight, stride), norm))


@PLACES
def test_avg_pool(in_channels: int, out_channels: int, stride: int) -> None:
    op = naive.randomize(
        NasBench201AvgPool(in_channels=in_channels, out_channels=out_channels, stride=stride)
    )
    x = images(in_channels)
    expected = x
    if in_channels != out_channels:
        _, conv, norm = op.preprocess.net
        expected = naive.norm(naive.conv(x.relu(), conv.weight), norm)
    assert_close(op(x), naive.pool(expected, 'avg', stride))


@PLACES
def test_skip_connect(in_channels: int, out_channels: int, stride: int) -> None:
    op = naive.randomize(
        NasBench201SkipConnect(
            in_channels=in_channels, out_channels=out_channels, stride=stride
        )
    )
    x = images(in_channels)
    if stride == 2:
        reduce = op.convert
        halves = naive.factorized_reduce(x.relu(), reduce.conv1.weight, reduce.conv2.weight)
        assert_close(op(x), naive.norm(halves, reduce.bn))
    elif in_channels != out_channels:
        _, conv, norm = op.convert.net
        assert_close(op(x), naive.norm(naive.conv(x, conv.weight), norm))  # No ReLU here.
    else:
        assert op(x) is x


@PLACES
def test_zero(in_channels: int, out_channels: int, stride: int) -> None:
    op = NasBench201Zero(in_channels=in_channels, out_channels=out_channels, stride=stride)
    expected = torch.zeros(2, out_channels, -(-7 // stride), 6 // stride, dtype=torch.float64)
    assert_close(op(images(in_channels) / 0), expected)
    assert op.is_zero


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r'`kernel_size` to be an odd int .* but got 2'):
        NasBench201Conv(kernel_size=2, in_channels=4, out_channels=4)
    with pytest.raises(ConfigError, match='`stride` to be 1 or 2, but got 4'):
        NasBench201SkipConnect(in_channels=4, out_channels=4, stride=4)
