"""Pushing independent weights away from the undecided middle."""

from __future__ import annotations

from torch import Tensor

__all__ = ['zero_one_l1', 'zero_one_l2']


def zero_one_l2(weights: Tensor) -> Tensor:
    r"""Return :math:`-\frac{1}{n} \sum_i (w_i - 0.5)^2`, least where all are 0 or 1.

    FairDARTS (Chu et al., ECCV 2020), section 3.3.

    >>> import torch
    >>> zero_one_l2(torch.tensor([0.5, 1.0]))
    tensor(-0.1250)
    """
    return -(weights - 0.5).square().mean()


def zero_one_l1(weights: Tensor) -> Tensor:
    r"""Return :math:`-\frac{1}{n} \sum_i |w_i - 0.5|`, the variant of the same authors.

    >>> import torch
    >>> zero_one_l1(torch.tensor([0.5, 1.0]))
    tensor(-0.2500)
    """
    return -(weights - 0.5).abs().mean()
