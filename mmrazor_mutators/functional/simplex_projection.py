"""Back to the simplex from weights that a perturbation has moved off it."""

from __future__ import annotations

from torch import Tensor

from .relaxations import one_hot_argmax

__all__ = ['clip_to_simplex']


def clip_to_simplex(values: Tensor) -> Tensor:
    """Clip to ``[0, 1]`` and divide by the sum, along the last dimension.

    What the code of SDARTS (Chen & Hsieh, ICML 2020) does after every
    perturbation; it is not the nearest point of the simplex.  Where nothing
    above 0 is left, the largest value gets all of the weight.

    Args:
        values: Shape ``(..., num_choices)``; what is minus infinity becomes 0.

    >>> import torch
    >>> clip_to_simplex(torch.tensor([[0.6, 0.2, -0.1], [-0.3, -0.1, -0.2]]))
    tensor([[0.7500, 0.2500, 0.0000],
            [0.0000, 1.0000, 0.0000]])
    """
    clipped = values.clamp(0.0, 1.0)
    empty = clipped.sum(-1, keepdim=True) == 0
    clipped = one_hot_argmax(values).where(empty, clipped)
    return clipped / clipped.sum(-1, keepdim=True)
