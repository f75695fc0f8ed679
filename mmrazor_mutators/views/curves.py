"""Curves: how a search fared, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import GRAY, INK, new_figure
from .history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ['Panel', 'curve_figure', 'curve_height', 'curve_panels', 'draw_curves', 'draw_panel']

_COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00')
"""Those of Okabe and Ito, which people tell apart who see few colours."""

_STYLES = ('-', '--', '-.', ':')
_WIDTH, _COLUMNS, _CELL, _TOP = 11.0, 3, 2.35, 0.55
_BELIEFS = {
    'entropy': 'how undecided (entropy, 0 to 1)',
    'margin': 'lead of the first choice',
    'skips': 'skip connections chosen',
    'temperature': 'temperature',
}

Panel = tuple[str, dict[str, np.ndarray], float | None]
"""Title, ``{name: values}``, and a limit to be drawn as a line."""


def curve_panels(history: History) -> list[Panel]:
    """Sort the columns of a history into panels: losses, accuracies, beliefs, costs, others.

    Args:
        history: Of a search.
    """
    rest = {
        name: values
        for name in history.epochs
        if name != 'epoch' and (values := history.column(name)) is not None
    }
    panels: list[Panel] = []

    def take(title: str, names: Sequence[str], limit: float | None = None) -> None:
        found = {name: rest.pop(name) for name in names if name in rest}
        if found:
            panels.append((title, found, limit))

    take('losses', [name for name in rest if 'loss' in name])
    take('accuracies', [name for name in rest if 'accuracy' in name])
    for name, title in _BELIEFS.items():
        take(title, [name])
    for name in [name for name in rest if name == 'budget' or name.startswith('budget_')]:
        budgets, what = rest.pop(name), name.removeprefix('budget').removeprefix('_')
        suffix = f'_{what}' if what else ''
        take(
            f'cost against budget{f": {what}" if what else ""}',
            [f'cost{suffix}', f'found{suffix}'],
            float(budgets[np.isfinite(budgets)][-1]),
        )
    take('cost', [name for name in rest if name == 'cost' or name.startswith('cost_')])
    for name in list(rest):
        take(name, [name])
    return panels


def curve_figure(history: History) -> Figure:
    """Draw all that was noted of a search as curves over its epochs.

    Lines differ in colour and in dashes; budgets are dotted. Without an epoch the figure says
    that nothing was noted.

    Args:
        history: Of a search.

    Raises:
        HostError: matplotlib is not installed.
    """
    figure = new_figure(_WIDTH, curve_height(history))
    draw_curves(figure, history, 0.0)
    return figure


def curve_height(history: History) -> float:
    """Return how many inches the curves of a history take."""
    rows = -(-max(1, len(curve_panels(history))) // _COLUMNS)
    return _TOP + rows * _CELL


def draw_curves(figure: Figure, history: History, top: float) -> None:
    """Draw curves into a part of a figure that is as wide as it.

    Args:
        figure: Of the width of :func:`curve_figure`.
        history: Of a search.
        top: Inches above, which are left free.
    """
    width, height = figure.get_size_inches()
    panels = curve_panels(history)
    title = 'The search, epoch by epoch' if panels else 'No epoch of a search was noted yet'
    figure.text(
        0.3 / width,
        1 - (top + 0.26) / height,
        title,
        fontsize=13,
        weight='bold',
        color=INK,
        va='center',
    )
    cell = (width - 0.3) / _COLUMNS
    for index, panel in enumerate(panels):
        left = 0.3 + index % _COLUMNS * cell + 0.45
        y = top + _TOP + index // _COLUMNS * _CELL + 0.3
        size = ((cell - 0.75) / width, (_CELL - 0.85) / height)
        axes = figure.add_axes((left / width, 1 - y / height - size[1], *size))
        draw_panel(axes, panel, history.epochs['epoch'])


def draw_panel(axes: Axes, panel: Panel, epochs: np.ndarray) -> None:
    """Draw the curves of one panel.

    Args:
        axes: Where to.
        panel: What to draw.
        epochs: Of its values.
    """
    title, lines, limit = panel
    for index, (name, values) in enumerate(lines.items()):
        there = np.isfinite(values)
        axes.plot(
            epochs[there],
            values[there],
            color=_COLORS[index % len(_COLORS)],
            linestyle=_STYLES[index % len(_STYLES)],
            linewidth=1.6,
            marker='o' if there.sum() < 3 else '',
            markersize=3.5,
            label=name,
        )
    if limit is not None:
        axes.axhline(limit, color=INK, linewidth=1.0, linestyle=':', label='budget')
    axes.set_title(title, fontsize=9, loc='left', color=INK, parse_math=False)
    if len(lines) > 1 or limit is not None:
        legend: Any = axes.legend(fontsize=7, frameon=False, labelcolor=INK, handlelength=2.4)
        for label in legend.get_texts():
            label.set_parse_math(False)
    if np.nanmax(np.abs(np.concatenate([*lines.values()]))) >= 1e4:
        from matplotlib.ticker import EngFormatter

        axes.yaxis.set_major_formatter(EngFormatter(sep=''))
    axes.set_xlabel('epoch', fontsize=7, color=INK, labelpad=1)
    axes.locator_params(axis='x', integer=True)
    if all((values[np.isfinite(values)] % 1 == 0).all() for values in lines.values()):
        axes.locator_params(axis='y', integer=True)
    axes.tick_params(labelsize=7, labelcolor=INK, color=GRAY, length=2)
    axes.grid(color='#e4e6e9', linewidth=0.6)
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set(color=GRAY)
