"""The tables of docs/speed.md about a search step, from what search_step.py has kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .markdown import made_from, markdown, ratio
from .rows import Row, results

__all__ = ['CASES', 'METHODS', 'OPTIONS', 'RESULTS', 'TABLES', 'table']

CASES = {
    'darts-8': ('darts', 8),
    'darts-16': ('darts', 16),
    'darts-64': ('darts', 64),
    'nasbench201-16': ('nasbench201', 16),
    'nasbench201-64': ('nasbench201', 64),
}
METHODS = {
    'first_order': 'first order',
    'finite_difference': 'finite difference',
    'exact': 'exact, against finite difference',
    'gdas': 'GDAS, against all paths',
}
OPTIONS = ('kernels', 'compile', 'checkpoint_cells', 'autocast')
RESULTS = results('speed', 'case', 'method', 'device', 'size', *OPTIONS)


def title_of(case: str) -> str:
    """Return a case in words.

    >>> title_of('darts-8')
    'DARTS, batch 8'
    """
    space, batch = CASES[case]
    return f'{ {"darts": "DARTS", "nasbench201": "NAS-Bench-201"}[space] }, batch {batch}'


def ordered(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """Return the rows of some options, by case and method."""
    fits = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    cases, methods = list(CASES), list(METHODS)
    return sorted(fits, key=lambda r: (cases.index(r['case']), methods.index(r['method'])))


def table(rows: Sequence[Row]) -> str:
    """Return the table of times and memory."""
    head = ['case', 'method', 'reference, s', 'library, s', 'ratio (range)', 'reference, MiB']
    lines = [[*head, 'library, MiB', 'memory', 'of the bare convolutions']]
    for row in rows:
        bare = row.get('bare_seconds')
        lines.append(
            [
                title_of(row['case']),
                METHODS[row['method']],
                f'{row["reference_seconds"]:.3f}',
                f'{row["library_seconds"]:.3f}',
                ratio(*row['ratio']),
                f'{row["reference_mib"]:.0f}',
                f'{row["library_mib"]:.0f}',
                f'{row["library_mib"] / row["reference_mib"]:.2f}',
                f'{row["library_seconds"] / bare:.2f}x' if bare else '',
            ]
        )
    return markdown(lines)


def table_of_kernels(rows: Sequence[Row]) -> str:
    """Return the table of what the kernels and compiled graphs are worth."""
    kinds = {(True, False): 'of the library', (False, False): 'of PyTorch'}
    kinds[False, True] = 'of PyTorch, inside of compiled graphs'
    lines = [['case', 'kernels', 'ratio (range)', 'memory', 'the first step, s']]
    for row in ordered(rows, method='first_order'):
        lines.append(
            [
                title_of(row['case']),
                kinds[row['kernels'], row['compile']],
                ratio(*row['ratio']),
                f'{row["library_mib"] / row["reference_mib"]:.2f}',
                f'{row["first_seconds"]:.1f}',
            ]
        )
    return markdown(lines)


def table_of_memory(rows: Sequence[Row]) -> str:
    """Return the table of what saves memory, against a step without it."""
    lines = [['', 'peak of a step, MiB', 'time, against neither']]
    neither = next(r for r in rows if not (r['checkpoint_cells'] or r['autocast']))
    for row in rows:
        names = [f'`{name}`' for name in OPTIONS[2:] if row[name]]
        # Of both what they take against the same reference.
        times = neither['ratio'][0] / row['ratio'][0]
        lines.append(
            [
                ' and '.join(names) or 'neither',
                f'{row["library_mib"]:.0f}',
                f'{times:.2f}',
            ]
        )
    return markdown(lines)


def of_cpu(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """Return what was measured on a CPU with some options, of images of 32x32."""
    return ordered(rows, **{'device': 'cpu', 'size': 32, **wanted})


def as_it_is(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the main table: with the kernels, and no other option."""
    return of_cpu(rows, kernels=True, compile=False, checkpoint_cells=False, autocast=None)


def by_kernels(rows: Sequence[Row]) -> list[Row]:
    """Return the cases that were measured without the kernels, with and without."""
    mine = of_cpu(rows, checkpoint_cells=False, autocast=None)
    cases = {row['case'] for row in mine if not row['kernels']}
    return [row for row in mine if row['case'] in cases]


def by_memory(rows: Sequence[Row]) -> list[Row]:
    """Return the case that was measured with all that saves memory."""
    case = {'case': 'darts-8', 'method': 'first_order'}
    return of_cpu(rows, **case, kernels=False, compile=False)


TABLES = {
    'speed': made_from(RESULTS, table, as_it_is),
    'speed-kernels': made_from(RESULTS, table_of_kernels, by_kernels),
    'speed-memory': made_from(RESULTS, table_of_memory, by_memory),
}
