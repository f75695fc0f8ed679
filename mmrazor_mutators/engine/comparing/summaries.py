"""What the seeds of a config tell together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ...errors import InputError
from ...functional import Estimate, Interval, estimate, paired_interval
from .runs import Run

__all__ = ['Summary', 'summarize']


@dataclass(frozen=True)
class Summary:
    """The seeds of one config.

    Attributes:
        config: Its name.
        seeds: Of its runs.
        found: Accuracies of the networks found, in percent.
        random: Accuracies of all random networks.
        difference: Of each network found to the mean of the random networks of its seed;
            ``None`` without random networks.
        parameters: Of the networks found, on average.
        random_parameters: Of the random networks; ``None`` without any.
        num_random: How many random networks there are for each seed.
        limits: As for :class:`Run`.
        search_seconds: On average.
    """

    config: str
    seeds: tuple[int, ...]
    found: Estimate
    random: Estimate
    difference: Interval | None
    parameters: float
    random_parameters: float | None
    num_random: int
    limits: str
    search_seconds: float


def summarize(runs: Sequence[Run], level: float = 0.95) -> list[Summary]:
    """Return a summary for each config of some runs, in the order in which they come.

    Args:
        runs: At most one for each config and seed.
        level: Of the intervals; see :func:`paired_interval`.

    Raises:
        InputError: Two runs of one config and seed, or a run with another number of random
            networks than another one of its config.
    """
    by_config: dict[str, list[Run]] = {}
    for run in runs:
        by_config.setdefault(run.config, []).append(run)
    return [_summary(name, of_config, level) for name, of_config in by_config.items()]


def _summary(name: str, runs: Sequence[Run], level: float) -> Summary:
    seeds = tuple(run.seed for run in runs)
    counts = {len(run.random_accuracies) for run in runs}
    if len({*seeds}) < len(seeds) or len(counts) > 1:
        raise InputError(
            f'Expected one run for each seed of {name!r}, all with the same number of random '
            f'networks, but got seeds {list(seeds)} with {sorted(counts)} of them'
        )
    means = [run.random_accuracy for run in runs]
    ours = [run.accuracy for run in runs]
    theirs = [mean for mean in means if mean is not None]
    sizes = [size for run in runs for size in run.random_parameters]
    return Summary(
        config=name,
        seeds=seeds,
        found=estimate(ours),
        random=estimate([value for run in runs for value in run.random_accuracies]),
        difference=paired_interval(ours, theirs, level) if theirs else None,
        parameters=fmean(run.parameters for run in runs),
        random_parameters=fmean(sizes) if sizes else None,
        num_random=counts.pop(),
        limits=runs[0].limits,
        search_seconds=fmean(run.search_seconds for run in runs),
    )
