"""Optimizers that the loops of other libraries have wrapped."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

__all__ = ['bare']


def bare(optimizer: Any) -> Any:
    """Return what Lightning or Accelerate have put into a wrapper, which counts its steps.

    The wrapper takes the steps.  Its class is no other's, and not all of them load a
    state into what is inside.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> bare(sgd) is sgd
    True
    """
    inner = getattr(optimizer, 'optimizer', None)
    return bare(inner) if isinstance(inner, Optimizer) and inner is not optimizer else optimizer
