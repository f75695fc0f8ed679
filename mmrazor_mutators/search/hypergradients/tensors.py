"""Lists of tensors as vectors; ``None`` stands for zeros."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ['add', 'dot', 'filled', 'norm']


def filled(values: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Return ``values`` with zeros for ``None``."""
    return [
        torch.zeros_like(param, requires_grad=False) if value is None else value
        for value, param in zip(values, like, strict=True)
    ]


def add(a: Sequence[Tensor], b: Sequence[Tensor], scale: float | Tensor = 1.0) -> list[Tensor]:
    """Return ``a + scale * b``."""
    return [x + scale * y for x, y in zip(a, b, strict=True)]


def dot(a: Sequence[Tensor | None], b: Sequence[Tensor]) -> Tensor:
    """Return the inner product.

    >>> dot([torch.tensor([1.0, 2.0]), None], [torch.tensor([3.0, 4.0]), torch.tensor([5.0])])
    tensor(11.)
    """
    products = [(x * y).sum() for x, y in zip(a, b, strict=True) if x is not None]
    return torch.stack(products).sum()


def norm(a: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm.

    >>> norm([torch.tensor([3.0]), torch.tensor([4.0])])
    tensor(5.)
    """
    return torch.stack(torch._foreach_norm(list(a))).norm()
