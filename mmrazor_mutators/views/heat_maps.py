"""Heat maps: how the probabilities of choices moved while a search went on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, did_you_mean
from .canvas import GRAY, INK, PAPER, new_figure
from .history import History, SpaceHistory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    'SPACES_PER_PAGE',
    'draw_heat_maps',
    'draw_space',
    'heat_map_figures',
    'heat_map_height',
    'probability_range',
]

SPACES_PER_PAGE = 24
"""How many spaces a page shows: enough for a cell of DARTS, few enough to be read."""

_COLUMNS = 3
_ROW, _GAP, _TOP, _LEGEND = 0.16, 0.52, 0.62, 0.55
_WIDTH, _LABELS, _LETTER = 11.0, 1.25, 0.068
_MAP = 'YlGnBu'


def heat_map_figures(
    history: History,
    space_ids: Sequence[str] | None = None,
    per_page: int = SPACES_PER_PAGE,
) -> list[Figure]:
    """Draw one heat map for each space, its choices over the epochs.

    The darker, the likelier, from the least to the largest probability of all spaces that are
    learnt; what would be chosen in the others is darkest. Cells are hatched where a choice had
    left the search. Dots mark the leader.

    Args:
        history: Of a search.
        space_ids: Which spaces, in their order; by default all that were learnt, then the
            others.
        per_page: How many in a figure.

    Returns:
        As many figures as it takes; none without spaces.

    Raises:
        InputError: A space that the history does not know.
        HostError: matplotlib is not installed.
    """
    if space_ids is None:
        space_ids = sorted(history.spaces, key=lambda sid: not history.spaces[sid].is_learnt)
    for space_id in space_ids:
        if space_id not in history.spaces:
            raise InputError(
                f'The history has no space {space_id!r}; '
                f'{did_you_mean(space_id, history.spaces)}'
            )
    count = -(-len(space_ids) // per_page)
    figures = []
    for page in range(count):
        shown = [(s, history.spaces[s]) for s in space_ids[page * per_page :][:per_page]]
        height = heat_map_height(shown)
        figure = new_figure(_WIDTH, height)
        title = 'Probabilities of the choices' + (f', page {page + 1} of {count}' * (count > 1))
        draw_heat_maps(figure, shown, probability_range(history), 0.0, title)
        figures.append(figure)
    return figures


def heat_map_height(spaces: Sequence[tuple[str, SpaceHistory]]) -> float:
    """Return how many inches the heat maps of spaces take."""
    return _TOP + sum(_row_heights(spaces)) + _LEGEND


def probability_range(history: History) -> tuple[float, float]:
    """Return the least and the largest probability of the spaces that are learnt.

    Args:
        history: Of a search.
    """
    tables = [space.probabilities for space in history.spaces.values() if space.is_learnt]
    values = np.concatenate([table[np.isfinite(table)] for table in tables] or [np.zeros(0)])
    if not values.size or values.min() == values.max():
        return 0.0, 1.0
    return float(values.min()), float(values.max())


def draw_heat_maps(
    figure: Figure,
    spaces: Sequence[tuple[str, SpaceHistory]],
    limits: tuple[float, float],
    top: float,
    title: str,
) -> None:
    """Draw heat maps into a part of a figure that is as wide as it.

    Args:
        figure: Of the width of :func:`heat_map_figures`.
        spaces: What to draw.
        limits: The probabilities that the colours begin and end with.
        top: Inches above, which are left free.
        title: Of this part.
    """
    width, height = figure.get_size_inches()
    heights, y = _row_heights(spaces), top + _TOP
    _write(figure, 0.3, top + 0.26, title, fontsize=13, weight='bold')
    image = None
    for row, tall in enumerate(heights):
        for column, (space_id, space) in enumerate(spaces[row * _COLUMNS :][:_COLUMNS]):
            size = len(space.choices) * _ROW
            cell = (width - 0.3) / _COLUMNS
            left = 0.3 + column * cell + _LABELS
            place = (left / width, 1 - (y + size) / height)
            inner = cell - _LABELS - 0.2
            axes = figure.add_axes((*place, inner / width, size / height))
            drawn = draw_space(axes, space_id, space, limits)
            image = drawn if space.is_learnt else image
        y += tall
    if image is not None:
        _draw_legend(figure, image, y)


def _row_heights(spaces: Sequence[tuple[str, SpaceHistory]]) -> list[float]:
    rows = [spaces[start : start + _COLUMNS] for start in range(0, len(spaces), _COLUMNS)]
    return [max(len(space.choices) for _, space in row) * _ROW + _GAP for row in rows]


def draw_space(
    axes: Axes, space_id: str, space: SpaceHistory, limits: tuple[float, float]
) -> Any:
    """Draw the heat map of one space, and return it as what a legend is drawn from.

    Args:
        axes: Where to; as high as it has choices.
        space_id: Its title.
        space: What to draw.
        limits: The probabilities that the colours begin and end with.
    """
    count, choices = len(space.epochs), len(space.choices)
    axes.patch.set(facecolor=PAPER, edgecolor=GRAY, hatch='////', linewidth=0.0)
    low, high = limits if space.is_learnt else (0.0, 1.0)
    image = axes.imshow(
        np.ma.masked_invalid(space.probabilities.T),
        aspect='auto',
        interpolation='nearest',
        cmap=_MAP,
        vmin=low,
        vmax=high,
        extent=(-0.5, count - 0.5, choices - 0.5, -0.5),
    )
    _mark_leaders(axes, space)
    axes.set_yticks(range(choices), [_short(name, 17) for name in space.choices])
    places = sorted({0, (count - 1) // 2, count - 1})
    axes.set_xticks(places, [str(int(space.epochs[place])) for place in places])
    axes.tick_params(length=0, pad=3, labelsize=7, labelcolor=INK)
    for label in (*axes.get_yticklabels(), *axes.get_xticklabels()):
        label.set_parse_math(False)
    for side in axes.spines.values():
        side.set(color=GRAY, linewidth=0.6)
    title = _short(space_id, 34)
    if not space.is_learnt:
        title += ' (chosen)'
    axes.set_title(title, fontsize=8, loc='left', color=INK, pad=3, parse_math=False)
    return image


def _mark_leaders(axes: Axes, space: SpaceHistory) -> None:
    """Put a dot on the leader, where it changes and at the end."""
    if not space.is_learnt:
        return
    leaders = [
        int(np.nanargmax(row)) if np.isfinite(row).any() else -1 for row in space.probabilities
    ]
    last = len(leaders) - 1
    marked = [
        (epoch, leader)
        for epoch, leader in enumerate(leaders)
        if leader >= 0 and (epoch == last or leader != leaders[epoch - 1] or epoch == 0)
    ]
    x, y = zip(*marked, strict=True) if marked else ((), ())
    axes.scatter(x, y, s=7, c='white', edgecolors=INK, linewidths=0.5, zorder=3, clip_on=False)


def _draw_legend(figure: Figure, image: Any, y: float) -> None:
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0.3 / width, 1 - (y + 0.12) / height, 2.4 / width, 0.12 / height))
    bar = figure.colorbar(image, cax=axes, orientation='horizontal')
    bar.ax.tick_params(length=0, labelsize=7, labelcolor=INK)
    bar.outline.set(edgecolor=GRAY, linewidth=0.6)
    note = (
        'probability; dots: the leader at first, where it changes, and at the end; hatched: '
        'left the search'
    )
    _write(figure, 2.9, y + 0.06, note, fontsize=8)


def _write(figure: Figure, x: float, y: float, words: str, **style: Any) -> None:
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, words, color=INK, va='center', **style)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f'{name[: most - 1]}…'
