"""Pictures of subnets, drawn with matplotlib."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..typing import Subnet
from .canvas import CHAR, GRAY, INK, PAPER, box, check_ending, new_figure, save_figure, text
from .describe import CONCAT, OUTPUT, Cell, Choice, Edge, describe_subnet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ['draw_subnet', 'kind_color', 'subnet_figure']

_KINDS = (
    (('none', 'zero'), GRAY),
    (('skip', 'identity'), '#2e8b57'),
    (('pool',), '#d9730d'),
    (('dil',), '#8e44ad'),
    (('sep',), '#1f6fb2'),
    (('conv',), '#0f8a94'),
)
_OTHER_KIND = '#5a6472'

# All lengths are in inches.
_MARGIN, _TITLE = 0.3, 0.38
_PILL, _SUB_ROW, _ROW_GAP = 0.26, 0.36, 0.24
_NODE, _LANE, _BAR = 0.6, 0.12, 0.85
_GAP, _ARROW, _BEND = 0.38, 0.34, 0.3


def draw_subnet(subnet: Subnet, path: str | os.PathLike[str]) -> None:
    """Draw a subnet into a file, one panel for each cell.

    Args:
        subnet: As for :func:`.describe_subnet`.
        path: Ends in ``.png``, ``.svg`` or ``.pdf``; folders are made.

    Raises:
        ConfigError: Another ending, or a file that cannot be written.
        HostError: matplotlib is not installed.
        SubnetError: As for :func:`.describe_subnet`.
    """
    check_ending(path)
    save_figure(subnet_figure(subnet), path)


def subnet_figure(subnet: Subnet) -> Figure:
    """Draw a subnet as a matplotlib figure, which no window shows.

    Every node stands below and to the right of those before it.  An edge leaves
    its source downward and enters its target from the left, in a row of its
    own, where its operation is written: lines may cross, texts cannot.

    Raises:
        HostError: matplotlib is not installed.
        SubnetError: As for :func:`.describe_subnet`.
    """
    description = describe_subnet(subnet)
    panels: list[_CellPanel | _TablePanel] = [_CellPanel(cell) for cell in description.cells]
    if description.others:
        panels.append(_TablePanel(description.others))
    width = max(panel.width for panel in panels)
    height = sum(panel.height for panel in panels)
    figure = new_figure(width, height)
    top = 0.0
    for panel in panels:
        top += panel.height
        size = panel.width / width, panel.height / height
        axes = figure.add_axes((0.0, 1 - top / height, *size))
        axes.set(xlim=(0, panel.width), ylim=(panel.height, 0))
        axes.set_axis_off()
        panel.draw(axes)
    return figure


def kind_color(operation: str) -> str:
    """Return the colour of the kind of operation that a name tells of.

    >>> kind_color('max_pool_3x3') == kind_color('avg_pool_3x3')
    True
    >>> kind_color('sep_conv_3x3') == kind_color('dil_conv_3x3')
    False
    """
    for words, color in _KINDS:
        if any(word in operation.lower() for word in words):
            return color
    return _OTHER_KIND


def _label(name: str, weight: float | None) -> str:
    return name if weight is None else f'{name} {weight:.2f}'


@dataclass
class _Place:
    """Where a node stands: its left edge, its middle, and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2


class _CellPanel:
    """The staircase of one cell."""

    def __init__(self, cell: Cell) -> None:
        self.name = cell.name
        into_output = [edge for edge in cell.edges if edge.target == OUTPUT]
        concat = all(edge.operation == CONCAT for edge in into_output)
        self.concatenated = [edge.source for edge in into_output] if concat else []
        self.edges = [edge for edge in cell.edges if not concat or edge.target != OUTPUT]
        # The nearest target takes the last lane and the nearest source the first
        # row, so that neither crosses another edge of the same node.
        nodes = cell.nodes
        backward = sorted(self.edges, key=lambda edge: -nodes.index(edge.target))
        self.lanes = {
            name: [edge for edge in backward if edge.source == name] for name in nodes
        }
        backward = sorted(self.edges, key=lambda edge: -nodes.index(edge.source))
        self.rows = {name: [edge for edge in backward if edge.target == name] for name in nodes}
        longest = max(len(_label(edge.operation, edge.weight)) for edge in self.edges)
        self.pill = longest * CHAR + 0.2
        self.places: dict[str, _Place] = {}
        x, y = _MARGIN, _MARGIN + _TITLE
        for name in nodes:
            if concat and name == OUTPUT:
                continue
            rows = self.rows[name]
            height = max(len(rows) * _SUB_ROW, _SUB_ROW)
            label = (5 if name.startswith('c_') else len(name)) * CHAR + 0.2
            width = max(_NODE, label, (len(self.lanes[name]) + 1) * _LANE)
            if rows:
                x += self.pill + _ARROW
            self.places[name] = _Place(x, y + height / 2, width, height)
            x += width + _GAP
            y += height + _ROW_GAP
        self.width = x + (_BAR if concat else -_GAP) + _MARGIN
        self.height = y - _ROW_GAP + _MARGIN

    def draw(self, axes: Axes) -> None:
        text(axes, _MARGIN, _MARGIN, self.name, fontsize=13, weight='bold')
        for edge in self.edges:
            self._draw_edge(axes, edge)
        for name, place in self.places.items():
            size = place.width, place.height
            box(axes, place.x, place.y, *size, facecolor=PAPER, edgecolor=INK)
            math = {'text': f'${name}$', 'parse_math': True, 'fontsize': 11}
            style = math if name.startswith('c_') else {'text': name, 'weight': 'bold'}
            middle = place.x + place.width / 2
            text(axes, middle, place.y, **style, ha='center')
        if self.concatenated:
            self._draw_output(axes)

    def _draw_edge(self, axes: Axes, edge: Edge) -> None:
        source, target = self.places[edge.source], self.places[edge.target]
        lanes, rows = self.lanes[edge.source], self.rows[edge.target]
        x = source.x + (lanes.index(edge) + 1) / (len(lanes) + 1) * source.width
        y = target.top + (rows.index(edge) + 0.5) / len(rows) * target.height
        color = kind_color(edge.operation)
        corners = [(x, source.bottom), (x, y - _BEND), (x, y), (x + _BEND, y), (target.x, y)]
        _arrow(axes, corners, color=color, linestyle='--' if color == GRAY else '-')
        left = target.x - _ARROW - self.pill
        box(axes, left, y, self.pill, _PILL, facecolor='white', edgecolor=color)
        label = _label(edge.operation, edge.weight)
        text(axes, left + self.pill / 2, y, label, color=color, ha='center')

    def _draw_output(self, axes: Axes) -> None:
        """Draw the output as a bar at the right, which every node reaches."""
        places = [self.places[name] for name in self.concatenated]
        left = self.width - _MARGIN - _BAR
        for place in places:
            _arrow(axes, [(place.right, place.y), (left, place.y)], color=GRAY)
        height = places[-1].bottom - places[0].top
        middle = places[0].top + height / 2
        box(axes, left, middle, _BAR, height, facecolor=PAPER, edgecolor=INK)
        text(axes, left + _BAR / 2, middle - 0.09, OUTPUT, weight='bold', ha='center')
        text(axes, left + _BAR / 2, middle + 0.09, CONCAT, color=_OTHER_KIND, ha='center')


def _arrow(axes: Axes, corners: Sequence[tuple[float, float]], **style: Any) -> None:
    """Draw a line with one round bend (five corners) or none (two), and a head."""
    from matplotlib.patches import FancyArrowPatch, PathPatch
    from matplotlib.path import Path as Outline

    codes = [Outline.MOVETO, Outline.LINETO, Outline.CURVE3, Outline.CURVE3, Outline.LINETO]
    outline = Outline(corners, codes if len(corners) == 5 else codes[:2])
    # A white seam shows which of two crossing lines goes on.
    axes.add_patch(PathPatch(outline, fill=False, edgecolor='white', linewidth=5, zorder=2))
    style |= {'arrowstyle': '-|>', 'mutation_scale': 11, 'shrinkA': 0, 'shrinkB': 0}
    axes.add_patch(FancyArrowPatch(path=outline, linewidth=1.5, zorder=2, **style))


class _TablePanel:
    """The spaces that belong to no cell, one line for each choice."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        self.choices = choices
        longest_id = max(len(choice.space_id) for choice in choices)
        longest_name = max(len(_label(choice.name, choice.weight)) for choice in choices)
        self.column = _MARGIN + 0.1 + max(longest_id, len('space')) * CHAR + _GAP
        self.width = self.column + max(longest_name, len('choice')) * CHAR + 0.1 + _MARGIN
        self.height = 2 * _MARGIN + (len(choices) + 1) * _PILL

    def draw(self, axes: Axes) -> None:
        left, y = _MARGIN + 0.1, _MARGIN + _PILL / 2
        text(axes, left, y, 'space', weight='bold')
        text(axes, self.column, y, 'choice', weight='bold')
        for i, (space_id, name, weight) in enumerate(self.choices):
            y += _PILL
            if i % 2 == 0:
                box(axes, _MARGIN, y, self.width - 2 * _MARGIN, _PILL, color=PAPER, linewidth=0)
            text(axes, left, y, space_id)
            text(axes, self.column, y, _label(name, weight), color=kind_color(name))
