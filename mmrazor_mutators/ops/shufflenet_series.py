"""The candidate operations of ShuffleNet-like search spaces.

Single Path One-Shot (Guo et al., ECCV 2020), section 4 and table 1, on the block
of ShuffleNetV2 (Ma et al., ECCV 2018), section 3.2, figure 3 (c, d).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..functional import rejoin_channels
from ..recomputation import Recomputed
from ..registry import OPS
from ..typing import ConfigDict
from .base import BaseOP, check_count, check_kernel_size
from .blocks import DEFAULT_ACT, DEFAULT_NORM
from .conv_module import build_conv_module

__all__ = ['ShuffleBlock', 'ShuffleXception']


class _Layers(NamedTuple):
    """How the convolutions of a block are built."""

    kernel_size: int
    conv_cfg: ConfigDict | None
    norm_cfg: ConfigDict | None
    act_cfg: ConfigDict | None

    def depthwise(self, channels: int, stride: int) -> nn.Module:
        """Build a convolution of single channels and a norm."""
        return build_conv_module(
            channels,
            channels,
            self.kernel_size,
            stride,
            groups=channels,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=None,
        )

    def pointwise(self, in_channels: int, out_channels: int) -> nn.Module:
        """Build a 1x1 convolution, a norm and an activation."""
        return build_conv_module(
            in_channels,
            out_channels,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )


class _TwoBranches(BaseOP):
    """Two branches with half of the channels each, dealt out in turn.

    Where stride and channels leave the shape as it is, the first branch is the
    first half of the input, and the second branch reads the other half alone.
    An odd channel is the second branch's, and stands last.
    """

    def __init__(self, layers: _Layers, with_cp: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_count('out_channels', self.out_channels, minimum=2)
        self.kernel_size = check_kernel_size(layers.kernel_size)
        self.with_cp = with_cp
        self.halves_input = self.stride == 1 and self.in_channels == self.out_channels
        self.first_channels = self.out_channels // 2
        rest = self.out_channels - self.first_channels
        if not self.halves_input:
            self.branch1 = nn.Sequential(
                layers.depthwise(self.in_channels, self.stride),
                layers.pointwise(self.in_channels, self.first_channels),
            )
        second_input = rest if self.halves_input else self.in_channels
        self.branch2 = self._build_branch(layers, second_input, rest)

    @abstractmethod
    def _build_branch(
        self, layers: _Layers, in_channels: int, out_channels: int
    ) -> nn.Sequential:
        """Build the second branch."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the channels of both branches in turn."""
        return Recomputed(self._run, self)(x) if self.with_cp else self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        half = self.first_channels
        if self.halves_input:
            first, second = x[:, :half], self.branch2(x[:, half:])
        else:
            first, second = self.branch1(x), self.branch2(x)
        dealt = rejoin_channels(first, second[:, :half])
        odd = second[:, half:]
        return torch.cat([dealt, odd], dim=1) if odd.shape[1] else dealt


@OPS.register_module()
class ShuffleBlock(_TwoBranches):
    """The block of ShuffleNetV2 with a kernel of one's choice.

    Its branch is a 1x1 convolution, one of single channels, and a 1x1 one.
    Where stride and channels leave the shape as it is, half of the channels
    pass by; elsewhere they go through a convolution of single channels and a
    1x1 one.  Then both halves are shuffled.

    Args:
        kernel_size: Of the convolutions of single channels, odd; 3, 5 or 7 in
            the paper.
        conv_cfg: Config of the convolutions, ``None`` for ``nn.Conv2d``.
        norm_cfg: Config of the norms, or ``None`` for none.
        act_cfg: Config of the activations after the 1x1 convolutions, or
            ``None`` for none.
        with_cp: Whether the inner maps are computed again in the backward pass
            instead of being kept.
        **kwargs: As for :class:`BaseOP`; ``out_channels`` is at least 2.

    Raises:
        ConfigError: An argument out of its range.

    >>> import torch
    >>> block = ShuffleBlock(5, in_channels=4, out_channels=4).eval()
    >>> x = torch.rand(2, 4, 5, 5)
    >>> torch.equal(block(x)[:, ::2], x[:, :2])
    True
    """

    def __init__(
        self,
        kernel_size: int,
        conv_cfg: ConfigDict | None = None,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        act_cfg: ConfigDict | None = DEFAULT_ACT,
        with_cp: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(_Layers(kernel_size, conv_cfg, norm_cfg, act_cfg), with_cp, **kwargs)

    def _build_branch(
        self, layers: _Layers, in_channels: int, out_channels: int
    ) -> nn.Sequential:
        return nn.Sequential(
            layers.pointwise(in_channels, out_channels),
            layers.depthwise(out_channels, self.stride),
            layers.pointwise(out_channels, out_channels),
        )


@OPS.register_module()
class ShuffleXception(_TwoBranches):
    """The block of ShuffleNetV2 with three separable 3x3 convolutions in its branch.

    Each is a convolution of single channels and a 1x1 one; the first has the
    stride.  All else is as in :class:`ShuffleBlock`.

    Args:
        conv_cfg: Config of the convolutions, ``None`` for ``nn.Conv2d``.
        norm_cfg: Config of the norms, or ``None`` for none.
        act_cfg: Config of the activations after the 1x1 convolutions, or
            ``None`` for none.
        with_cp: Whether the inner maps are computed again in the backward pass
            instead of being kept.
        **kwargs: As for :class:`BaseOP`; ``out_channels`` is at least 2.

    Raises:
        ConfigError: An argument out of its range.

    >>> import torch
    >>> block = ShuffleXception(in_channels=4, out_channels=6, stride=2)
    >>> block(torch.rand(2, 4, 5, 5)).shape
    torch.Size([2, 6, 3, 3])
    """

    def __init__(
        self,
        conv_cfg: ConfigDict | None = None,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        act_cfg: ConfigDict | None = DEFAULT_ACT,
        with_cp: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(_Layers(3, conv_cfg, norm_cfg, act_cfg), with_cp, **kwargs)

    def _build_branch(
        self, layers: _Layers, in_channels: int, out_channels: int
    ) -> nn.Sequential:
        places = [(in_channels, self.stride), (out_channels, 1), (out_channels, 1)]
        return nn.Sequential(
            *[
                nn.Sequential(
                    OrderedDict(
                        depthwise_conv=layers.depthwise(channels, stride),
                        pointwise_conv=layers.pointwise(channels, out_channels),
                    )
                )
                for channels, stride in places
            ]
        )
