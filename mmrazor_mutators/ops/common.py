"""Operations that belong to no particular search space."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from ..registry import MODELS, OPS
from ..typing import ConfigDict
from .base import BaseOP
from .blocks import DEFAULT_NORM, build_activation, build_norm

__all__ = ['Identity']


@OPS.register_module()
class Identity(BaseOP):
    """Pass the input through, or fit it with a 1x1 convolution where shapes differ.

    Args:
        conv_cfg: Config of the convolution, ``None`` for ``nn.Conv2d``.
        norm_cfg: Config of the norm after it, ``None`` for none.
        act_cfg: Config of the activation after both, ``None`` for none.
        **kwargs: As for :class:`BaseOP`.

    >>> import torch
    >>> x = torch.rand(2, 4, 5, 5)
    >>> Identity(in_channels=4, out_channels=4)(x) is x
    True
    >>> Identity(in_channels=4, out_channels=6, stride=2)(x).shape
    torch.Size([2, 6, 3, 3])
    """

    def __init__(
        self,
        conv_cfg: ConfigDict | None = None,
        norm_cfg: ConfigDict | None = DEFAULT_NORM,
        act_cfg: ConfigDict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.downsample: nn.Module | None = None
        if self.stride != 1 or self.in_channels != self.out_channels:
            conv = {
                'type': 'Conv2d',
                'in_channels': self.in_channels,
                'out_channels': self.out_channels,
                'kernel_size': 1,
                'stride': self.stride,
                'bias': norm_cfg is None,
                **(conv_cfg or {}),
            }
            self.downsample = nn.Sequential(
                OrderedDict(
                    conv=MODELS.build(conv),
                    bn=build_norm(norm_cfg, self.out_channels),
                    activate=build_activation(act_cfg),
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` itself where its shape fits."""
        return x if self.downsample is None else self.downsample(x)
