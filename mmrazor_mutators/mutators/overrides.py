"""What overrides written for MMRazor 0.x may return, and how they are called."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Generator, nn

from ..errors import SearchSpaceError
from ..mutables import Placeholder, traverse
from ..typing import SearchSpaces

__all__ = ['call_drawing', 'check_listed', 'holes_in', 'put_back', 'settle']

_KEYS = ('modules', 'choice_names', 'num_chosen', 'space_mask')

Hole = tuple[nn.Module, str, Placeholder]
"""``(parent, name, placeholder)``."""


def holes_in(supernet: nn.Module) -> list[Hole]:
    """Return the placeholders of a supernet and where they stand."""
    return [(p, name, m) for p, name, m in traverse(supernet) if isinstance(m, Placeholder)]


def put_back(holes: Sequence[Hole]) -> None:
    """Let placeholders stand again where they stood."""
    for parent, name, placeholder in holes:
        parent._modules[name] = placeholder


def settle(holes: Sequence[Hole]) -> None:
    """Bring what was put into holes to their device, dtype and mode."""
    for parent, name, placeholder in holes:
        filled = parent._modules.get(name)
        if filled is not None and filled is not placeholder:
            place: Any = placeholder._place
            filled.to(device=place.device, dtype=place.dtype)
            if not placeholder.training:
                filled.eval()


def check_listed(mutator: Any, spaces: Any) -> SearchSpaces:
    """Return what ``build_search_spaces`` has listed, if it can be used.

    Raises:
        SearchSpaceError: It is no mapping of entries, or an entry lacks something.
    """
    where = f'{type(mutator).__name__}.build_search_spaces'
    if not isinstance(spaces, Mapping) or not spaces:
        raise SearchSpaceError(
            f'Expected {where} to return {{space_id: {{{", ".join(map(repr, _KEYS))}}}}} with '
            f'at least one space, but got {spaces!r}'
        )
    for space_id, space in spaces.items():
        lacking = [key for key in _KEYS if not isinstance(space, Mapping) or key not in space]
        if lacking:
            raise SearchSpaceError(
                f'In space {space_id!r}: expected {where} to return an entry with '
                f'{", ".join(map(repr, _KEYS))}, but it lacks {", ".join(map(repr, lacking))}'
            )
        modules = space['modules']
        modules = list(modules) if isinstance(modules, Sequence) else [modules]
        if not modules or any(getattr(m, 'space_id', None) != space_id for m in modules):
            came = [f'{type(m).__name__} {getattr(m, "space_id", "")!r}' for m in modules]
            raise SearchSpaceError(
                f'In space {space_id!r}: expected the modules that {where} lists to be '
                f'mutables with this `space_id`, but got [{", ".join(came)}]'
            )
    return dict(spaces)


@contextmanager
def _seeded(generator: Generator) -> Iterator[None]:
    """Let all that draws from a global state draw what the generator decides."""
    seed = int(torch.randint(2**32, (1,), generator=generator, device=generator.device))
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def call_drawing(method: Callable[..., Any], *args: Any, generator: Generator | None) -> Any:
    """Call a method that draws, also one that takes no ``generator``, as in MMRazor 0.x.

    The latter draws from the global states of torch, NumPy and Python, which are then as
    they were, so that its draws depend on the generator alone.

    Args:
        method: Of a mutator.
        *args: Its other arguments.
        generator: Where to draw from; ``None`` for the global states.
    """
    parameters = inspect.signature(method).parameters
    if 'generator' in parameters:
        return method(*args, generator=generator)
    if generator is None:
        return method(*args)
    with _seeded(generator):
        return method(*args)
