"""The host's bundle of convolution, norm and activation, with our errors."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from ..errors import ConfigError
from ..host import ConvModule
from ..typing import ConfigDict
from .blocks import DEFAULT_ACT, DEFAULT_NORM

__all__ = ['build_conv_module']


def build_conv_module(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    conv_cfg: ConfigDict | None = None,
    norm_cfg: ConfigDict | None = DEFAULT_NORM,
    act_cfg: ConfigDict | None = DEFAULT_ACT,
    **kwargs: Any,
) -> nn.Module:
    """Build convolution, norm and activation; the padding keeps ``ceil(size / stride)``.

    Its parts are called ``conv``, ``bn`` (or as the norm is called) and
    ``activate``.  The configs are not changed.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd.
        stride: Step of the convolution.
        groups: Groups of channels that do not see each other.
        conv_cfg: Config of the convolution, ``None`` for ``nn.Conv2d``.
        norm_cfg: Config of the norm, or ``None`` for none.
        act_cfg: Config of the activation, or ``None`` for none.
        **kwargs: Further arguments of the host's ``ConvModule``.

    Raises:
        ConfigError: A config that does not describe a layer.

    >>> module = build_conv_module(4, 6, kernel_size=3, stride=2)
    >>> [name for name, _ in module.named_children()]
    ['conv', 'bn', 'activate']
    """
    cfgs = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
    try:
        own = {
            key: None if cfg is None else copy.deepcopy(dict(cfg)) for key, cfg in cfgs.items()
        }
        return ConvModule(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            **own,
            **kwargs,
        )
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        told = ', '.join(f'{key}={cfg!r}' for key, cfg in cfgs.items() if cfg is not None)
        raise ConfigError(
            'Expected `conv_cfg`, `norm_cfg` and `act_cfg` to be None or the config of a '
            f'layer, e.g. dict(type=...), but got {told} ({type(error).__name__}: {error})'
        ) from error
