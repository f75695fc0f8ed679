"""Pictures of any network found: its layers in order, and what was chosen where."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .canvas import CHAR, GRAY, INK, PAPER, box, check_ending, new_figure, save_figure, text
from .draw import kind_color
from .network_rows import NetworkRow, NetworkView, short, told, widths_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ['draw_network', 'network_figure']

# All lengths are in inches.
_MARGIN, _TITLE, _HEAD = 0.3, 0.5, 0.34
_ROW, _BOX, _GAP, _LANE = 0.52, 0.4, 0.3, 0.14
_BAR = 1.3
_MOST = 44
"""Letters of a cell."""

_BLUE, _GREEN, _ORANGE = '#1f6fb2', '#2e8b57', '#d9730d'


def draw_network(view: NetworkView, path: str | os.PathLike[str]) -> None:
    """Draw a network into a file.

    Args:
        view: From :func:`.view_network`.
        path: Ends in ``.png``, ``.svg`` or ``.pdf``; folders are made.

    Raises:
        ConfigError: Another ending, or a file that cannot be written.
        HostError: matplotlib is not installed.
    """
    check_ending(path)
    save_figure(network_figure(view), path)


def network_figure(view: NetworkView) -> Figure:
    """Draw a network as a matplotlib figure, which no window shows.

    From top to bottom stand its layers, each with the norm and activation that follow it.
    The bar shows how many of the original's channels are left, the lines at the left which
    layer reads which, where that is not the one above; blocks left out are dashed.

    Raises:
        HostError: matplotlib is not installed.
    """
    picture = _Picture(view)
    figure = new_figure(picture.width, picture.height)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, picture.width), ylim=(picture.height, 0))
    axes.set_axis_off()
    picture.draw(axes)
    return figure


def _cut(words: str, most: int = _MOST) -> str:
    return words if len(words) <= most else f'{words[: most - 1]}…'


class _Picture:
    """Where everything stands."""

    def __init__(self, view: NetworkView) -> None:
        self.view = view
        self.title = (
            f'{view.title}: {view.params:,} parameters, {short(view.macs)} multiply-adds'
        )
        self.lanes = _lanes(view.rows)
        self.texts = [_texts(row) for row in view.rows]
        longest = [max(map(len, column), default=0) for column in zip(*self.texts, strict=True)]
        name, kinds, chosen, left_out, _ = longest or [0] * 5
        self.left = _MARGIN + (max(self.lanes.values(), default=-1) + 1) * _LANE + _GAP / 2
        self.box = max(name, kinds) * CHAR + 0.24
        self.widths = self.left + self.box + _GAP
        self.chosen = self.widths + _BAR + 9 * CHAR + _GAP
        self.wide = max(chosen, left_out, len('chosen, and not')) * CHAR
        self.params = self.chosen + self.wide + _GAP
        self.macs = self.params + _BAR + _GAP
        self.width = max(self.macs + _BAR + _MARGIN, len(self.title) * CHAR * 1.5 + 2 * _MARGIN)
        self.top = _MARGIN + _TITLE + _HEAD
        self.height = self.top + len(view.rows) * _ROW + _MARGIN

    def middle(self, index: int) -> float:
        return self.top + (index + 0.5) * _ROW

    def draw(self, axes: Axes) -> None:
        text(axes, _MARGIN, _MARGIN + 0.1, self.title, fontsize=13, weight='bold')
        head = self.top - _HEAD / 2
        for x, word in (
            (self.left, 'layer'),
            (self.widths, 'channels'),
            (self.chosen, 'chosen, and not'),
            (self.params, 'parameters'),
            (self.macs, 'multiply-adds'),
        ):
            text(axes, x, head, word, color=GRAY)
        most_params = max((row.params for row in self.view.rows), default=0) or 1
        most_macs = max((row.macs for row in self.view.rows), default=0) or 1
        most_channels = max((row.full_features for row in self.view.rows), default=0) or 1
        for index, row in enumerate(self.view.rows):
            self._draw_arrow(axes, index, row)
            self._draw_layer(axes, index, row)
            if row.is_left_out:
                continue
            y = self.middle(index)
            self._draw_width(axes, y, row, most_channels)
            if row.params:
                share = row.params / most_params
                self._draw_amount(axes, self.params, y, share, f'{row.params:,}', _BLUE)
            if row.macs:
                share = row.macs / most_macs
                self._draw_amount(axes, self.macs, y, share, short(row.macs), _ORANGE)

    def _draw_layer(self, axes: Axes, index: int, row: NetworkRow) -> None:
        y, texts = self.middle(index), self.texts[index]
        style = {'facecolor': PAPER, 'edgecolor': INK}
        if row.is_left_out:
            style = {'facecolor': 'white', 'edgecolor': GRAY, 'linestyle': '--'}
        elif row.decisions:
            style = {'facecolor': '#eef6f0', 'edgecolor': _GREEN}
        box(axes, self.left, y, self.box, _BOX, **style)
        color = GRAY if row.is_left_out else INK
        text(axes, self.left + 0.12, y - 0.09, texts[0], color=color, weight='bold')
        text(
            axes,
            self.left + 0.12,
            y + 0.09,
            texts[1],
            color=GRAY if row.is_left_out else '#5a6472',
        )
        if not row.decisions:
            return
        names = [name for decision in row.decisions for name in decision.chosen]
        color = kind_color(names[0]) if len(names) == 1 else _GREEN
        if row.is_left_out:
            color = GRAY
        lift = 0.09 if texts[3] else 0
        text(axes, self.chosen, y - lift, texts[2], color=color, weight='bold')
        text(axes, self.chosen, y + 0.09, texts[3], color=GRAY)

    def _draw_width(self, axes: Axes, y: float, row: NetworkRow, most: int) -> None:
        """Draw the channels as a bar; an outline shows those of the original."""
        if not row.out_features:
            return
        full, own = (x / most * _BAR for x in (row.full_features, row.out_features))
        _bar(axes, self.widths, y, full, facecolor='white', edgecolor=GRAY)
        color = INK if row.full_features == row.out_features else _GREEN
        _bar(axes, self.widths, y, own, facecolor=color, edgecolor=color)
        text(axes, self.widths + full + 0.06, y, widths_of(row))

    def _draw_amount(
        self, axes: Axes, x: float, y: float, share: float, words: str, color: str
    ) -> None:
        _bar(axes, x, y + 0.12, max(share * _BAR, 0.01), 0.06, facecolor=color, linewidth=0)
        text(axes, x, y - 0.05, words)

    def _draw_arrow(self, axes: Axes, index: int, row: NetworkRow) -> None:
        """Draw from which layer the input comes."""
        y = self.middle(index)
        style: dict[str, Any] = {'color': GRAY, 'linewidth': 1.3, 'zorder': 2}
        if index in self.lanes:
            x = self.left - _GAP / 2 - self.lanes[index] * _LANE
            start = self.middle(row.source)
            axes.plot(
                [self.left, x, x, self.left],
                [start + 0.1, start + 0.1, y - 0.08, y - 0.08],
                **style,
            )
            _head(axes, self.left, y - 0.08, 0)
        elif index:
            x = self.left + 0.3
            axes.plot([x, x], [y - _ROW + _BOX / 2, y - _BOX / 2], **style)
            _head(axes, x, y - _BOX / 2, 1)


def _bar(
    axes: Axes, x: float, y: float, width: float, height: float = 0.16, **style: object
) -> None:
    from matplotlib.patches import Rectangle

    settings = {'linewidth': 1, 'zorder': 3, **style}
    axes.add_patch(Rectangle((x, y - height / 2), width, height, **settings))  # type: ignore[arg-type]


def _head(axes: Axes, x: float, y: float, down: int) -> None:
    """Draw the head of an arrow that ends here."""
    from matplotlib.patches import Polygon

    back, side = 0.08, 0.035
    corners = [(x, y), (x - side, y - back), (x + side, y - back)]
    if not down:
        corners = [(x, y), (x - back, y - side), (x - back, y + side)]
    axes.add_patch(Polygon(corners, facecolor=GRAY, linewidth=0, zorder=3))


def _texts(row: NetworkRow) -> tuple[str, str, str, str, str]:
    """Return name, kinds, what was chosen, what was not, and the width."""
    chosen, left_out = told(row.decisions)
    names = row.name if len(row.name) <= _MOST else f'…{row.name[1 - _MOST :]}'
    kinds = ' · '.join(row.kinds)
    not_chosen = _cut(f'not {left_out}') if left_out else ''
    return names, _cut(kinds), _cut(chosen), not_chosen, widths_of(row)


def _lanes(rows: tuple[NetworkRow, ...]) -> dict[int, int]:
    """Return by row a lane for the line to the layer that it reads, if that is not above it."""
    lanes: dict[int, int] = {}
    ends: list[int] = []
    for index, row in enumerate(rows):
        above = index - 1
        while above >= 0 and rows[above].is_left_out:
            above -= 1
        if row.source < 0 or row.source >= above:
            continue
        lane = next((i for i, end in enumerate(ends) if end <= row.source), len(ends))
        ends += [0] * (lane == len(ends))
        ends[lane] = index
        lanes[index] = lane
    return lanes
