from __future__ import annotations

import naive
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mmrazor_mutators.errors import ConfigError, UnknownTypeError
from mmrazor_mutators.ops import BaseOP, Identity


def test_identity_passes_through() -> None:
    x = torch.randn(2, 4, 5, 5)
    assert Identity(in_channels=4, out_channels=4)(x) is x


@pytest.mark.parametrize(
    ('in_channels', 'out_channels', 'stride'), [(4, 4, 2), (3, 5, 1), (3, 5, 2), (3, 5, 3)]
)
def test_identity_downsamples(in_channels: int, out_channels: int, stride: int) -> None:
    op = naive.randomize(
        Identity(
            act_cfg={'type': 'ReLU'},
            in_channels=in_channels,
            out_channels=out_channels,
            stride=stride,
        )
    )
    x = torch.randn(2, in_channels, 7, 6, dtype=torch.float64)
    convolved = naive.conv(x, op.downsample.conv.weight, stride)
    assert_close(op(x), naive.norm(convolved, op.downsample.bn).relu())


def test_identity_takes_configs() -> None:
    conv_cfg = {'type': 'Conv2d', 'groups': 2}
    op = Identity(conv_cfg=conv_cfg, norm_cfg=None, in_channels=4, out_channels=6)
    assert conv_cfg == {'type': 'Conv2d', 'groups': 2}
    assert op.downsample.conv.groups == 2
    assert op.downsample.conv.bias is not None
    assert isinstance(op.downsample.bn, nn.Identity)


def test_identity_with_an_unknown_conv() -> None:
    with pytest.raises(UnknownTypeError, match="'NoSuchConv' is not a registered"):
        Identity(conv_cfg={'type': 'NoSuchConv'}, in_channels=4, out_channels=6)


@pytest.mark.parametrize('value', [0, -1, 2.0, '4', None, True])
@pytest.mark.parametrize('name', ['in_channels', 'out_channels', 'stride'])
def test_base_op_checks_its_arguments(name: str, value: object) -> None:
    arguments = {'in_channels': 4, 'out_channels': 4, 'stride': 1, name: value}
    with pytest.raises(ConfigError, match=f'`{name}` to be an int .* but got {value!r}'):
        BaseOP(**arguments)
