"""A comparison with random networks as a table: for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from ..engine.comparing import Summary
from ..functional import Estimate

__all__ = ['comparison_csv', 'comparison_markdown', 'comparison_notes', 'comparison_table']

_METHODS = {
    't': "Student's t of the pairs, as a bootstrap of few is too narrow",
    'bootstrap': 'bias-corrected and accelerated bootstrap of the pairs',
}


def comparison_table(summaries: Sequence[Summary]) -> Table:
    """Return a table with a section for each config, of at most 80 columns."""
    title = 'Test accuracy after training from scratch'
    table = Table(title=title, min_width=len(title))
    table.add_column('network', overflow='fold')
    for column in ('accuracy', 'parameters', 'search, s'):
        table.add_column(column, justify='right', no_wrap=True)
    for summary in summaries:
        count = len(summary.seeds)
        table.add_row(summary.config, f'{count} seed{"s" if count > 1 else ""}')
        table.add_row(
            '  found',
            _percent(summary.found),
            f'{summary.parameters:,.0f}',
            f'{summary.search_seconds:,.1f}',
        )
        if summary.random_parameters is not None:
            table.add_row(
                f'  random, {summary.num_random} a seed',
                _percent(summary.random),
                f'{summary.random_parameters:,.0f}',
            )
            more = summary.parameters - summary.random_parameters
            table.add_row('  difference', _difference(summary), f'{more:+,.0f}')
        table.add_section()
    return table


def comparison_notes(summaries: Sequence[Summary]) -> list[str]:
    """Return what has to be said beside the numbers, a line each."""
    found = {s.difference.method for s in summaries if s.difference is not None}
    notes = []
    if found:
        notes.append(
            'Difference: found - random of the same seed, trained alike; in brackets 95%.'
        )
    for method in sorted(found & {*_METHODS}):
        notes.append(f'Interval: {_METHODS[method]}.')
    if 'none' in found:
        notes.append('One seed tells no interval: give more --seeds.')
    for summary in summaries:
        if summary.limits and summary.num_random:
            notes.append(
                f'{summary.config}: random networks are held to {summary.limits}, as the '
                'network found is.'
            )
    return notes


def comparison_markdown(summaries: Sequence[Summary]) -> str:
    """Return the table as Markdown, a line for each config, and the notes."""
    columns = (
        'config',
        'seeds',
        'found',
        'random',
        'difference [95%]',
        'parameters',
        'of random',
        'search, s',
    )
    lines = [columns, ('---', *['---:'] * (len(columns) - 1))]
    for summary in summaries:
        sizes = summary.random_parameters
        lines.append(
            (
                summary.config.replace('|', r'\|'),
                str(len(summary.seeds)),
                _percent(summary.found),
                _percent(summary.random),
                _difference(summary),
                f'{summary.parameters:,.0f}',
                '' if sizes is None else f'{sizes:,.0f}',
                f'{summary.search_seconds:,.1f}',
            )
        )
    rows = [f'| {" | ".join(cells)} |' for cells in lines]
    notes = [f'\n{note}' for note in comparison_notes(summaries)]
    return '\n'.join([*rows, *notes]) + '\n'


def comparison_csv(summaries: Sequence[Summary]) -> str:
    """Return the table as CSV with all digits, a line for each config."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    rows = [_row(summary) for summary in summaries]
    if rows:
        writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return text.getvalue()


def _row(summary: Summary) -> dict[str, Any]:
    difference = summary.difference
    low, high = (None, None) if difference is None else (difference.low, difference.high)
    return {
        'config': summary.config,
        'seeds': len(summary.seeds),
        'found_mean': summary.found.mean,
        'found_std': summary.found.deviation,
        'random_per_seed': summary.num_random,
        'random_mean': summary.random.mean,
        'random_std': summary.random.deviation,
        'difference': None if difference is None else difference.mean,
        'difference_low': low,
        'difference_high': high,
        'interval': None if difference is None else difference.method,
        'parameters': summary.parameters,
        'random_parameters': summary.random_parameters,
        'random_limits': summary.limits,
        'search_seconds': summary.search_seconds,
    }


def _percent(values: Estimate) -> str:
    if values.mean is None:
        return ''
    spread = '' if values.deviation is None else f' ± {values.deviation:.2f}'
    return f'{values.mean:.2f}%{spread}'


def _difference(summary: Summary) -> str:
    if summary.difference is None:
        return ''
    mean, low, high, _ = summary.difference
    if low is None or high is None:
        return f'{mean:+.2f}'
    return f'{mean:+.2f} [{low:+.2f}, {high:+.2f}]'
