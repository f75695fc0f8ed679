"""How a search, a training and an evolution went."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..curves import curve_panels
from ..heat_maps import probability_range
from ..history import SpaceHistory
from ..network_rows import short
from .drawing import Drawing, Picture
from .figures import evolution_figure, panel_figure, space_figure
from .logs import training_panels
from .records import Records

__all__ = ['curves_of', 'evolution_of', 'spaces_of', 'training_of']

_BEST = 10
"""How many paths of an evolution a page lists."""

_MOST_SPACES = 60
"""How many spaces a page shows the probabilities of."""


def curves_of(records: Records, draw: Drawing) -> list[Picture]:
    """Return the curves of a search."""
    history = records.history
    if history is None:
        return []
    pictures = []
    for panel in curve_panels(history):
        label = f'Curve over the epochs of the search: {panel[0]}'
        pictures += draw(label, '', panel_figure, panel, history.epochs['epoch'])
    return pictures


def training_of(records: Records, draw: Drawing) -> list[Picture]:
    """Return the curves of a training."""
    if records.retraining is None:
        return []
    panels, epochs = training_panels(records.retraining.folder)
    pictures = []
    for panel in panels:
        label = f'Curve over the epochs of the training: {panel[0]}'
        pictures += draw(label, '', panel_figure, panel, epochs)
    return pictures


def spaces_of(records: Records, draw: Drawing) -> dict[str, Any] | None:
    """Return heat maps, those of the least decided spaces first."""
    history = records.history
    if history is None or not history.spaces:
        return None
    learnt = {sid: space for sid, space in history.spaces.items() if space.is_learnt}
    ordered = sorted(learnt, key=lambda sid: learnt[sid].margins[-1])
    ordered += [sid for sid in history.spaces if sid not in learnt]
    pictures = []
    for space_id in ordered[:_MOST_SPACES]:
        space = history.spaces[space_id]
        alike = {
            sid: other
            for sid, other in history.spaces.items()
            if len(other.choices) == len(space.choices)
        }
        limits = probability_range(replace(history, spaces=alike))
        label = f'Probabilities of the choices of {space_id} over the epochs'
        caption = _leader(space, limits)
        pictures += draw(label, caption, space_figure, space_id, space, limits)
    return {'pictures': pictures, 'count': len(ordered)}


def _leader(space: SpaceHistory, limits: tuple[float, float]) -> str:
    """Say which choice leads, and what the colours mean."""
    last = space.probabilities[-1]
    if space.leader is None:
        return ''
    if not space.is_learnt:
        return f'{space.leader} was chosen'
    told = f'{space.leader} leads with {np.nanmax(last):.3g}'
    return f'{told}; colours from {limits[0]:.2g} to {limits[1]:.2g}'


def evolution_of(records: Records, draw: Drawing) -> dict[str, Any] | None:
    """Return the scores of an evolution, as a picture and as a table of the best."""
    evolution = records.evolution
    if not evolution or not evolution['evaluated']:
        return None
    evaluated = sorted(evolution['evaluated'], key=lambda entry: -entry['score'])
    costs = [*evaluated[0]['costs']]
    rows = [
        (
            str(number + 1),
            f'{entry["score"]:.2f}%',
            str(entry['epoch'] + 1),
            *[short(entry['costs'].get(name, 0)) for name in costs],
        )
        for number, entry in enumerate(evaluated[:_BEST])
    ]
    names = [{'flops': 'multiply-adds', 'params': 'parameters'}.get(n, str(n)) for n in costs]
    caption = 'Scores of the paths, with the weights of the supernet.'
    return {
        'pictures': draw('Scores over generations', caption, evolution_figure, evolution),
        'count': len(evaluated),
        'generations': evolution.get('epoch'),
        'columns': ['place', 'score', 'generation', *names],
        'rows': rows,
    }
