"""Values that change with the epoch."""

from __future__ import annotations

__all__ = ['exponential_schedule', 'linear_schedule']


def _progress(epoch: float, max_epochs: int) -> float:
    """Return 0 in the first epoch and 1 in the last one."""
    return min(max(epoch / max(max_epochs - 1, 1), 0.0), 1.0)


def linear_schedule(start: float, end: float, epoch: float, max_epochs: int) -> float:
    """Go from ``start`` in the first epoch to ``end`` in the last one, evenly.

    >>> [linear_schedule(10.0, 0.0, epoch, max_epochs=3) for epoch in (0, 1, 2)]
    [10.0, 5.0, 0.0]
    """
    return start + (end - start) * _progress(epoch, max_epochs)


def exponential_schedule(start: float, end: float, epoch: float, max_epochs: int) -> float:
    """Go from ``start`` in the first epoch to ``end`` in the last one, by equal factors.

    >>> [exponential_schedule(4.0, 1.0, epoch, max_epochs=3) for epoch in (0, 1, 2)]
    [4.0, 2.0, 1.0]
    """
    return float(start * (end / start) ** _progress(epoch, max_epochs))
