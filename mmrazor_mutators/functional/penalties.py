"""What is added to the architecture loss, as functions of logits or scores."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['absolute_sum', 'choice_entropy', 'half_squared_norm', 'log_partition']


def log_partition(logits: Tensor) -> Tensor:
    r"""Return :math:`\log \sum_i e^{\alpha_i}`, whose gradient is the softmax.

    beta-DARTS (Ye et al., CVPR 2022), section 3.3: penalising it pulls every
    logit down by as much as its choice weighs, so that the weights stay close.

    Args:
        logits: Shape ``(..., num_choices)``; returns shape ``(...)``.

    >>> log_partition(torch.tensor([0.0, 0.0]))
    tensor(0.6931)
    """
    return torch.logsumexp(logits, -1)


def choice_entropy(scores: Tensor) -> Tensor:
    r"""Return :math:`-\sum_i p_i \log p_i` of scores divided by their sum.

    The gradient is finite where a score is 0.

    Args:
        scores: Not negative, not all 0, shape ``(..., num_choices)``; returns
            shape ``(...)``.

    >>> choice_entropy(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    tensor([0.6931, -0.0000])
    """
    probs = scores / scores.sum(-1, keepdim=True)
    # The derivative of x log(x) at 0 is infinite, and times a gradient of 0 not a number.
    return -(probs * probs.clamp_min(torch.finfo(probs.dtype).tiny).log()).sum(-1)


def half_squared_norm(logits: Tensor) -> Tensor:
    r"""Return :math:`\frac{1}{2} \sum_i \alpha_i^2`, whose gradient is :math:`\alpha`.

    Args:
        logits: Shape ``(..., num_choices)``; returns shape ``(...)``.

    >>> half_squared_norm(torch.tensor([3.0, -4.0]))
    tensor(12.5000)
    """
    return logits.square().sum(-1) / 2


def absolute_sum(logits: Tensor) -> Tensor:
    r"""Return :math:`\sum_i |\alpha_i|`.

    Args:
        logits: Shape ``(..., num_choices)``; returns shape ``(...)``.

    >>> absolute_sum(torch.tensor([3.0, -4.0]))
    tensor(7.)
    """
    return logits.abs().sum(-1)
