"""Small figures, which stand beside each other where a page is wide and below where not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..canvas import GRAY, new_figure
from ..curves import Panel, draw_panel
from ..heat_maps import draw_space
from ..history import SpaceHistory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['evolution_figure', 'panel_figure', 'space_figure']

_BLUE, _ORANGE = '#1f6fb2', '#d9730d'

# All lengths are in inches.
_WIDTH, _ROW = 3.3, 0.17


def panel_figure(panel: Panel, epochs: np.ndarray) -> Figure:
    """Draw curves over epochs.

    Args:
        panel: From :func:`.curve_panels`.
        epochs: Of its values.
    """
    figure = new_figure(_WIDTH, 2.2)
    draw_panel(figure.add_axes((0.15, 0.17, 0.82, 0.7)), panel, epochs)
    return figure


def space_figure(space_id: str, space: SpaceHistory, limits: tuple[float, float]) -> Figure:
    """Draw the probabilities of one space over epochs.

    Args:
        space_id: Its name.
        space: Its probabilities.
        limits: The probabilities that the colours begin and end with.
    """
    rows = len(space.choices) * _ROW
    height = rows + 0.48
    figure = new_figure(_WIDTH, height)
    place = (1.22 / _WIDTH, 0.22 / height, (_WIDTH - 1.32) / _WIDTH, rows / height)
    draw_space(figure.add_axes(place), space_id, space, limits)
    return figure


def evolution_figure(evolution: Mapping[str, Any]) -> Figure:
    """Draw the scores of all paths over the generations, and the best one so far.

    Args:
        evolution: What ``evolution.json`` holds, of at least one path.
    """
    epochs = np.array([entry['epoch'] for entry in evolution['evaluated']]) + 1
    scores = np.array([entry['score'] for entry in evolution['evaluated']])
    figure = new_figure(6.4, 3.2)
    axes: Any = figure.add_axes((0.1, 0.16, 0.87, 0.7))
    generations = np.unique(epochs)
    best = np.maximum.accumulate([scores[epochs == g].max() for g in generations])
    middle = [np.median(scores[epochs == g]) for g in generations]
    axes.plot(epochs, scores, 'o', color=GRAY, markersize=4, alpha=0.6, label='one path')
    axes.plot(generations, middle, '--', color=_ORANGE, label='median of the generation')
    axes.plot(generations, best, '-', color=_BLUE, linewidth=2, label='best so far')
    axes.set(xlabel='generation', ylabel='score, %')
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, loc='lower left', bbox_to_anchor=(-0.02, 1.0), ncols=3)
    return figure
