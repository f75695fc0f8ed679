"""Tables, means and intervals in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from mmrazor_mutators.functional import estimate, paired_interval

from .results import Row

__all__ = ['circumstances_of', 'difference', 'markdown', 'seeds_of', 'spread']


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return mean and sample standard deviation.

    >>> spread([1.0, 2.0])
    '1.50 ± 0.71'
    >>> spread([1.0])
    '1.00'
    """
    mean, deviation = estimate(values)
    if mean is None:
        return ''
    return f'{mean:.{digits}f}' + ('' if deviation is None else f' ± {deviation:.{digits}f}')


def difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the mean difference with its 95% interval.

    >>> difference([95.0, 96.0, 97.0], [94.0, 96.0, 95.0])
    '+1.00 (-1.48 to +3.48)'
    """
    mean, low, high, _ = paired_interval(ours, theirs)
    return f'{mean:+.2f}' + ('' if low is None else f' ({low:+.2f} to {high:+.2f})')


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of which the first row is the head."""
    head, *others = rows
    lines = [head, ['---'] * len(head), *others]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n'


def seeds_of(rows: Sequence[Row]) -> str:
    """Return which seeds were run."""
    return ', '.join(str(seed) for seed in sorted(row['seed'] for row in rows))


def circumstances_of(rows: Sequence[Row]) -> str:
    """Say when, where and with which code the rows were made."""

    def all_of(name: str) -> str:
        return ', '.join(sorted({str(row[name]) for row in rows}))

    return (
        f'Measured on {all_of("date")} by commits {all_of("commit")}, on '
        f'{all_of("processor")}, {all_of("threads")} thread, torch {all_of("torch")}.\n'
    )
