"""The candidate operation of MobileNet-like search spaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError
from ..host import DropPath
from ..recomputation import Recomputed
from ..registry import OPS
from ..typing import ConfigDict
from .base import BaseOP, check_count, check_kernel_size
from .blocks import DEFAULT_ACT, DEFAULT_NORM
from .conv_module import build_conv_module
from .squeeze_excitation import SELayer

__all__ = ['MBBlock']


@OPS.register_module()
class MBBlock(BaseOP):
    """Inverted residual: widen, convolve each channel by itself, narrow.

    MobileNetV2 (Sandler et al., CVPR 2018), section 3.3; with ``se_cfg`` as in
    MobileNetV3 (Howard et al., ICCV 2019), section 5.3.  Where stride and
    channels leave the shape as it is, the input is added to the result, which
    has no activation.

    Args:
        kernel_size: Of the convolution of single channels, odd.
        expand_ratio: How many times wider it is than the input, at least 1; with
            1 nothing is widened.
        se_cfg: Arguments of :class:`SELayer`, or ``None`` for none.
        conv_cfg: Config of the convolutions, ``None`` for ``nn.Conv2d``.
        norm_cfg: Config of the norms, or ``None`` for none.
        act_cfg: Config of the activations, or ``None`` for none.
        drop_path_rate: Share of the samples for which training leaves out all
            but the input, from 0 to below 1; of no effect where no input is added.
        with_cp: Whether the inner maps are computed again in the backward pass
            instead of being kept.
        **kwargs: As for :class:`BaseOP`.

    Raises:
        ConfigError: An argument out of its range.

    >>> block = MBBlock(3, 6, in_channels=4, out_channels=8, stride=2)
    >>> block.mid_channels, block.with_res_shortcut
    (24, False)
    """

    def __init__(
        self,
        kernel_size: int,
        expand_ratio: int,
        se_cfg: ConfigDict | None = None,
        conv_cfg: ConfigDict | None = None,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        act_cfg: ConfigDict | None = DEFAULT_ACT,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = check_kernel_size(kernel_size)
        self.mid_channels = self.in_channels * check_count('expand_ratio', expand_ratio)
        if se_cfg is not None and not isinstance(se_cfg, Mapping):
            raise ConfigError(
                f'Expected `se_cfg` to be None or a dict of arguments, but got {se_cfg!r}'
            )
        if isinstance(drop_path_rate, bool) or not 0 <= drop_path_rate < 1:
            raise ConfigError(
                'Expected `drop_path_rate` to be at least 0 and below 1, but got '
                f'{drop_path_rate!r}'
            )
        self.with_cp = with_cp
        self.with_se = se_cfg is not None
        self.with_expand_conv = self.mid_channels != self.in_channels
        self.with_res_shortcut = self.stride == 1 and self.in_channels == self.out_channels
        drops = drop_path_rate > 0 and self.with_res_shortcut
        self.drop_path = DropPath(drop_path_rate) if drops else nn.Identity()
        cfgs: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg}
        if self.with_expand_conv:
            self.expand_conv = build_conv_module(
                self.in_channels, self.mid_channels, act_cfg=act_cfg, **cfgs
            )
        self.depthwise_conv = build_conv_module(
            self.mid_channels,
            self.mid_channels,
            kernel_size,
            self.stride,
            groups=self.mid_channels,
            act_cfg=act_cfg,
            **cfgs,
        )
        if se_cfg is not None:
            self.se = SELayer(self.mid_channels, **se_cfg)
        self.linear_conv = build_conv_module(
            self.mid_channels, self.out_channels, act_cfg=None, **cfgs
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the narrowed map, plus ``x`` where it has the same shape."""
        return Recomputed(self._run, self)(x) if self.with_cp else self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        out = self.expand_conv(x) if self.with_expand_conv else x
        out = self.depthwise_conv(out)
        if self.with_se:
            out = self.se(out)
        out = self.linear_conv(out)
        return x + self.drop_path(out) if self.with_res_shortcut else out
