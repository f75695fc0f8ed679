"""Tables of the main job and of the worked examples, from their file of results."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from benchmarks.worked import FILE, NAMES, budget_of

from .markdown import circumstances_of, difference, markdown, seeds_of
from .results import ROOT, Row, read_rows

__all__ = ['BUDGETS', 'main_table', 'with_worked_table', 'worked_sections', 'worked_table']

BUDGETS = ROOT / 'docs' / 'under_a_budget.md'
"""The page that has the table of the examples as their configs are."""

BEGIN, END = '<!-- by python -m benchmarks.quality --page -->\n', '<!-- until here -->\n'
TITLES = {
    'resnet': 'a. ResNet',
    'mobilenet': 'b. MobileNetV2-like',
    'characters': 'c. transformer of characters',
    'series': 'd. 1-d convolutions',
    'unet': 'e. U-Net',
}
METRICS = {'params': 'parameters', 'macs': 'multiply-adds', 'latency_ms': 'milliseconds'}


def worked_sections() -> list[str]:
    """Return what docs/quality.md has of both; without runs nothing."""
    rows = read_rows(FILE)
    main = [row for row in rows if row['task'] == 'main']
    others = [row for row in rows if row['task'] != 'main']
    parts = []
    if main:
        parts += ['## The main job\n', main_table(main), circumstances_of(main)]
    if others:
        parts += ['## The worked examples, under several budgets\n', worked_table(others)]
        parts.append(circumstances_of(others))
    return parts


def with_worked_table(text: str) -> str:
    """Return the page about budgets with its table up to date."""
    rows = [r for r in read_rows(FILE) if r['task'] in NAMES]
    mine = [r for r in rows if r['budget'] == budget_of(r['task'])[1]]
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f'{before}{BEGIN}{worked_table(mine)}{END}{after}'


def main_table(rows: Sequence[Row]) -> str:
    """Return accuracies of networks that were found and of random ones of the same cost."""
    table = [['seed', 'found', 'parameters', 'random: mean (range)', 'parameters', 'search, s']]
    for row in rows:
        chance = row['random_accuracies']
        sizes = row['random_parameters']
        table.append(
            [
                str(row['seed']),
                f'{row["accuracy"]:.2f}',
                f'{row["parameters"]:,}',
                f'{fmean(chance):.2f} ({min(chance):.2f} to {max(chance):.2f})',
                f'{min(sizes):,} to {max(sizes):,}',
                f'{row["search_seconds"]:.0f}',
            ]
        )
    ours = [row['accuracy'] for row in rows]
    theirs = [fmean(row['random_accuracies']) for row in rows]
    means = ['mean', f'{fmean(ours):.2f}', '', f'{fmean(theirs):.2f}', '', '']
    gain = f'Found minus random, 95% interval: {difference(ours, theirs)} points.\n'
    return markdown([*table, means]) + '\n' + gain


def worked_table(rows: Sequence[Row]) -> str:
    """Return costs and accuracies of the examples, a line for each budget."""
    table = [
        [
            'example',
            'seeds',
            'cost of budget',
            'full network',
            'uniform scaling',
            'found',
            'found minus uniform, 95%',
        ]
    ]
    for name in NAMES:
        for budget in sorted({row['budget'] for row in rows if row['task'] == name}):
            mine = [r for r in rows if (r['task'], r['budget']) == (name, budget)]
            metric = budget_of(name)[0]
            shares = [row['found'][f'{metric} of budget'] for row in mine]
            gain = [[row[k]['accuracy'] for row in mine] for k in ('found', 'uniform scaling')]
            low, high = (f'{share:.1%}' for share in (min(shares), max(shares)))
            table.append(
                [
                    f'{TITLES[name]}, {budget:.0%} of the {METRICS[metric]}',
                    seeds_of(mine),
                    low if low == high else f'{low} to {high}',
                    *(network(mine, k) for k in ('full network', 'uniform scaling', 'found')),
                    difference(*gain),
                ]
            )
    return markdown(table)


def network(rows: Sequence[Row], kind: str) -> str:
    """Return mean accuracy and parameters of one of the three networks."""
    accuracy = fmean([row[kind]['accuracy'] for row in rows])
    return f'{accuracy:.2f}%, {fmean([row[kind]["params"] for row in rows]):,.0f} parameters'
