"""The ReinMax estimator: a straight-through of second order."""

from __future__ import annotations

from torch import Tensor

from .gates import draw_one_hot
from .relaxations import straight_through

__all__ = ['reinmax', 'reinmax_gates']


def _softmax_like(probs: Tensor, logits: Tensor) -> Tensor:
    """Return something with the derivative of a softmax whose value is ``probs``.

    That derivative is ``diag(probs) - outer(probs, probs)``, whatever the
    logits and their temperature.
    """
    probs = probs.detach()
    return probs * (logits - (probs * logits).sum(-1, keepdim=True))


def reinmax_gates(logits: Tensor, drawn: Tensor, tau: float = 1.0) -> Tensor:
    r"""Return the one-hot ``drawn`` with the gradient of ReinMax.

    Liu et al., NeurIPS 2023, algorithm 2 and the authors' code: with
    :math:`\pi_0 = \mathrm{softmax}(\alpha)`, :math:`\pi_1 =
    (\mathrm{softmax}(\alpha / \tau) + D) / 2` and :math:`J(\pi) =
    \mathrm{diag}(\pi) - \pi \pi^\top`, the gradient of the logits is
    :math:`(2 J(\pi_1) - \frac{1}{2} J(\pi_0))\, \partial D`.  There is no
    factor :math:`1 / \tau`, because :math:`\pi_1` counts as a softmax of
    temperature 1.

    Args:
        logits: Shape ``(..., num_choices)``.
        drawn: One-hot, of the same shape.
        tau: Temperature, at least 1.
    """
    pi_1 = ((logits.detach() / tau).softmax(-1) + drawn) / 2
    soft = 2 * _softmax_like(pi_1, logits) - 0.5 * _softmax_like(logits.softmax(-1), logits)
    return straight_through(drawn, soft)


def reinmax(logits: Tensor, tau: float = 1.0) -> Tensor:
    r"""Draw one-hot weights from :math:`\mathrm{softmax}(\alpha)`; see :func:`reinmax_gates`.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> float(reinmax(torch.zeros(3)).sum())
    1.0
    """
    return reinmax_gates(logits, draw_one_hot(logits), tau)
