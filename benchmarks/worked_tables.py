"""Tables of the main job and of the worked examples, from their file of results."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from mmrazor_mutators.views.front import UNITS

from .markdown import difference, made_from, markdown, seeds_of
from .rows import Row
from .worked import NAMES, RESULTS, budget_of

__all__ = ['TABLES', 'main_table', 'of_configs', 'worked_table']

TITLES = {
    'resnet': 'a. ResNet',
    'mobilenet': 'b. MobileNetV2-like',
    'characters': 'c. transformer of characters',
    'series': 'd. 1-d convolutions',
    'unet': 'e. U-Net',
}


def of_main(rows: Sequence[Row]) -> list[Row]:
    """Return the runs of the main job."""
    return [row for row in rows if row['task'] == 'main']


def of_examples(rows: Sequence[Row]) -> list[Row]:
    """Return the runs of examples, under any budget."""
    return [row for row in rows if row['task'] in NAMES]


def of_configs(rows: Sequence[Row]) -> list[Row]:
    """Return the runs of examples under the budgets of their configs."""
    return [row for row in of_examples(rows) if row['budget'] == budget_of(row['task'])[1]]


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


def main_in_words(rows: Sequence[Row]) -> str:
    """Return what README.md says of the main job."""
    ours = [row['accuracy'] for row in rows]
    theirs = [fmean(row['random_accuracies']) for row in rows]
    return (
        f'The network found gets {fmean(ours):.1f}% of the digits right, random ones '
        f'{fmean(theirs):.1f}%: {difference(ours, theirs)} points with {len(rows)} seeds, 95% '
        'interval.\n'
    )


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
                    f'{TITLES[name]}, {budget:.0%} of the {UNITS[metric]}',
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


TABLES = {
    'main-job-in-words': lambda: main_in_words(of_main(RESULTS.read())),
    'main-job': made_from(RESULTS, main_table, of_main),
    'examples-by-budget': made_from(RESULTS, worked_table, of_examples),
    'examples': made_from(RESULTS, worked_table, of_configs),
}
