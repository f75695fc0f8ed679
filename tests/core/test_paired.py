"""Paired differences against closed forms, naive resampling and how often they are right."""

from __future__ import annotations

import math
import random
from statistics import NormalDist, mean

import pytest

from mmrazor_mutators.errors import InputError
from mmrazor_mutators.functional import estimate, paired_interval


def draws(count: int, seed: int = 0) -> tuple[list[float], list[float]]:
    rng = random.Random(seed)
    ours = [rng.gauss(95, 1) for _ in range(count)]
    return ours, [value - 0.5 + rng.gauss(0, 0.3) for value in ours]


def test_estimate_is_mean_and_sample_deviation() -> None:
    values = [1.5, -2.0, 4.0, 0.25]
    center = sum(values) / 4
    spread = math.sqrt(sum((value - center) ** 2 for value in values) / 3)
    assert estimate(values) == pytest.approx((center, spread))
    assert estimate([3.0]) == (3.0, None)
    assert estimate([]) == (None, None)


def test_two_pairs_have_the_interval_of_the_cauchy_distribution() -> None:
    # Student's t with one degree of freedom; its quantiles are tangents.
    found = paired_interval([4.0, 9.0], [1.0, 2.0], level=0.9)
    half = math.tan(math.pi * 0.45) * 2.0  # The differences 3 and 7 deviate by sqrt(8).
    assert found == (5.0, pytest.approx(5 - half), pytest.approx(5 + half), 't')


def test_three_pairs_have_the_closed_form_of_two_degrees_of_freedom() -> None:
    ours, theirs = [95.0, 96.5, 97.0], [94.0, 96.0, 95.0]
    level = 0.95
    # The quantile of p with two degrees: (2 p - 1) / sqrt(2 p (1 - p)).
    p = (1 + level) / 2
    quantile = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    differences = [1.0, 0.5, 2.0]
    center = sum(differences) / 3
    spread = math.sqrt(sum((d - center) ** 2 for d in differences) / 2)
    half = quantile * spread / math.sqrt(3)
    found = paired_interval(ours, theirs, level)
    assert found[:3] == pytest.approx((center, center - half, center + half))
    assert found.method == 't'


def test_pairs_not_groups_are_compared() -> None:
    # Far apart among themselves, but each pair differs by about 1.
    ours, theirs = [10.0, 50.0, 90.0], [9.0, 48.9, 89.1]
    found = paired_interval(ours, theirs)
    assert found.low is not None
    assert found.low > 0.7
    swapped = paired_interval(ours, [theirs[1], theirs[2], theirs[0]])
    assert swapped.low is not None
    assert swapped.low < -100


def test_many_pairs_are_resampled() -> None:
    ours, theirs = draws(40)
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    found = paired_interval(ours, theirs)
    assert found.method == 'bootstrap'
    assert found == paired_interval(ours, theirs)
    rng = random.Random(1)
    resampled = sorted(mean(rng.choices(differences, k=40)) for _ in range(4000))
    # Of differences that are about symmetric the correction of percentiles is small.
    spread = resampled[-100] - resampled[99]
    assert found.mean == pytest.approx(mean(differences))
    assert found.low == pytest.approx(resampled[99], abs=0.08 * spread)
    assert found.high == pytest.approx(resampled[-100], abs=0.08 * spread)
    assert paired_interval(ours[:29], theirs[:29]).method == 't'
    assert paired_interval(ours[:30], theirs[:30]).method == 'bootstrap'


@pytest.mark.parametrize('count', [2, 3, 10])
def test_intervals_hold_the_truth_as_often_as_they_say(count: int) -> None:
    held, tries = 0, 1000
    for seed in range(tries):
        ours, theirs = draws(count, seed)
        found = paired_interval(ours, theirs, level=0.8)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.5 <= found.high
    error = math.sqrt(0.8 * 0.2 / tries) * NormalDist().inv_cdf(0.9995)
    assert abs(held / tries - 0.8) < error


def test_one_pair_has_no_interval() -> None:
    assert paired_interval([2.0], [1.5]) == (0.5, None, None, 'none')


@pytest.mark.parametrize('count', [2, 50])
def test_equal_differences_leave_no_doubt(count: int) -> None:
    found = paired_interval([3.0] * count, [1.0] * count)
    assert found == (2.0, 2.0, 2.0, 't')


@pytest.mark.parametrize(
    ('ours', 'theirs', 'level', 'message'),
    [
        ([], [], 0.95, 'got 0 of one kind and 0 of the other'),
        ([1.0, 2.0], [1.0], 0.95, 'got 2 of one kind and 1 of the other'),
        ([1.0, math.nan], [1.0, 2.0], 0.95, 'finite values to compare, but got nan'),
        ([1.0, 2.0], [1.0, math.inf], 0.95, 'finite values to compare, but got inf'),
        ([1.0, 2.0], [1.0, 2.0], 1.0, 'above 0 and below 1, but got 1.0'),
        ([1.0, 2.0], [1.0, 2.0], 0, 'above 0 and below 1, but got 0'),
    ],
)
def test_what_cannot_be_compared(
    ours: list[float], theirs: list[float], level: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        paired_interval(ours, theirs, level)
