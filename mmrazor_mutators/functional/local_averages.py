"""Moving averages, and whether they rise."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ['has_risen', 'local_averages']


def local_averages(values: Sequence[float], window: int) -> list[float]:
    """Return the averages over the last ``window`` values, as soon as half of them are there.

    The n-th average stands for the n-th value: it looks ``window // 2``
    values ahead, and at fewer values behind in the beginning (the code of
    RobustDARTS, Zela et al., ICLR 2020).

    Args:
        values: In the order of time.
        window: Odd, at least 1.

    >>> local_averages([3.0, 0.0, 6.0, 9.0], window=3)
    [1.5, 3.0, 5.0]
    """
    ends = range(window // 2 + 1, len(values) + 1)
    windows = [values[max(end - window, 0) : end] for end in ends]
    return [sum(shown) / len(shown) for shown in windows]


def has_risen(values: Sequence[float], window: int, delta: int, factor: float) -> bool:
    """Whether the latest average is over ``factor`` times the one ``delta`` before it.

    Where that one is not above 0, nothing can be said, and nothing has risen.

    >>> has_risen([1.0, 1.0, 1.5], window=1, delta=2, factor=1.3)
    True
    >>> has_risen([1.0, 1.0, 1.2], window=1, delta=2, factor=1.3)
    False
    """
    averages = local_averages(values, window)
    if len(averages) <= delta:
        return False
    before, now = averages[-1 - delta], averages[-1]
    return before > 0 and now > factor * before
