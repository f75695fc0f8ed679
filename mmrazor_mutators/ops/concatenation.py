"""Concatenation of maps that gives each of them a dense gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..kernels.graph_nodes import is_plain

__all__ = ['concatenate']


class _Concatenation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        ctx.channels = [x.shape[1] for x in maps]
        last = maps[0].is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if last else torch.contiguous_format
        return torch.cat(maps, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        parts = grads[0].split(ctx.channels, 1)
        return tuple(part.contiguous(memory_format=ctx.layout) for part in parts)


def concatenate(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate the channels of maps.

    The gradient of each part is a window of that of the whole, and a batch norm of torch
    that reads such a thing on a CPU takes several times as long.  Each part is copied once
    instead, for all of its readers.

    Args:
        maps: Shape ``(N, C_i, H, W)`` each.

    >>> parts = [torch.rand(2, c, 3, 3, requires_grad=True) for c in (1, 4)]
    >>> concatenate(parts).shape
    torch.Size([2, 5, 3, 3])
    """
    if any(x.dim() != 4 for x in maps) or not is_plain(*maps):
        return torch.cat(tuple(maps), 1)
    return _Concatenation.apply(*maps)
