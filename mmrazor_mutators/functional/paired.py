"""What pairs of results tell: the mean of their differences, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Literal, NamedTuple

from ..errors import InputError

__all__ = ['Estimate', 'Interval', 'estimate', 'paired_interval']

_FEW = 30
_RESAMPLES = 9999


class Estimate(NamedTuple):
    """Mean and sample standard deviation of some values.

    Attributes:
        mean: ``None`` of no value.
        deviation: With ``n - 1`` in its denominator; ``None`` of less than two.
    """

    mean: float | None
    deviation: float | None


class Interval(NamedTuple):
    """A mean difference, and between what it is likely to lie.

    Attributes:
        mean: Of the differences.
        low: ``None`` of a single pair.
        high: As ``low``.
        method: ``'t'``, ``'bootstrap'``, or ``'none'`` of a single pair.
    """

    mean: float
    low: float | None
    high: float | None
    method: Literal['none', 't', 'bootstrap']


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and sample standard deviation.

    >>> estimate([1.0, 2.0, 3.0])
    Estimate(mean=2.0, deviation=1.0)
    >>> estimate([1.0])
    Estimate(mean=1.0, deviation=None)
    """
    mean = fmean(values) if values else None
    return Estimate(mean, stdev(values) if len(values) > 1 else None)


def paired_interval(
    ours: Sequence[float], theirs: Sequence[float], level: float = 0.95
) -> Interval:
    r"""Return the mean of paired differences with a confidence interval.

    Below 30 pairs it is Student's,
    :math:`\bar d \pm t_{n-1} \, s_d / \sqrt{n}`. It supposes that differences are normal, but
    where they are not it still holds the truth more often than the bootstrap, which of so few
    values is too narrow: of 3 pairs its 95% are 68 to 73% (``docs/comparing.md``). From 30
    pairs on it is the bias-corrected and accelerated bootstrap of the differences (Efron, JASA
    1987), by ``scipy.stats.bootstrap`` with a fixed seed.

    Args:
        ours: A value for each pair.
        theirs: The other value of each, in the same order.
        level: How often such an interval holds the truth, above 0 and below 1.

    Raises:
        InputError: No pair, another number of ours than of theirs, a value that is not
            finite, or a level outside of its range.

    >>> paired_interval([95.0, 96.0, 97.0], [94.0, 96.0, 95.0])
    Interval(mean=1.0, low=-1.4841..., high=3.4841..., method='t')
    """
    if len(ours) != len(theirs) or not ours:
        raise InputError(
            f'Expected pairs of values, but got {len(ours)} of one kind and {len(theirs)} of '
            'the other'
        )
    strange = [value for value in (*ours, *theirs) if not math.isfinite(value)]
    if strange:
        raise InputError(f'Expected finite values to compare, but got {strange[0]}')
    if not 0 < level < 1:
        raise InputError(f'Expected `level` above 0 and below 1, but got {level}')
    differences = [first - second for first, second in zip(ours, theirs, strict=True)]
    mean, deviation = fmean(differences), estimate(differences).deviation
    if deviation is None:
        return Interval(mean, None, None, 'none')
    few = len(differences) < _FEW
    if few or deviation == 0:  # The bootstrap of equal values is undefined.
        from scipy.special import stdtrit  # Student's quantile.

        quantile = float(stdtrit(len(differences) - 1, (1 + level) / 2))
        half = quantile * deviation / math.sqrt(len(differences))
        return Interval(mean, mean - half, mean + half, 't')
    low, high = _bootstrapped(differences, level)
    return Interval(mean, low, high, 'bootstrap')


def _bootstrapped(differences: Sequence[float], level: float) -> tuple[float, float]:
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.asarray(differences),),
        np.mean,
        confidence_level=level,
        n_resamples=_RESAMPLES,
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)
