"""The state of an evolution, from which it goes on as if it had not been stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import ConfigError

__all__ = ['Scored', 'load_evolution', 'options_of', 'state_of_evolution']

_OPTIONS = (
    'candidate_pool_size',
    'candidate_top_k',
    'num_mutation',
    'num_crossover',
    'mutate_prob',
    'max_draws',
    'seed',
)


class Scored(NamedTuple):
    """A candidate that was evaluated.

    Attributes:
        epoch: In which generation, from 0.
        score: The larger, the better.
        costs: ``{name: cost}``.
        candidate: What was evaluated.
    """

    epoch: int
    score: float
    costs: dict[str, float]
    candidate: Any


def options_of(evolution: Any) -> dict[str, Any]:
    """Return all options that decide on a generation, which the number of them does not."""
    bounds = {
        name: [low, None if math.isinf(high) else high]
        for name, (low, high) in evolution.bounds.items()
    }
    return {**{name: getattr(evolution, name) for name in _OPTIONS}, 'constraints': bounds}


def state_of_evolution(evolution: Any) -> dict[str, Any]:
    """Return what was evaluated, as JSON holds it."""
    scored = (*evolution.evaluated, *evolution.pending)
    return {
        'options': options_of(evolution),
        'epoch': evolution.epoch,
        'evaluated': [entry._asdict() for entry in scored],
    }


def load_evolution(
    evolution: Any, state: Mapping[str, Any]
) -> tuple[int, list[Scored], list[Scored]]:
    """Return the generation, those evaluated before it, and those evaluated in it.

    Raises:
        ConfigError: No state of an evolution, or of one with other options.
    """
    try:
        options, epoch = dict(state['options']), int(state['epoch'])
        scored = [Scored(**entry) for entry in state['evaluated']]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f'Expected the state of an Evolution, but {type(error).__name__}: {error}'
        ) from error
    for name, ours in options_of(evolution).items():
        if options.get(name) != ours:
            raise ConfigError(
                f'Expected the state of an evolution with {name}={ours!r}, as here, but got '
                f'one with {options.get(name)!r}'
            )
    before = [entry for entry in scored if entry.epoch < epoch]
    return epoch, before, scored[len(before) :]
