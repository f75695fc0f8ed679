"""The front of accuracy against cost, as a table and as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ..engine.costing import FrontPoint
from ..errors import ConfigError, HostError

__all__ = ['draw_front', 'front_table']

_UNITS = {
    'params': 'parameters',
    'macs': 'multiply-adds',
    'memory': 'bytes of activations',
    'latency_ms': 'milliseconds',
}


def front_table(metric: str, points: Sequence[FrontPoint]) -> Table:
    """Return a table of budgets, costs and accuracies."""
    title = f'Accuracy against {_UNITS[metric]}'
    table = Table(title=title, min_width=len(title))
    for column in ('budget', 'at most', 'cost', 'of budget', 'accuracy'):
        table.add_column(column, justify='right')
    for point in points:
        table.add_row(
            f'{point.budget:g}',
            f'{point.limit:,.6g}',
            f'{point.cost:,.6g}',
            f'{point.cost / point.limit:.1%}',
            f'{point.accuracy:.2f}%',
        )
    return table


def draw_front(metric: str, points: Sequence[FrontPoint], path: str | os.PathLike[str]) -> None:
    """Draw accuracies over costs into a file.

    Args:
        metric: What the cost is.
        points: At least one.
        path: Ends in ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        HostError: There is no matplotlib.
        ConfigError: The file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise HostError(
            f'Drawing needs matplotlib, which cannot be imported ({error}); install it with: '
            'pip install matplotlib'
        ) from error
    ordered = sorted(points, key=lambda point: point.cost)
    figure = Figure(figsize=(5.6, 3.6), layout='constrained')
    axes: Any = figure.subplots()
    costs, accuracies = [p.cost for p in ordered], [p.accuracy for p in ordered]
    axes.plot(costs, accuracies, '-', color='#9aa0a6', zorder=1)
    axes.scatter(costs, accuracies, color='#1f6fb2', zorder=2)
    for point in ordered:
        axes.axvline(point.limit, color='#d9730d', linewidth=0.8, linestyle=':')
        axes.annotate(
            f'{point.budget:g}',
            (point.cost, point.accuracy),
            textcoords='offset points',
            xytext=(-6, 6),
            ha='right',
        )
    axes.margins(0.12)
    axes.set_xlabel(f'{_UNITS[metric]} (dotted: the budgets)')
    axes.set_ylabel('accuracy, %')
    axes.spines[['top', 'right']].set_visible(False)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200)
    except (OSError, ValueError) as error:
        raise ConfigError(f'Cannot draw into {os.fspath(path)!r}: {error}') from error
