"""Probabilities that are parameters themselves, not made from logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ['exponentiated_gradient', 'renormalized']


def renormalized(probs: Tensor) -> Tensor:
    """Divide by the sum over the last dimension; all zeros stay zeros.

    >>> renormalized(torch.tensor([1.0, 3.0]))
    tensor([0.2500, 0.7500])
    """
    total = probs.sum(-1, keepdim=True)
    return probs / torch.where(total == 0, torch.ones_like(total), total)


def exponentiated_gradient(
    probs: Tensor, grad: Tensor, lr: float, min_prob: float = 0.0
) -> Tensor:
    r"""Take a step on the simplex: :math:`p_i \leftarrow p_i e^{-\eta g_i} / Z`.

    Kivinen & Warmuth, Information and Computation 1997; as the optimizer of
    GAEA (Li et al., ICLR 2021), section 3.  Without ``min_prob`` a constant added to
    the gradient changes nothing, since :math:`Z` takes it back.

    Args:
        probs: Points on the simplex, shape ``(..., num_choices)``.
        grad: The gradient, of that shape.
        lr: Step size :math:`\eta`, above 0.
        min_prob: Smaller products :math:`p_i e^{-\eta g_i}` are raised to this before they
            are normalised, as in the authors' code.

    >>> exponentiated_gradient(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1e9]), lr=1.0)
    tensor([1., 0.])
    """
    # As logarithms, of which softmax subtracts the largest: nothing overflows, nor is Z 0.
    logits = probs.log() - lr * grad
    return (logits.clamp_min(math.log(min_prob)) if min_prob else logits).softmax(-1)
