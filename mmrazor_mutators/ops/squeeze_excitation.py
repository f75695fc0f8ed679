"""Channels that are weighed by what is seen in the whole map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError
from ..functional import make_divisible
from ..host import BaseModule
from ..typing import ConfigDict
from .base import check_count
from .conv_module import build_conv_module

__all__ = ['SELayer']

_ACTS: tuple[ConfigDict, ConfigDict] = ({'type': 'ReLU'}, {'type': 'Sigmoid'})


class SELayer(BaseModule):
    r"""Squeeze and excitation: :math:`x \cdot \sigma(W_2\, a(W_1\, \mathrm{mean}(x)))`.

    Hu et al., CVPR 2018, section 3.  The names of its parts and arguments are
    those of MMClassification's layer.

    Args:
        channels: Channels of the input and of the output.
        squeeze_channels: Inner channels; by default ``channels // ratio``,
            made divisible by ``divisor``.
        ratio: How many times fewer there are inside, at least 1.
        divisor: What the inner channels are rounded to, at least 1.
        bias: Whether both convolutions have a bias; ``'auto'`` is ``True``.
        conv_cfg: Config of both convolutions, ``None`` for ``nn.Conv2d``.
        act_cfg: Configs of the activations after the first and after the second;
            a single one is for both.
        init_cfg: As for the host's ``BaseModule``.

    Raises:
        ConfigError: An argument out of its range.

    >>> import torch
    >>> layer = SELayer(32)
    >>> layer.conv1.out_channels, layer(torch.rand(2, 32, 5, 5)).shape
    (8, torch.Size([2, 32, 5, 5]))
    """

    def __init__(
        self,
        channels: int,
        squeeze_channels: int | None = None,
        ratio: int = 16,
        divisor: int = 8,
        bias: bool | str = 'auto',
        conv_cfg: ConfigDict | None = None,
        act_cfg: ConfigDict | Sequence[ConfigDict] = _ACTS,
        init_cfg: Any | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_count('channels', channels)
        if bias not in (True, False, 'auto'):
            raise ConfigError(f"Expected `bias` to be a bool or 'auto', but got {bias!r}")
        acts = (act_cfg, act_cfg) if isinstance(act_cfg, Mapping) else act_cfg
        if (
            not isinstance(acts, Sequence)
            or len(acts) != 2
            or not all(isinstance(act, Mapping) for act in acts)
        ):
            raise ConfigError(
                'Expected `act_cfg` to be the config of an activation or two of them, but got '
                f'{act_cfg!r}'
            )
        check_count('ratio', ratio)
        check_count('divisor', divisor)
        if squeeze_channels is None:
            squeeze_channels = make_divisible(channels // ratio, divisor)
        check_count('squeeze_channels', squeeze_channels)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        shared: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': None, 'bias': bias}
        self.conv1 = build_conv_module(channels, squeeze_channels, act_cfg=acts[0], **shared)
        self.conv2 = build_conv_module(squeeze_channels, channels, act_cfg=acts[1], **shared)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with its channels weighed."""
        return x * self.conv2(self.conv1(self.global_avgpool(x)))
