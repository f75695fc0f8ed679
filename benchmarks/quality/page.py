"""The tables of docs/quality.md about methods, and what was not run."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any

from ..markdown import circumstances_of, difference, markdown, seeds_of, spread
from ..rows import Row, results
from .baselines import RESIDUAL_CELL
from .methods import BASELINES, METHODS
from .settings import DATA, SIZES, SPACES
from .table import BENCHMARKS, EDGES, accuracies, alike, cell_of, whole, with_convolutions

__all__ = ['RESULTS', 'TABLES', 'convolutions', 'methods', 'not_run']

RESULTS = results('quality', 'size', 'space', 'data', 'method', 'seed')

# Test accuracy on CIFAR-10 after a search on it, as the authors report it.
PUBLISHED = {
    'DARTS': 54.30,
    'GDAS': 93.61,
    'PC-DARTS': 93.41,
    'DrNAS': 94.36,
    'beta-DARTS': 94.36,
    'DARTS-': 93.80,
}


CHANGES = (
    ('DARTS', 'DARTS, finite difference'),
    ('DARTS', 'DARTS, exact'),
    ('DARTS', 'DARTS, longer warm-up'),
    ('DARTS', 'SDARTS'),
    ('GDAS', 'GDAS, all images'),
    ('GDAS, all images', 'GDAS, all images, nothing lent'),
    ('ReinMax', 'ReinMax, all images'),
)
"""Methods of which one is the other with one thing changed."""


def methods(rows: Sequence[Row]) -> str:
    """Return the sections with what the methods have found."""
    parts = []
    for size in ('default', 'large'):
        mine = [row for row in rows if row['size'] == size]
        if not mine:
            continue
        parts.append(
            f'## {"A night on two cores" if size == "default" else "The larger size"}\n'
        )
        for data, title in DATA.items():
            cells = [
                row for row in mine if (row['space'], row['data']) == ('nasbench201', data)
            ]
            if cells:
                parts += [f'### Cells searched on {title}, looked up\n', looked_up(cells)]
                if order := orders(cells):
                    parts += [f"### Kendall's tau, searched on {title}\n", order]
                if told := raised(cells):
                    parts += [f'### What raises it, searched on {title}\n', told]
        for space, name in SPACES.items():
            for data, title in DATA.items():
                trained = [
                    row
                    for row in mine
                    if (row['space'], row['data']) == (space, data) and 'accuracy' in row
                ]
                if trained:
                    parts += [f'### {name} on {title}, retrained\n', retrained(trained)]
        parts.append(circumstances_of(mine))
    return '\n'.join(parts)


def looked_up(rows: Sequence[Row]) -> str:
    """Return the table of what NAS-Bench-201 says of the cells found."""
    random = fmean(whole('cifar10', without_none=True))
    head = ['method', 'seeds', *BENCHMARKS.values(), 'minus random cells, 95%']
    table = [[*head, 'minus those of equal size, 95%', 'CPU s', 'published']]
    for method in (*METHODS, *BASELINES):
        mine = [row for row in rows if row['method'] == method and 'cell' in row]
        if not mine:
            continue
        values = {name: [accuracies(row['cell'])[name] for row in mine] for name in BENCHMARKS}
        table.append(
            [
                method,
                seeds_of(mine),
                *(spread(values[name]) for name in BENCHMARKS),
                difference(values['cifar10'], [random] * len(mine)),
                difference(values['cifar10'], [alike(row['cell']) for row in mine]),
                spread([row['search_cpu_seconds'] for row in mine], 0),
                f'{PUBLISHED[method]:.2f}' if method in PUBLISHED else '',
            ]
        )
    fixed = {
        'all 4,096 cells without `none`': [
            fmean(whole(name, without_none=True)) for name in BENCHMARKS
        ],
        'all 15,625 cells': [fmean(whole(name)) for name in BENCHMARKS],
        'six 3x3 convolutions': [*accuracies(cell_of('333333')).values()],
        'ResNet': [*accuracies(cell_of(RESIDUAL_CELL)).values()],
        'the best of each': [whole(name)[-1] for name in BENCHMARKS],
    }
    for title, means in fixed.items():
        shown = [title, '', *(f'{each:.2f}' for each in means)]
        table.append([*shown, *[''] * (len(table[0]) - len(shown))])
    return markdown(table)


def orders(rows: Sequence[Row]) -> str:
    """Return the table of rank correlations; empty where none was measured."""
    table = [['method', 'seeds', 'logits', 'paths', 'recalibrated', 'averaged']]
    for method in METHODS:
        mine = [row for row in rows if row['method'] == method and 'kendall' in row]
        if not mine:
            continue
        line = [method, seeds_of(mine)]
        for kind in ('logits', 'paths', 'recalibrated', 'averaged'):
            known = [row['kendall'].get(kind) for row in mine]
            line.append(spread([each for each in known if each is not None]))
        table.append(line)
    return markdown(table) if len(table) > 1 else ''


def raised(rows: Sequence[Row]) -> str:
    """Return the table of what raises the rank correlation; empty where nothing tells."""
    known = {(row['method'], row['seed']): row['kendall'] for row in rows if 'kendall' in row}
    table = [['instead of', 'this', 'by', 'pairs', 'tau, 95%']]

    def add(before: str, after: str, by: str, pairs: list[tuple[Any, Any]]) -> None:
        both = [pair for pair in pairs if None not in pair]
        if len(both) > 1:
            ours, theirs = zip(*both, strict=True)
            table.append([before, after, by, str(len(both)), difference(ours, theirs)])

    for before, after in CHANGES:
        for kind in ('logits', 'paths'):
            pairs = [
                (taus.get(kind), known[before, seed].get(kind))
                for (method, seed), taus in known.items()
                if method == after and (before, seed) in known
            ]
            add(before, after, kind, pairs)
    for before, after in (('paths', 'recalibrated'), ('recalibrated', 'averaged')):
        pairs = [(taus.get(after), taus.get(before)) for taus in known.values()]
        add(before, after, 'all methods', pairs)
    return markdown(table) if len(table) > 1 else ''


def convolutions() -> str:
    """Return the table of what the number of 3x3 convolutions alone tells of a cell."""
    table = [['3x3 convolutions', 'cells', 'CIFAR-10']]
    for count in range(len(EDGES) + 1):
        scores = with_convolutions(count)
        shown = f'{fmean(scores):.2f} ± {pstdev(scores):.2f}'
        table.append([str(count), f'{len(scores):,}', shown])
    return markdown(table)


def retrained(rows: Sequence[Row]) -> str:
    """Return the table of accuracies after an equal training from scratch."""
    table = [
        ['method', 'seeds', 'accuracy', 'random networks', 'difference, 95%', 'parameters']
        + ['of the random ones', 'search, CPU s', 'MiB']
    ]
    for method in (*METHODS, *BASELINES):
        mine = [row for row in rows if row['method'] == method]
        if not mine:
            continue
        ours = [row['accuracy'] for row in mine]
        theirs = [fmean(row['random_accuracies']) for row in mine if 'random_accuracies' in row]
        sizes = [n for row in mine for n in row.get('random_parameters', ())]
        paired = len(theirs) == len(ours)
        seconds = [row['search_cpu_seconds'] for row in mine if 'search_cpu_seconds' in row]
        peaks = [row['peak_mib'] for row in mine if 'peak_mib' in row]
        table.append(
            [
                method,
                seeds_of(mine),
                spread(ours),
                spread(theirs),
                difference(ours, theirs) if paired else '',
                f'{fmean([row["parameters"] for row in mine]):,.0f}',
                f'{fmean(sizes):,.0f}' if sizes else '',
                spread(seconds, 0),
                f'{fmean(peaks):.0f}' if peaks else '',
            ]
        )
    return markdown(table)


def not_run(rows: Sequence[Row]) -> str:
    """Return the table of what is missing, by space and data."""
    done: dict[tuple[Any, ...], Row] = {
        tuple(row[key] for key in ('size', 'space', 'data', 'method', 'seed')): row
        for row in rows
    }
    table = [['size', 'space', 'data', 'searched', 'orders compared', 'trained', 'of']]
    for name in ('default', 'large'):
        for space in SPACES:
            for data in DATA:
                run = [each for each, how in METHODS.items() if data in how.data]
                mine = [
                    done.get((name, space, data, method, seed), {})
                    for method in (*run, *BASELINES)
                    for seed in SIZES[name].seeds
                ]
                fields = ('search_cpu_seconds', 'kendall', 'accuracy')
                counts = [str(sum(field in row for row in mine)) for field in fields]
                table.append([name, SPACES[space], DATA[data], *counts, str(len(mine))])
    return markdown(table)


TABLES = {
    'quality-methods': lambda: methods(RESULTS.read()),
    'quality-convolutions': convolutions,
    'quality-not-run': lambda: not_run(RESULTS.read()),
}
