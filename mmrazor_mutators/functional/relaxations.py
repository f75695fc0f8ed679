"""From logits to weights that can be differentiated."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['gumbel_noise', 'gumbel_softmax', 'one_hot_argmax', 'straight_through']


def gumbel_noise(like: Tensor) -> Tensor:
    """Draw standard Gumbel noise, shaped like ``like``; always finite.

    >>> _ = torch.manual_seed(0)
    >>> gumbel_noise(torch.zeros(2)).isfinite().all()
    tensor(True)
    """
    exponential = torch.empty_like(like, requires_grad=False).exponential_()
    # An exponential draw may round to 0, whose logarithm would poison the weights.
    return -exponential.clamp_min_(torch.finfo(like.dtype).tiny).log_()


def one_hot_argmax(weights: Tensor) -> Tensor:
    """Return a one-hot tensor at the largest entry of the last dimension.

    >>> one_hot_argmax(torch.tensor([0.1, 0.7, 0.2]))
    tensor([0., 1., 0.])
    """
    index = weights.argmax(-1, keepdim=True)
    return torch.zeros_like(weights, requires_grad=False).scatter_(-1, index, 1.0)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return the values of ``hard`` with the gradient of ``soft``.

    >>> soft = torch.tensor([0.3, 0.7], requires_grad=True)
    >>> out = straight_through(one_hot_argmax(soft), soft)
    >>> out.detach(), torch.autograd.grad(out[0], soft)[0]
    (tensor([0., 1.]), tensor([1., 0.]))
    """
    # The difference is exactly 0, which ``(hard - soft) + soft`` would not leave whole.
    return hard.detach() + (soft - soft.detach())


def gumbel_softmax(logits: Tensor, tau: float, *, hard: bool) -> Tensor:
    r"""Draw relaxed one-hot weights, :math:`\mathrm{softmax}((\alpha + G) / \tau)`.

    Jang et al., ICLR 2017, section 2; Maddison et al., ICLR 2017, section 2.2.

    Args:
        logits: Shape ``(..., num_choices)``; normalised or not is the same.
        tau: Temperature, above 0.
        hard: Whether to return the one-hot argmax with the soft gradient.
    """
    soft = ((logits + gumbel_noise(logits)) / tau).softmax(-1)
    return straight_through(one_hot_argmax(soft), soft) if hard else soft
