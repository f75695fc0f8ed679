"""The state of a search, from which it goes on bit for bit."""

from __future__ import annotations

import copy
from typing import Any

from ..errors import ConfigError
from .checks import check_optimizer_state, check_state
from .guards import get_rng_state, set_rng_state
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
    return copy.deepcopy({**state, 'rng': get_rng_state()})


def load_state(search: Any, state: dict[str, Any]) -> None:
    """Let a :class:`BilevelSearch` go on where :func:`state_of` was called.

    Raises:
        ConfigError: A state of something else; nothing is loaded then.
    """
    expected = (*_MODULES, *_OPTIMIZERS, *_COUNTERS, 'rng')
    absent = [name for name in expected if name not in state]
    if absent:
        raise ConfigError(
            f'Expected the state of a BilevelSearch, but it lacks {", ".join(absent)}'
        )
    for name in _MODULES:
        check_state(name, getattr(search, name).state_dict(), state[name])
    for name in _OPTIMIZERS:
        check_optimizer_state(name, getattr(search, name), state[name])
    for name, part in _parts_of(search).items():
        # An optimizer would go on to change the tensors that it is given.
        part.load_state_dict(copy.deepcopy(state[name]))
    for name in _COUNTERS:
        setattr(search, name, state[name])
    # States of earlier versions have none.
    search.skips.total, search.skips.in_a_row = state.get('skips', (0, 0))
    set_rng_state(state['rng'])


def _parts_of(search: Any) -> dict[str, Any]:
    parts = {name: getattr(search, name) for name in _MODULES}
    return {**parts, **{name: bare(getattr(search, name)) for name in _OPTIMIZERS}}
