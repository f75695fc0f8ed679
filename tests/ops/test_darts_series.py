from __future__ import annotations

import naive
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.host import DropPath
from mmrazor_mutators.ops import (
    BaseOP,
    DartsDilConv,
    DartsPoolBN,
    DartsSepConv,
    DartsSkipConnect,
    DartsZero,
)

PLACES = pytest.mark.parametrize(
    ('in_channels', 'out_channels', 'stride'), [(3, 3, 1), (3, 5, 1), (4, 4, 2), (3, 5, 2)]
)
SIZES = pytest.mark.parametrize(('height', 'width'), [(6, 4), (7, 5)])


def images(channels: int, height: int, width: int) -> Tensor:
    return torch.randn(2, channels, height, width, dtype=torch.float64)


@pytest.mark.parametrize('pool_type', ['max', 'avg'])
@pytest.mark.parametrize('kernel_size', [3, 5])
@SIZES
@PLACES
def test_pool_bn(
    pool_type: str,
    kernel_size: int,
    in_channels: int,
    out_channels: int,
    stride: int,
    height: int,
    width: int,
) -> None:
    op = naive.randomize(
        DartsPoolBN(
            pool_type,
            kernel_size,
            in_channels=in_channels,
            out_channels=out_channels,
            stride=stride,
        )
    )
    x = images(in_channels, height, width)
    expected = x
    if in_channels != out_channels:
        _, conv, norm = op.preprocess.net
        expected = naive.norm(naive.conv(x.relu(), conv.weight), norm)
    expected = naive.norm(naive.pool(expected, pool_type, stride, kernel_size), op.bn)
    assert_close(op(x), expected)


@pytest.mark.parametrize('kernel_size', [3, 5])
@SIZES
@PLACES
def test_dil_conv(
    kernel_size: int, in_channels: int, out_channels: int, stride: int, height: int, width: int
) -> None:
    op = naive.randomize(
        DartsDilConv(
            kernel_size, in_channels=in_channels, out_channels=out_channels, stride=stride
        )
    )
    _, depthwise, pointwise, norm = op.conv1
    x = images(in_channels, height, width)
    expected = naive.conv(x.relu(), depthwise.weight, stride, dilation=2)
    assert_close(op(x), naive.norm(naive.conv(expected, pointwise.weight), norm))


@pytest.mark.parametrize('kernel_size', [3, 5])
@SIZES
@PLACES
def test_sep_conv(
    kernel_size: int, in_channels: int, out_channels: int, stride: int, height: int, width: int
) -> None:
    op = naive.randomize(
        DartsSepConv(
            kernel_size, in_channels=in_channels, out_channels=out_channels, stride=stride
        )
    )
    x = images(in_channels, height, width)
    expected = x
    for (_, depthwise, pointwise, norm), step in ((op.conv1, stride), (op.conv2, 1)):
        expected = naive.conv(expected.relu(), depthwise.weight, step)
        expected = naive.norm(naive.conv(expected, pointwise.weight), norm)
    assert_close(op(x), expected)


@SIZES
@PLACES
def test_skip_connect(
    in_channels: int, out_channels: int, stride: int, height: int, width: int
) -> None:
    op = naive.randomize(
        DartsSkipConnect(in_channels=in_channels, out_channels=out_channels, stride=stride)
    )
    x = images(in_channels, height, width)
    if stride == 2:
        halves = naive.factorized_reduce(x.relu(), op.conv1.weight, op.conv2.weight)
        assert_close(op(x), naive.norm(halves, op.bn))
    elif in_channels != out_channels:
        _, conv, norm = op.convert.net
        assert_close(op(x), naive.norm(naive.conv(x.relu(), conv.weight), norm))
    else:
        assert op(x) is x


@pytest.mark.parametrize('stride', [1, 2, 3])
def test_zero_reads_nothing(stride: int) -> None:
    op = DartsZero(in_channels=3, out_channels=5, stride=stride)
    x = torch.full((2, 3, 7, 6), float('nan'), dtype=torch.float64, requires_grad=True)
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    out = weight * op(x)
    assert_close(out, torch.zeros(2, 5, -(-7 // stride), -(-6 // stride), dtype=torch.float64))
    out.sum().backward()
    assert weight.grad == 0
    assert x.grad is None
    assert op.is_zero
    assert not DartsSkipConnect(in_channels=3, out_channels=3).is_zero


def test_pool_without_a_norm() -> None:
    op = DartsPoolBN('avg', norm_cfg=None, in_channels=3, out_channels=3, stride=2)
    assert not list(op.parameters())
    x = images(3, 7, 6)
    assert_close(op(x), naive.pool(x, 'avg', stride=2))


DROPPING = [
    DartsPoolBN('max', use_drop_path=True, in_channels=4, out_channels=4),
    DartsDilConv(3, use_drop_path=True, in_channels=4, out_channels=4),
    DartsSepConv(3, use_drop_path=True, in_channels=4, out_channels=4),
    DartsSkipConnect(use_drop_path=True, in_channels=4, out_channels=4, stride=2),
    DartsSkipConnect(use_drop_path=True, in_channels=4, out_channels=6),
]


@pytest.mark.parametrize('op', DROPPING, ids=lambda op: type(op).__name__)
def test_drop_path_drops_whole_samples(op: BaseOP) -> None:
    x = torch.randn(32, 4, 6, 6)
    kept = op(x)  # A drop path starts with a probability of 0.
    (drop_path,) = [module for module in op.modules() if isinstance(module, DropPath)]
    drop_path.drop_prob = 0.5
    dropped = op(x)
    survivors = dropped.flatten(1).any(1)
    assert 0 < survivors.sum() < 32
    assert_close(dropped, 2 * kept * survivors.view(-1, 1, 1, 1))
    drop_path.drop_prob = 0.0


def test_drop_path_spares_the_identity() -> None:
    op = DartsSkipConnect(use_drop_path=True, in_channels=4, out_channels=4)
    assert not [module for module in op.modules() if isinstance(module, DropPath)]


@pytest.mark.parametrize('kernel_size', [4, 0, -3, 3.0, '3', True])
@pytest.mark.parametrize('op', [DartsSepConv, DartsDilConv])
def test_even_kernel_size(op: type[BaseOP], kernel_size: object) -> None:
    with pytest.raises(ConfigError, match=f'`kernel_size` to be an odd .* got {kernel_size!r}'):
        op(kernel_size=kernel_size, in_channels=4, out_channels=4)


def test_even_pool_and_unknown_pool_type() -> None:
    with pytest.raises(ConfigError, match=r'`kernel_size` to be an odd int .* but got 2'):
        DartsPoolBN('max', kernel_size=2, in_channels=4, out_channels=4)
    with pytest.raises(ConfigError, match="`pool_type` to be 'max' or 'avg', but got 'mean'"):
        DartsPoolBN('mean', in_channels=4, out_channels=4)


def test_skip_connect_beyond_stride_2() -> None:
    with pytest.raises(ConfigError, match='`stride` to be 1 or 2, but got 3'):
        DartsSkipConnect(in_channels=4, out_channels=4, stride=3)
