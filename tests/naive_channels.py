"""Partial channels, written out channel by channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Take channel ``j * C / groups + i`` to place ``i * groups + j``."""
    count = x.shape[1] // groups
    places: list[Tensor] = [x[:, 0]] * x.shape[1]
    for j in range(groups):
        for i in range(count):
            places[i * groups + j] = x[:, j * count + i]
    return torch.stack(places, dim=1)


def pooled(x: Tensor) -> Tensor:
    """Take the maximum over 2x2 pixels, fewer at the border."""
    rows = [
        torch.stack(
            [x[:, :, i : i + 2, j : j + 2].amax((2, 3)) for j in range(0, x.shape[3], 2)], -1
        )
        for i in range(0, x.shape[2], 2)
    ]
    return torch.stack(rows, dim=2)


def partial_mixture(
    ops: Sequence[nn.Module], weights: Sequence[Tensor] | Tensor, x: Tensor, proportion: int
) -> Tensor:
    """Mix the first channels, let the others pass, and shuffle them all."""
    if proportion == 1:
        return sum(w * op(x) for w, op in zip(weights, ops, strict=True))
    count = x.shape[1] // proportion
    mixed = sum(w * op(x[:, :count]) for w, op in zip(weights, ops, strict=True))
    rest = x[:, count:] if mixed.shape == x[:, :count].shape else pooled(x[:, count:])
    return shuffled(torch.cat([mixed, rest], dim=1), proportion)
