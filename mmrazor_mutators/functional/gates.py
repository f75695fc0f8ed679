"""One-hot gates of drawn choices, and the gradients that they lend to the logits."""

from __future__ import annotations

import torch
from torch import Tensor

from .relaxations import gumbel_noise, one_hot_argmax, straight_through

__all__ = ['draw_one_hot', 'draw_pair', 'keep_mass', 'pair_gates', 'score_gates']


def draw_one_hot(logits: Tensor) -> Tensor:
    r"""Draw one-hot vectors from :math:`\mathrm{softmax}(\alpha)`, without a gradient.

    Args:
        logits: Shape ``(..., num_choices)``; ``-inf`` is never drawn.

    >>> draw_one_hot(torch.tensor([0.0, 99.0, -99.0]))
    tensor([0., 1., 0.])
    """
    logits = logits.detach()
    return one_hot_argmax(logits + gumbel_noise(logits))


def draw_pair(logits: Tensor) -> Tensor:
    r"""Draw two choices without replacement, and which of the two is active.

    ProxylessNAS (Cai et al., ICLR 2019), section 3.2.1: the pair by
    :math:`\mathrm{softmax}(\alpha)`, the active one by the softmax over the
    two logits alone.

    Args:
        logits: Shape ``(..., num_choices)``, at least two of them.

    Returns:
        Indices of shape ``(..., 2)``, the active one first.

    >>> sorted(draw_pair(torch.tensor([0.0, 99.0, 50.0])).tolist())
    [1, 2]
    """
    logits = logits.detach()
    # The largest two after Gumbel noise are a draw without replacement.
    pair = (logits + gumbel_noise(logits)).topk(2, -1).indices
    two = logits.gather(-1, pair)
    first = (two + gumbel_noise(two)).argmax(-1, keepdim=True)
    return pair.gather(-1, torch.cat([first, 1 - first], -1))


def pair_gates(logits: Tensor, pair: Tensor) -> Tensor:
    r"""Return one-hot gates with the gradient of the softmax over two logits.

    ProxylessNAS, section 3.2.1 and the authors' code:
    :math:`\partial \alpha_i = \sum_{j} \partial g_j\, q_j (\delta_{ij} - q_i)`
    with :math:`i, j` in the pair and :math:`q` their two-way softmax.  Every
    other logit has the gradient 0 exactly.

    Args:
        logits: Shape ``(..., num_choices)``.
        pair: Indices of shape ``(..., 2)``, the active choice first.

    >>> pair_gates(torch.zeros(3, requires_grad=True), torch.tensor([2, 0])).detach()
    tensor([0., 0., 1.])
    """
    zeros = torch.zeros_like(logits, requires_grad=False)
    soft = zeros.scatter(-1, pair, logits.gather(-1, pair).softmax(-1))
    return straight_through(zeros.scatter(-1, pair[..., :1], 1.0), soft)


def keep_mass(logits: Tensor, before: Tensor, involved: Tensor) -> Tensor:
    r"""Offset some logits so that their :math:`\sum \exp \alpha` is what it was.

    ProxylessNAS, section 3.2.1: a step that moved two logits then leaves the
    probabilities of all the other paths as they were.

    Args:
        logits: After the step, shape ``(..., num_choices)``.
        before: Before the step, of the same shape.
        involved: bool, of the same shape: which to offset, at least one.

    >>> involved = torch.tensor([True, True, False])
    >>> moved = keep_mass(torch.tensor([2.0, 0.0, 1.0]), torch.zeros(3), involved)
    >>> round(float(moved[:2].exp().sum()), 4), float(moved[2])
    (2.0, 1.0)
    """
    sums = [x.masked_fill(~involved, -torch.inf).logsumexp(-1, True) for x in (logits, before)]
    return torch.where(involved, logits - (sums[0] - sums[1]), logits)


def score_gates(logits: Tensor, drawn: Tensor) -> Tensor:
    r"""Return one-hot gates with the gradient of the log-probability of what was drawn.

    DSNAS (Hu et al., CVPR 2020) and its authors' code: :math:`\partial \alpha =
    \partial Z_s \nabla_\alpha \log p(Z_s)`, where :math:`Z_s` is the gate of
    the drawn choice; the gates of the others lend no gradient.

    Args:
        logits: Shape ``(..., num_choices)``.
        drawn: One-hot, of the same shape.
    """
    log_probs = logits.log_softmax(-1)
    return drawn * (1 + (log_probs - log_probs.detach()))
