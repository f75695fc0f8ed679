"""How the images of a data set are divided: by class and file order, never by chance.

The same images belong to the same part in every run, whatever its seed, so that
the networks of different searches are measured on the same test images.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['SPLITS', 'last_of_each_class', 'rank_in_class', 'spread_over_classes']

SPLITS = ('train', 'test', 'weights', 'arch')
"""``weights`` and ``arch`` are the two parts of ``train`` that a search uses."""


def rank_in_class(labels: Tensor) -> Tensor:
    """Number the images of each class in file order, from 0.

    >>> rank_in_class(torch.tensor([7, 3, 7, 7, 3]))
    tensor([0, 0, 1, 2, 1])
    """
    order = labels.argsort(stable=True)
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    ranks = torch.empty_like(labels)
    ranks[order] = torch.arange(len(labels)) - first[labels[order]]
    return ranks


def last_of_each_class(labels: Tensor, parts: int) -> Tensor:
    """Mark the last of ``parts`` equal parts of each class, in file order.

    >>> last_of_each_class(torch.tensor([0, 1, 0, 1, 0, 1, 0, 1]), parts=4)
    tensor([False, False, False, False, False, False,  True,  True])
    """
    counts = labels.bincount()[labels]
    return rank_in_class(labels) * parts >= counts * (parts - 1)


def spread_over_classes(labels: Tensor, fraction: float) -> Tensor:
    """Mark a ``fraction`` of the images, evenly spread over each class.

    Every class gives its share to within one image, and the whole is right to
    within a rounding.

    >>> spread_over_classes(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 0.25)
    tensor([False,  True, False, False, False,  True, False, False])
    """
    order = labels.argsort(stable=True)
    due = (torch.arange(len(labels) + 1, dtype=torch.float64) * fraction + 0.5).floor()
    marked = torch.zeros(len(labels), dtype=torch.bool)
    marked[order] = due.diff() > 0
    return marked
