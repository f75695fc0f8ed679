"""The front of accuracy against cost, as a table and as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ..engine.costing import FrontPoint
from .canvas import GRAY, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['UNITS', 'draw_front', 'front_figure', 'front_table']

UNITS = {
    'params': 'parameters',
    'macs': 'multiply-adds',
    'memory': 'bytes of activations',
    'latency_ms': 'milliseconds',
}


def front_table(metric: str, points: Sequence[FrontPoint]) -> Table:
    """Return a table of budgets, costs and accuracies."""
    title = f'Accuracy against {UNITS[metric]}'
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
    save_figure(front_figure(metric, points), path)


def front_figure(metric: str, points: Sequence[FrontPoint]) -> Figure:
    """Draw accuracies over costs as a matplotlib figure, which no window shows.

    Raises:
        HostError: There is no matplotlib.
    """
    ordered = sorted(points, key=lambda point: point.cost)
    figure = new_figure(5.6, 3.6)
    figure.set_layout_engine('constrained')
    axes: Any = figure.subplots()
    costs, accuracies = [p.cost for p in ordered], [p.accuracy for p in ordered]
    axes.plot(costs, accuracies, '-', color=GRAY, zorder=1)
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
    axes.set_xlabel(f'{UNITS.get(metric, metric)} (dotted: the budgets)')
    axes.set_ylabel('accuracy, %')
    axes.spines[['top', 'right']].set_visible(False)
    return figure
