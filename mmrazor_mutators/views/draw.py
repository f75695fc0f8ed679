"""Pictures of subnets, drawn with matplotlib."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, HostError
from ..typing import Subnet
from .describe import CONCAT, OUTPUT, Cell, Choice, Edge, describe_subnet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ['draw_subnet', 'kind_color', 'subnet_figure']

# No time of day in a file: the same subnet gives the same picture.
_FORMATS: dict[str, dict[str, Any]] = {
    '.pdf': {'metadata': {'CreationDate': None}},
    '.png': {},
    '.svg': {'metadata': {'Date': None}},
}
_RC: dict[Any, Any] = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'mmrazor_mutators',
    'pdf.fonttype': 42,
}
_DPI, _MAX_PIXELS = 200, 2**14

_GRAY, _INK, _PAPER = '#9aa0a6', '#24292f', '#f3f4f6'
_KINDS = (
    (('none', 'zero'), _GRAY),
    (('skip', 'identity'), '#2e8b57'),
    (('pool',), '#d9730d'),
    (('dil',), '#8e44ad'),
    (('sep',), '#1f6fb2'),
    (('conv',), '#0f8a94'),
)
_OTHER_KIND = '#5a6472'

# All lengths are in inches.
_FONT_SIZE = 9
_CHAR = 0.602 * _FONT_SIZE / 72  # Advance of DejaVu Sans Mono, which is 0.602 em.
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
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in _FORMATS:
        raise ConfigError(
            f'Expected the name of a picture to end in one of {", ".join(_FORMATS)}, but got '
            f'{os.fspath(path)!r}'
        )
    figure = subnet_figure(subnet)
    import matplotlib as mpl

    dpi = min(_DPI, _MAX_PIXELS / max(figure.get_size_inches()))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(_RC):
            figure.savefig(target, format=suffix[1:], dpi=dpi, **_FORMATS[suffix])
    except OSError as error:
        raise ConfigError(
            f'Cannot write the picture {os.fspath(path)!r}: {error.strerror or error}'
        ) from error


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
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise HostError(
            f'Drawing a subnet needs matplotlib, which cannot be imported here ({error}). '
            'Install it with: pip install "mmrazor-mutators[plot]"'
        ) from error
    panels: list[_CellPanel | _TablePanel] = [_CellPanel(cell) for cell in description.cells]
    if description.others:
        panels.append(_TablePanel(description.others))
    width = max(panel.width for panel in panels)
    height = sum(panel.height for panel in panels)
    figure = Figure(figsize=(width, height), facecolor='white')
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


def _text(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write names as they are: a dollar sign begins no formula."""
    style = {
        'family': ['DejaVu Sans Mono', 'monospace'],
        'usetex': False,
        'fontsize': _FONT_SIZE,
        'color': _INK,
        'va': 'center_baseline',
        'zorder': 5,
        'parse_math': False,
        **style,
    }
    axes.text(x, y, text, **style)


def _box(axes: Axes, x: float, y: float, width: float, height: float, **style: Any) -> None:
    """Add a rectangle with round corners; ``y`` is its middle."""
    from matplotlib.patches import FancyBboxPatch

    boxstyle = f'round,pad=0,rounding_size={min(0.12, height / 2)}'
    style = {'boxstyle': boxstyle, 'linewidth': 1.2, 'zorder': 4, **style}
    axes.add_patch(FancyBboxPatch((x, y - height / 2), width, height, **style))


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
        self.pill = longest * _CHAR + 0.2
        self.places: dict[str, _Place] = {}
        x, y = _MARGIN, _MARGIN + _TITLE
        for name in nodes:
            if concat and name == OUTPUT:
                continue
            rows = self.rows[name]
            height = max(len(rows) * _SUB_ROW, _SUB_ROW)
            label = (5 if name.startswith('c_') else len(name)) * _CHAR + 0.2
            width = max(_NODE, label, (len(self.lanes[name]) + 1) * _LANE)
            if rows:
                x += self.pill + _ARROW
            self.places[name] = _Place(x, y + height / 2, width, height)
            x += width + _GAP
            y += height + _ROW_GAP
        self.width = x + (_BAR if concat else -_GAP) + _MARGIN
        self.height = y - _ROW_GAP + _MARGIN

    def draw(self, axes: Axes) -> None:
        _text(axes, _MARGIN, _MARGIN, self.name, fontsize=13, weight='bold')
        for edge in self.edges:
            self._draw_edge(axes, edge)
        for name, place in self.places.items():
            size = place.width, place.height
            _box(axes, place.x, place.y, *size, facecolor=_PAPER, edgecolor=_INK)
            math = {'text': f'${name}$', 'parse_math': True, 'fontsize': 11}
            style = math if name.startswith('c_') else {'text': name, 'weight': 'bold'}
            middle = place.x + place.width / 2
            _text(axes, middle, place.y, **style, ha='center')
        if self.concatenated:
            self._draw_output(axes)

    def _draw_edge(self, axes: Axes, edge: Edge) -> None:
        source, target = self.places[edge.source], self.places[edge.target]
        lanes, rows = self.lanes[edge.source], self.rows[edge.target]
        x = source.x + (lanes.index(edge) + 1) / (len(lanes) + 1) * source.width
        y = target.top + (rows.index(edge) + 0.5) / len(rows) * target.height
        color = kind_color(edge.operation)
        corners = [(x, source.bottom), (x, y - _BEND), (x, y), (x + _BEND, y), (target.x, y)]
        _arrow(axes, corners, color=color, linestyle='--' if color == _GRAY else '-')
        left = target.x - _ARROW - self.pill
        _box(axes, left, y, self.pill, _PILL, facecolor='white', edgecolor=color)
        label = _label(edge.operation, edge.weight)
        _text(axes, left + self.pill / 2, y, label, color=color, ha='center')

    def _draw_output(self, axes: Axes) -> None:
        """Draw the output as a bar at the right, which every node reaches."""
        places = [self.places[name] for name in self.concatenated]
        left = self.width - _MARGIN - _BAR
        for place in places:
            _arrow(axes, [(place.right, place.y), (left, place.y)], color=_GRAY)
        height = places[-1].bottom - places[0].top
        middle = places[0].top + height / 2
        _box(axes, left, middle, _BAR, height, facecolor=_PAPER, edgecolor=_INK)
        _text(axes, left + _BAR / 2, middle - 0.09, OUTPUT, weight='bold', ha='center')
        _text(axes, left + _BAR / 2, middle + 0.09, CONCAT, color=_OTHER_KIND, ha='center')


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
        self.column = _MARGIN + 0.1 + max(longest_id, len('space')) * _CHAR + _GAP
        self.width = self.column + max(longest_name, len('choice')) * _CHAR + 0.1 + _MARGIN
        self.height = 2 * _MARGIN + (len(choices) + 1) * _PILL

    def draw(self, axes: Axes) -> None:
        left, y = _MARGIN + 0.1, _MARGIN + _PILL / 2
        _text(axes, left, y, 'space', weight='bold')
        _text(axes, self.column, y, 'choice', weight='bold')
        for i, (space_id, name, weight) in enumerate(self.choices):
            y += _PILL
            if i % 2 == 0:
                _box(
                    axes, _MARGIN, y, self.width - 2 * _MARGIN, _PILL, color=_PAPER, linewidth=0
                )
            _text(axes, left, y, space_id)
            _text(axes, self.column, y, _label(name, weight), color=kind_color(name))
