"""The state of an evolution, from which it goes on as if it had not been stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import ConfigError
from .fields import check_counter, check_fields, shortened

__all__ = ['Scored', 'load_evolution', 'options_of', 'shortened', 'state_of_evolution']

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


def load_evolution(evolution: Any, state: Mapping[str, Any]) -> None:
    """Draw all generations of a state again, each from the scores of those before it.

    Raises:
        ConfigError: A field that is missing or of another type, or a state that is not
            that of this evolution; it is in between then.
    """
    epoch, scored = _checked(evolution, state)
    evolution.epoch, evolution.evaluated, evolution._known = 0, [], set()
    evolution._scores, evolution._pool = {}, None
    for entry in scored:
        _tell_again(evolution, entry)
    if evolution.epoch != epoch:
        raise ConfigError(
            f'Expected the state of an Evolution with all scores of {epoch} generations, but '
            f'{evolution.epoch} of them are whole'
        )


def _tell_again(evolution: Any, entry: Scored) -> None:
    """Take the score of a candidate, which has to be one that is asked for."""
    what = (
        f'The state is not of this search space: it has scored {shortened(entry.candidate)} in '
        f'generation {entry.epoch}'
    )
    pool = evolution._generation()
    try:
        key = evolution.key_of(entry.candidate)
    except Exception as error:  # What reads candidates raises whatever a broken one leads to.
        raise ConfigError(
            f'{what}, which is none of its candidates: {type(error).__name__}: {error}'
        ) from error
    if entry.epoch != evolution.epoch or key not in pool or key in evolution._scores:
        raise ConfigError(f'{what}, which was not asked for in its generation')
    costs = evolution._costs_of(pool[key])
    if entry.costs != costs:
        raise ConfigError(
            f'{what} with the costs {shortened(entry.costs)}, which are {costs} here'
        )
    evolution._take(key, entry.score)


def _checked(evolution: Any, state: Mapping[str, Any]) -> tuple[int, list[Scored]]:
    """Return the generation and what was evaluated up to it, if all fields are right."""
    options = _field(state, 'options', Mapping, 'a dict')
    for name, ours in options_of(evolution).items():
        if options.get(name) != ours:
            raise ConfigError(
                f'Expected the state of an evolution with {name}={ours!r}, as here, but got '
                f'one with {shortened(options.get(name))}'
            )
    epoch = check_counter('epoch', _field(state, 'epoch', object, 'an int'))
    scored = []
    for number, entry in enumerate(_field(state, 'evaluated', (list, tuple), 'a list')):
        name = f'evaluated[{number}]'
        values = [_field(entry, key, object, 'anything', f'{name}.') for key in Scored._fields]
        one = Scored(*values)
        check_counter(f'{name}.epoch', one.epoch)
        check_fields(f'{name}.score', one.score, 0.0)
        if not math.isfinite(one.score):
            raise ConfigError(
                f'Expected `{name}.score` of the saved state to be finite, but got {one.score}'
            )
        check_fields(f'{name}.costs', one.costs, {})
        scored.append(one)
    return epoch, scored


def _field(state: Any, key: str, kind: Any, what: str, path: str = '') -> Any:
    """Return an entry of a state, if it is there and of its kind."""
    if not isinstance(state, Mapping) or key not in state:
        came = f'that of {type(state).__name__}'
        if isinstance(state, Mapping):
            came = f'one of {", ".join(map(str, state)) or "nothing"}'
        raise ConfigError(
            f'Expected the state of an Evolution with `{path}{key}`, but got {shortened(came)}'
        )
    if not isinstance(state[key], kind):
        raise ConfigError(
            f'Expected `{path}{key}` of the state of an Evolution to be {what}, but got '
            f'{shortened(state[key])}'
        )
    return state[key]
