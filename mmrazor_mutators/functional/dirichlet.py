"""Dirichlet distributions over the choices of a space."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .relaxations import straight_through

__all__ = ['dirichlet_concentration', 'dirichlet_kl_to_uniform', 'dirichlet_sample']

_LEAST = 1e-2
"""Draws with smaller concentrations are one-hot up to rounding, and where all of them are
smaller, the gradient of such a draw is no longer right on average."""


def dirichlet_concentration(logits: Tensor) -> Tensor:
    r"""Return :math:`\mathrm{elu}(\alpha) + 1`, which is 1 at 0 and always positive.

    Below 0 that is :math:`e^\alpha`, computed without the rounding of a sum.
    It ends at 0.01; logits below the one of that keep its gradient, so that no
    choice is out of reach for good.

    Args:
        logits: Of any shape.

    >>> dirichlet_concentration(torch.tensor([-200.0, 0.0, 2.0]))
    tensor([0.0100, 1.0000, 3.0000])
    """
    bounded = straight_through(logits.clamp_min(math.log(_LEAST)), logits)
    return torch.where(logits > 0, logits + 1, bounded.clamp_max(0).exp())


def _single(values: Tensor) -> Tensor:
    """Return values in single precision at least, which the special functions need."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class _Draw(torch.autograd.Function):
    """What ``torch.distributions.Dirichlet`` draws, in a form that ``torch.func`` takes."""

    @staticmethod
    def forward(concentration: Tensor) -> Tensor:
        return torch._sample_dirichlet(concentration)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        concentration, drawn = ctx.saved_tensors
        total = concentration.sum(-1, keepdim=True).expand_as(concentration)
        slopes = torch._dirichlet_grad(drawn, concentration, total)
        return slopes * (grads[0] - (drawn * grads[0]).sum(-1, keepdim=True))


def dirichlet_sample(concentration: Tensor) -> Tensor:
    """Draw from Dirichlet distributions, differentiably.

    The gradient is the implicit one (Figurnov et al., NeurIPS 2018).

    Args:
        concentration: Above 0, shape ``(..., num_choices)``.

    Returns:
        Draws of that shape, each with the sum 1 over the last dimension.

    >>> _ = torch.manual_seed(0)
    >>> dirichlet_sample(torch.ones(2, 3)).sum(-1)
    tensor([1., 1.])
    """
    if concentration.is_meta:  # Nothing can be drawn there, but the mean has the shape.
        return concentration / concentration.sum(-1, keepdim=True)
    drawn: Tensor = _Draw.apply(_single(concentration))
    return drawn.to(concentration.dtype)


def dirichlet_kl_to_uniform(concentration: Tensor) -> Tensor:
    r"""Return :math:`KL(\mathrm{Dir}(\beta) \,\|\, \mathrm{Dir}(1))`, at least 0.

    .. math::
        \ln \frac{\Gamma(\sum_i \beta_i)}{\Gamma(n) \prod_i \Gamma(\beta_i)}
        + \sum_i (\beta_i - 1) \Big(\psi(\beta_i) - \psi(\textstyle\sum_j \beta_j)\Big)

    Args:
        concentration: Above 0, shape ``(..., num_choices)``.

    Returns:
        One divergence for each distribution, shape ``(...)``.

    >>> dirichlet_kl_to_uniform(torch.ones(2, 3))
    tensor([0., 0.])
    """
    beta = _single(concentration)
    total = beta.sum(-1)
    slopes = beta.digamma() - total.digamma().unsqueeze(-1)
    ratio = total.lgamma() - beta.lgamma().sum(-1) - math.lgamma(beta.shape[-1])
    return (ratio + ((beta - 1) * slopes).sum(-1)).to(concentration.dtype)
