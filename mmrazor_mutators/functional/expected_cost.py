"""The cost that a mixture is expected to have, and losses that are aware of it."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = [
    'expected_cost',
    'fbnet_cost_loss',
    'fbnet_cost_sum_loss',
    'linear_cost_loss',
    'log_cost_product_loss',
]


def expected_cost(weights: Tensor, costs: Tensor) -> Tensor:
    r"""Return :math:`E = \sum_i w_i c_i`, differentiable in the weights.

    ProxylessNAS (Cai et al., ICLR 2019), section 3.3; FBNet (Wu et al., CVPR
    2019), section 3.3.

    Args:
        weights: Of the choices, shape ``(..., num_choices)``.
        costs: What each costs, of the same shape or one that broadcasts to it.

    >>> import torch
    >>> expected_cost(torch.tensor([0.25, 0.75]), torch.tensor([4.0, 8.0]))
    tensor(7.)
    """
    return (weights * costs).sum(-1)


def linear_cost_loss(loss: Tensor, cost: Tensor, *, ref: float, lam: float) -> Tensor:
    r"""Return :math:`L + \lambda (E - \mathrm{ref}) / \mathrm{ref}`."""
    return loss + lam * (cost - ref) / ref


def log_cost_product_loss(
    loss: Tensor, cost: Tensor, *, ref: float, alpha: float, beta: float
) -> Tensor:
    r"""Return :math:`L\, \alpha\, (\log E / \log \mathrm{ref})^\beta`; both logs above 0."""
    return loss * alpha * (cost.log() / math.log(ref)) ** beta


def fbnet_cost_loss(loss: Tensor, cost: Tensor, *, alpha: float, beta: float) -> Tensor:
    r"""Return :math:`L\, \alpha \log(E)^\beta` for a cost above 1."""
    return loss * alpha * cost.log() ** beta


def fbnet_cost_sum_loss(loss: Tensor, cost: Tensor, *, alpha: float, beta: float) -> Tensor:
    r"""Return :math:`L + \alpha \log(E)^\beta` for a cost above 1."""
    return loss + alpha * cost.log() ** beta
