"""Gradients of losses that are multiplied by a scale first, where a problem has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .tensors import dot, gradients, norm

__all__ = ['inner_product', 'scaled', 'times', 'unscaled_gradients']


def scaled(problem: Any, loss: Tensor) -> Tensor:
    """Return a loss times the scale of a problem."""
    scale = getattr(problem, 'loss_scale', None)
    return loss if scale is None else loss * scale.factor(loss.device)


def unscaled_gradients(
    problem: Any, loss: Tensor, params: Sequence[Tensor], *, retain_graph: bool | None = None
) -> list[Tensor | None]:
    """Return the gradient of a loss, by way of that of the scaled one."""
    grads = gradients(scaled(problem, loss), params, retain_graph=retain_graph)
    scale = getattr(problem, 'loss_scale', None)
    if scale is None:
        return grads
    inverse = scale.factor(loss.device).reciprocal()
    return [None if grad is None else grad * inverse for grad in grads]


def inner_product(
    problem: Any, grads: Sequence[Tensor | None], vector: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None]:
    """Return the inner product of a gradient and a vector of a length near 1.

    What is differentiated twice is linear in the vector.  A short one would vanish in
    float16 as a gradient does that is not scaled.

    Args:
        problem: Whose scale it is.
        grads: Of a loss that is :func:`scaled`, with their graph.
        vector: As many tensors.

    Returns:
        The inner product, of the loss that is not scaled, and what to multiply its
        derivatives by: a power of 2, which rounds nothing; ``None`` without a scale.
    """
    scale = getattr(problem, 'loss_scale', None)
    if scale is None:
        return dot(grads, vector), None
    size = norm(vector)
    length = torch.where(size > 0, torch.exp2(size.log2().floor()), torch.ones_like(size))
    product = dot(grads, [value / length for value in vector])
    return product / scale.factor(product.device), length


def times(values: Sequence[Tensor | None], length: Tensor | None) -> list[Tensor | None]:
    """Return tensors times what :func:`inner_product` has divided by."""
    if length is None:
        return [*values]
    return [None if value is None else value * length for value in values]
