"""Numbers of channels that a processor likes."""

from __future__ import annotations

__all__ = ['make_divisible']


def make_divisible(value: float, divisor: int, min_ratio: float = 0.9) -> int:
    """Round to a multiple of ``divisor``, up where rounding down would lose too much.

    MobileNet (Howard et al., 2017), the authors' code: what is widened or
    narrowed keeps a number of channels that vector units can work on.

    Args:
        value: Above 0.
        divisor: At least 1; the least that comes out.
        min_ratio: The share of ``value`` that has to be left, from 0 to 1.

    >>> [make_divisible(value, 8) for value in (3, 11, 12, 33.6)]
    [8, 16, 16, 32]
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < min_ratio * value else rounded
