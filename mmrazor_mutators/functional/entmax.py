"""Sparse kin of softmax, whatever finds their threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ['differentiable_entmax']


class _Entmax(torch.autograd.Function):
    """The derivative of entmax, in a form that ``torch.func`` takes as well."""

    @staticmethod
    def forward(logits: Tensor, project: Callable[[Tensor], Tensor], alpha: float) -> Tensor:
        return project(logits)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.alpha = inputs[2]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (weights,) = ctx.saved_tensors
        support = weights > 0
        # No power of 0, whose own derivative is infinite.
        powers = torch.where(support, weights, torch.ones_like(weights)) ** (2 - ctx.alpha)
        slopes = torch.where(support, powers, torch.zeros_like(powers))
        sloped = slopes * grads[0]
        mean = sloped.sum(-1, keepdim=True) / slopes.sum(-1, keepdim=True)
        return sloped - slopes * mean, None, None


def differentiable_entmax(
    logits: Tensor, project: Callable[[Tensor], Tensor], alpha: float
) -> Tensor:
    r"""Return :math:`w = \mathrm{entmax}_\alpha(a)` with its derivative, also the second one.

    Peters et al., ACL 2019, section 3.2:

    .. math::
        \frac{\partial w}{\partial a} = \mathrm{diag}(s) - \frac{s s^\top}{\sum_i s_i},
        \qquad s_i = w_i^{2 - \alpha} \text{ where } w_i > 0, \text{ else } 0

    Args:
        logits: Shape ``(..., num_choices)``.
        project: Computes the weights, of that shape.
        alpha: Above 1 and at most 2, which is sparsemax.

    >>> logits = torch.tensor([1.0, -3.0], requires_grad=True)
    >>> one_left = differentiable_entmax(logits, lambda a: torch.tensor([1.0, 0.0]), 2.0)
    >>> torch.autograd.grad(one_left[0], logits)[0]
    tensor([0., 0.])
    """
    weights: Tensor = _Entmax.apply(logits, project, alpha)
    return weights
