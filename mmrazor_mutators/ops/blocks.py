"""Building blocks that operations, cells and heads share."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..host import DropPath, build_activation_layer, build_norm_layer
from ..typing import ConfigDict
from .base import check_count
from .fast_convs import DepthwiseConv2d, PointwiseConv2d
from .separable import SeparableConv

__all__ = [
    'DEFAULT_ACT',
    'DEFAULT_NORM',
    'FactorizedReduce',
    'StandardConv',
    'build_activation',
    'build_drop_path',
    'build_norm',
    'factorized_convs',
    'factorized_reduce',
    'separable_conv',
    'strided_zeros',
]

DEFAULT_NORM: ConfigDict = MappingProxyType({'type': 'BN'})
DEFAULT_ACT: ConfigDict = MappingProxyType({'type': 'ReLU'})


def _build_layer(name: str, cfg: Any, build: Any) -> nn.Module:
    """Build a layer of the host, and report what the host says in our own error."""
    if cfg is None:
        return nn.Identity()
    try:
        return build(dict(cfg))
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f'Expected `{name}` to be None or the config of a layer, e.g. dict(type=...), '
            f'but got {cfg!r} ({type(error).__name__}: {error})'
        ) from error


def build_norm(norm_cfg: ConfigDict | None, channels: int) -> nn.Module:
    """Build a norm layer; the config is not changed, and ``None`` is the identity.

    Raises:
        ConfigError: The config does not describe a norm layer.

    >>> norm = build_norm(dict(type='BN', affine=False), 4)
    >>> type(norm).__name__, norm.num_features, norm.affine
    ('BatchNorm2d', 4, False)
    """
    return _build_layer('norm_cfg', norm_cfg, lambda cfg: build_norm_layer(cfg, channels)[1])


def build_activation(act_cfg: ConfigDict | None) -> nn.Module:
    """Build an activation; the config is not changed, and ``None`` is the identity.

    Raises:
        ConfigError: The config does not describe an activation.

    >>> build_activation(dict(type='ReLU'))
    ReLU()
    """
    return _build_layer('act_cfg', act_cfg, build_activation_layer)


def build_drop_path(use_drop_path: bool) -> nn.Module:
    """Build a drop path that drops nothing until its ``drop_prob`` is set."""
    return DropPath(drop_prob=0.0) if use_drop_path else nn.Identity()


def strided_zeros(x: Tensor, channels: int, stride: int) -> Tensor:
    r"""Return the zeros that an operation of this stride would put out.

    Nothing of ``x`` but its shape, dtype, device and memory format matters: a
    NaN does not come through, and no gradient flows.

    Args:
        x: Shape ``(N, C, H, W)``.
        channels: Channels of the output.
        stride: Step between the output pixels.

    Returns:
        Shape :math:`(N, \text{channels}, \lceil H / s \rceil, \lceil W / s \rceil)`.

    >>> strided_zeros(torch.full((1, 2, 5, 4), float('nan')), 3, 2).shape
    torch.Size([1, 3, 3, 2])
    """
    if stride == 1 and channels == x.shape[1]:
        return torch.zeros_like(x)
    batch, height, width = x.shape[0], -(-x.shape[2] // stride), -(-x.shape[3] // stride)
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return x.new_zeros((batch, height, width, channels)).permute(0, 3, 1, 2)
    return x.new_zeros((batch, channels, height, width))


def separable_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    dilation: int = 1,
    norm_cfg: ConfigDict | None = DEFAULT_NORM,
) -> SeparableConv:
    """Build ReLU, depthwise convolution, pointwise convolution, norm."""
    padding = kernel_size // 2 * dilation
    return SeparableConv(
        nn.ReLU(),
        DepthwiseConv2d(
            in_channels,
            in_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups=in_channels,
            bias=False,
        ),
        PointwiseConv2d(in_channels, out_channels, 1, bias=False),
        build_norm(norm_cfg, out_channels),
    )


def factorized_convs(in_channels: int, out_channels: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Build the two pointwise convolutions of :func:`factorized_reduce`.

    The second one gets the channel that an odd ``out_channels`` leaves over.

    Raises:
        ConfigError: ``out_channels`` below 2.
    """
    check_count('out_channels', out_channels, minimum=2)
    half = out_channels // 2
    return (
        PointwiseConv2d(in_channels, half, 1, stride=2, bias=False),
        PointwiseConv2d(in_channels, out_channels - half, 1, stride=2, bias=False),
    )


def factorized_reduce(x: Tensor, conv1: nn.Module, conv2: nn.Module) -> Tensor:
    r"""Halve a map with two convolutions: one reads the even pixels, one the odd.

    With :math:`x_{h, w} = 0` outside the map,

    .. math:: y_{h, w} = [W_1 x_{2h, 2w};\; W_2 x_{2h+1, 2w+1}].

    Args:
        x: Shape ``(N, C, H, W)``.
        conv1: Pointwise convolution of stride 2 for the even pixels.
        conv2: The same for the odd pixels.

    Returns:
        Shape :math:`(N, C_1 + C_2, \lceil H / 2 \rceil, \lceil W / 2 \rceil)`.

    >>> x = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    >>> take = nn.MaxPool2d(1, stride=2)
    >>> factorized_reduce(x, take, take)[0, 1]
    tensor([[5., 0.],
            [0., 0.]])
    """
    height, width = x.shape[2:]
    odd = x[:, :, 1:, 1:]
    if height % 2 or width % 2:
        odd = F.pad(odd, (0, width % 2, 0, height % 2))
    return torch.cat([conv1(x), conv2(odd)], dim=1)


class StandardConv(nn.Module):
    """Activation, convolution, norm; the padding keeps ``ceil(size / stride)``.

    ``ReLUConvBN`` in the code of DARTS and of NAS-Bench-201.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd.
        stride: Step of the convolution.
        padding: Zeros at each border, by default half of ``kernel_size``.
        act_cfg: Config of the activation, or ``None`` for none.
        norm_cfg: Config of the norm, or ``None`` for none.

    >>> conv = StandardConv(3, 8, kernel_size=3, stride=2)
    >>> conv(torch.rand(2, 3, 5, 4)).shape
    torch.Size([2, 8, 3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        padding: int | None = None,
        act_cfg: ConfigDict | None = DEFAULT_ACT,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
    ) -> None:
        super().__init__()
        if padding is None:
            padding = kernel_size // 2
        conv = PointwiseConv2d if kernel_size == 1 else nn.Conv2d
        self.net = nn.Sequential(
            build_activation(act_cfg),
            conv(in_channels, out_channels, kernel_size, stride, padding, bias=False),
            build_norm(norm_cfg, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the norm of the convolution of the activation."""
        return self.net(x)


class FactorizedReduce(nn.Module):
    """Activation, :func:`factorized_reduce`, norm: half the size, no pixel unread.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, at least 2; may be odd.
        act_cfg: Config of the activation, or ``None`` for none.
        norm_cfg: Config of the norm, or ``None`` for none.

    Raises:
        ConfigError: ``out_channels`` below 2.

    >>> FactorizedReduce(4, 7)(torch.rand(2, 4, 5, 5)).shape
    torch.Size([2, 7, 3, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        act_cfg: ConfigDict | None = DEFAULT_ACT,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
    ) -> None:
        super().__init__()
        self.relu = build_activation(act_cfg)
        self.conv1, self.conv2 = factorized_convs(in_channels, out_channels)
        self.bn = build_norm(norm_cfg, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the norm of the two halves."""
        return self.bn(factorized_reduce(self.relu(x), self.conv1, self.conv2))
