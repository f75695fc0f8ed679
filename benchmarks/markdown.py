"""Tables, means and intervals in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmrazor_mutators.functional import estimate, paired_interval

from .rows import Results, Row

__all__ = [
    'as_printed',
    'circumstances_of',
    'difference',
    'made_from',
    'markdown',
    'ratio',
    'seeds_of',
    'spread',
]


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


def ratio(middle: float, low: float, high: float) -> str:
    """Return a median ratio with its range.

    >>> ratio(4.361, 4.2, 4.65)
    '**4.36x** (4.20 to 4.65)'
    """
    return f'**{middle:.2f}x** ({low:.2f} to {high:.2f})'


def markdown(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Return a table of which the first row is the head.

    Args:
        rows: Of cells.
        numbers: Whether all columns but the first are set to the right.

    >>> print(markdown([['a', 'b'], ['x', '1']], numbers=True), end='')
    | a | b |
    | --- | ---: |
    | x | 1 |
    """
    head, *others = rows
    rule = '---:' if numbers else '---'
    lines = [head, ['---', *[rule] * (len(head) - 1)], *others]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n'


def as_printed(lines: Sequence[str]) -> str:
    """Return a block of what a command has printed."""
    return '\n'.join(['```text', *lines, '```']) + '\n'


def seeds_of(rows: Sequence[Row]) -> str:
    """Return which seeds were run."""
    return ', '.join(str(seed) for seed in sorted(row['seed'] for row in rows))


def circumstances_of(rows: Sequence[Row]) -> str:
    """Say when, where and with which code the rows were made."""

    def all_of(name: str) -> str:
        return ', '.join(sorted({str(row[name]) for row in rows}))

    def plural(name: str) -> str:
        found = all_of(name)
        return f'{name}{"s" if "," in found else ""} {found}'

    threads = all_of('threads')
    return (
        f'Measured on {all_of("date")} by {plural("commit")}, on {all_of("processor")}, '
        f'{threads} thread{"" if threads == "1" else "s"}, torch {all_of("torch")}.\n'
    )


def made_from(
    results: Results,
    table: Callable[[Sequence[Row]], str],
    among: Callable[[list[Row]], list[Row]] = list,
) -> Callable[[], str]:
    """Return what makes a table of a file of results, or of some of its rows.

    Below it stands when, where and with which code they were made.
    """

    def page() -> str:
        rows = among(results.read())
        return f'{table(rows)}\n{circumstances_of(rows)}'

    return page
