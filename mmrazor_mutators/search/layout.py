"""How weights lie in memory."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ['lay_out_channels_last']


def lay_out_channels_last(module: nn.Module) -> None:
    """Let the weights of 2d convolutions keep the channels of a pixel together.

    Feature maps follow their weights.  Parameters stay the same objects, and
    their values the same; their gradients follow.

    >>> conv = nn.Conv2d(2, 4, 3)
    >>> lay_out_channels_last(conv)
    >>> conv(torch.rand(1, 2, 5, 5)).is_contiguous(memory_format=torch.channels_last)
    True
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            weight = part.weight
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
