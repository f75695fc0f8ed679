"""Stages of a search: what changes at given epochs, or at given parts of all epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ['Stage', 'decaying_dropout_rate', 'first_epoch', 'stages_until']


class Stage(NamedTuple):
    """A part of a search.

    Attributes:
        first: Its first epoch.
        value: What holds in it.
    """

    first: int
    value: Any


def first_epoch(start: float, max_epochs: int) -> int:
    """Return the epoch in which something begins.

    Args:
        start: The epoch itself as an int, or as a float from 0 to 1 the part of
            all epochs that has to be over.
        max_epochs: Number of all epochs.

    >>> first_epoch(3, 50), first_epoch(0.5, 25), first_epoch(0.1, 30)
    (3, 13, 3)
    """
    if isinstance(start, int):
        return start
    # A product such as 0.1 * 30 may be a little over the number that is meant.
    return math.ceil(start * max_epochs - 1e-6)


def stages_until(stages: Mapping[float, Any], epoch: int, max_epochs: int) -> list[Stage]:
    """Return the stages that have begun by an epoch, the one that began last at the end.

    Args:
        stages: ``{start: value}``, with starts as for :func:`first_epoch`.
        epoch: From 0 to ``max_epochs - 1``.
        max_epochs: Number of all epochs.

    >>> stages_until({0.5: 3, 0: 5}, epoch=4, max_epochs=8)
    [Stage(first=0, value=5), Stage(first=4, value=3)]
    """
    begun = [Stage(first_epoch(start, max_epochs), value) for start, value in stages.items()]
    return sorted(
        (stage for stage in begun if stage.first <= epoch), key=lambda stage: stage.first
    )


def decaying_dropout_rate(
    rate: float, epoch: int, num_epochs: int, warmup: int, decay: float
) -> float:
    r"""Return how much of a skip connection is dropped in an epoch of a stage.

    P-DARTS (Chen et al., ICCV 2019), section 3.3, as in the authors' code: in
    the first ``warmup`` of the ``num_epochs`` epochs :math:`T`, in which they
    train the weights alone, the rate is :math:`r (T - e - 1) / T`; then it
    starts anew at :math:`r` and falls, :math:`r\, e^{-\lambda (e - \mathrm{warmup})}`.

    >>> [decaying_dropout_rate(0.4, epoch, 4, warmup=2, decay=0.2) for epoch in (0, 1, 2)]
    [0.3..., 0.2, 0.4]
    """
    if epoch < warmup:
        return rate * (num_epochs - epoch - 1) / num_epochs
    return rate * math.exp(-decay * (epoch - warmup))
