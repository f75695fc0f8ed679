from __future__ import annotations

import naive
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.ops.blocks import (
    DEFAULT_ACT,
    DEFAULT_NORM,
    FactorizedReduce,
    StandardConv,
    build_activation,
    build_norm,
    strided_zeros,
)


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('kernel_size', [1, 3, 5])
def test_standard_conv_is_relu_conv_norm(kernel_size: int, stride: int) -> None:
    block = naive.randomize(StandardConv(3, 4, kernel_size, stride))
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    expected = naive.norm(naive.conv(x.relu(), block.net[1].weight, stride), block.net[2])
    assert_close(block(x), expected)


@pytest.mark.parametrize(('height', 'width'), [(6, 4), (5, 4), (4, 7), (7, 5), (1, 1)])
@pytest.mark.parametrize('out_channels', [4, 5])
def test_factorized_reduce_reads_even_and_odd_pixels(
    out_channels: int, height: int, width: int
) -> None:
    block = naive.randomize(FactorizedReduce(3, out_channels))
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    halves = naive.factorized_reduce(x.relu(), block.conv1.weight, block.conv2.weight)
    assert halves.shape[1] == out_channels
    assert_close(block(x), naive.norm(halves, block.bn))


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(('channels', 'stride'), [(3, 1), (5, 1), (3, 2), (5, 3)])
def test_strided_zeros_keep_dtype_and_memory_format(
    channels: int, stride: int, memory_format: torch.memory_format
) -> None:
    x = torch.full((2, 3, 7, 5), float('nan'), dtype=torch.float64)
    zeros = strided_zeros(x.to(memory_format=memory_format), channels, stride)
    expected = torch.zeros_like(torch.empty(2, channels, 7, 5)[:, :, ::stride, ::stride])
    assert_close(zeros, expected.double())
    assert zeros.is_contiguous(memory_format=memory_format)


def test_configs_are_not_changed() -> None:
    norm_cfg, act_cfg = {'type': 'BN', 'requires_grad': False}, {'type': 'LeakyReLU'}
    norm, act = build_norm(norm_cfg, 4), build_activation(act_cfg)
    assert not norm.weight.requires_grad
    assert isinstance(act, nn.LeakyReLU)
    assert (norm_cfg, act_cfg) == (
        {'type': 'BN', 'requires_grad': False},
        {'type': 'LeakyReLU'},
    )
    assert (dict(DEFAULT_NORM), dict(DEFAULT_ACT)) == ({'type': 'BN'}, {'type': 'ReLU'})


def test_no_config_is_the_identity() -> None:
    x = torch.randn(2, 4)
    assert build_norm(None, 4)(x) is x
    assert build_activation(None)(x) is x


@pytest.mark.parametrize(
    'cfg',
    [
        {'type': 'NoSuchNorm'},
        {'type': 'json'},
        {'affine': False},
        {'type': 'BN', 'spelling': 1},
        {'type': 'GN', 'num_groups': 3},
    ],
)
def test_bad_norm_config(cfg: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf'`norm_cfg` .* but got .*{list(cfg.values())[-1]}'):
        build_norm(cfg, 4)


def test_bad_activation_config() -> None:
    with pytest.raises(ConfigError, match=r"`act_cfg` .* but got \{'type': 'NoSuchAct'\}"):
        build_activation({'type': 'NoSuchAct'})


def test_factorized_reduce_needs_two_channels() -> None:
    with pytest.raises(ConfigError, match=r'`out_channels` to be an int of at least 2.* got 1'):
        FactorizedReduce(3, 1)
