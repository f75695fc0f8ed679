"""The state of a search, from which it goes on bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, NASError
from .checks import check_state
from .fields import check_counter, check_fields, check_names, check_optimizer_fields
from .guards import get_rng_state, set_rng_state
from .loss_scale import check_scale_fields
from .wrapped_optimizers import bare

__all__ = ['load_state', 'state_of']

_MODULES = ('supernet', 'mutator')
_OPTIMIZERS = ('weight_optimizer', 'arch_optimizer')
_COUNTERS = ('epoch', 'iteration')


def state_of(search: Any) -> dict[str, Any]:
    """Return copies of everything that a :class:`BilevelSearch` needs to go on."""
    state = {name: part.state_dict() for name, part in _parts_of(search).items()}
    state.update({name: getattr(search, name) for name in _COUNTERS})
    state['skips'] = [search.skips.total, search.skips.in_a_row]
    if search.loss_scale is not None:
        state['loss_scale'] = search.loss_scale.get_extra_state()
    return copy.deepcopy({**state, 'rng': get_rng_state()})


def load_state(search: Any, state: dict[str, Any]) -> None:
    """Let a :class:`BilevelSearch` go on where :func:`state_of` was called.

    Raises:
        ConfigError: A state of something else; nothing is loaded then.
    """
    expected = (*_MODULES, *_OPTIMIZERS, *_COUNTERS, 'rng')
    if not isinstance(state, Mapping):
        raise ConfigError(
            f'Expected the state of a BilevelSearch, but got {type(state).__name__}'
        )
    absent = [name for name in expected if name not in state]
    if absent:
        raise ConfigError(
            f'Expected the state of a BilevelSearch, but it lacks {", ".join(absent)}'
        )
    for name in _MODULES:
        check_fields(name, state[name], {})
        check_names(state[name])
        check_state(name, getattr(search, name).state_dict(), state[name])
    for name in _OPTIMIZERS:
        check_optimizer_fields(name, getattr(search, name), state[name])
    for name in _COUNTERS:
        check_counter(name, state[name])
    check_fields('rng', state['rng'], get_rng_state())
    if 'cpu' not in state['rng']:
        raise ConfigError("Expected `rng` of the saved state to have 'cpu'")
    skips = state.get('skips', [0, 0])  # States of earlier versions have none.
    if not isinstance(skips, (list, tuple)) or len(skips) != 2:
        raise ConfigError(
            f'Expected `skips` of the saved state to be two counts, but got {skips!r}'
        )
    for count in skips:
        check_counter('skips', count)
    if (search.loss_scale is None) == ('loss_scale' in state):
        here, there = ('with', 'without')[:: 1 if search.loss_scale is not None else -1]
        raise ConfigError(
            f'Expected the state of a BilevelSearch {here} a scaler, as here, but got that of '
            f'one {there} it'
        )
    if search.loss_scale is not None:
        check_scale_fields(state['loss_scale'])
    before = state_of(search)
    try:
        _load_parts(search, state)
    except Exception as error:  # A module raises whatever its state leads to.
        _load_parts(search, before)
        if isinstance(error, NASError):
            raise
        raise ConfigError(
            f'The state of the BilevelSearch cannot be loaded: {type(error).__name__}: {error}'
        ) from error
    for name in _COUNTERS:
        setattr(search, name, state[name])
    search.skips.total, search.skips.in_a_row = skips
    if search.loss_scale is not None:
        search.loss_scale.set_extra_state(state['loss_scale'])
    set_rng_state(state['rng'])


def _load_parts(search: Any, state: Mapping[str, Any]) -> None:
    for name, part in _parts_of(search).items():
        # An optimizer would go on to change the tensors that it is given.
        part.load_state_dict(copy.deepcopy(state[name]))


def _parts_of(search: Any) -> dict[str, Any]:
    parts = {name: getattr(search, name) for name in _MODULES}
    return {**parts, **{name: bare(getattr(search, name)) for name in _OPTIMIZERS}}
