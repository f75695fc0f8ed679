"""Which mutators can be told the weights of their mixtures."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import BindingError, ConfigError, SearchSpaceError
from ..mutables import DifferentiableMutable
from ..mutators.binding import given_mixture
from ..search.guards import get_rng_state, replayed

__all__ = ['check_simplex_weights']


def _is_on_simplex(weights: torch.Tensor) -> bool:
    return bool((weights >= 0).all()) and abs(float(weights.sum()) - 1) < 1e-4


def check_simplex_weights(who: str, mutator: Any) -> None:
    """Refuse a mutator whose weights cannot be put by others from the simplex.

    Args:
        who: The extension, for messages.
        mutator: Its spaces are known.

    Raises:
        ConfigError: A mutator that draws at random, does not run all paths, or
            whose weights do not add up to 1.
        BindingError: A mutable that relaxes by itself.
        SearchSpaceError: No space has an architecture parameter.
    """
    name = type(mutator).__name__
    if mutator.samples != 'nothing' or not mutator.cost.startswith('all paths'):
        raise ConfigError(
            f'{who} gives other weights to the choices, so expected a mutator that draws '
            f'nothing and runs all paths, but {name} draws {mutator.samples} and runs '
            f'{mutator.cost}'
        )
    sizes = set()
    for space_id, space in mutator.search_spaces.items():
        mutable = space['modules'][0]
        if not getattr(mutable, 'with_arch_param', hasattr(mutable, 'build_arch_param')):
            continue
        own = getattr(type(mutable), 'compute_arch_probs', None)
        if own not in (None, DifferentiableMutable.compute_arch_probs):
            raise BindingError(
                f'In space {space_id!r}: {who} cannot give weights to a mutable that relaxes '
                f'by itself; {type(mutable).__name__} has a `compute_arch_probs` of its own'
            )
        size = len(space['choice_names'])
        given_mixture(torch.full((size,), 1 / size), space['modules'])
        sizes.add(size)
    if not sizes:
        raise SearchSpaceError(f'{who} has nothing to do: no space has an arch parameter')
    with replayed(get_rng_state()), torch.no_grad():
        for size in sorted(sizes):
            # Above 0: for some mutators these are no logits, but weights already.
            weights = mutator.relax(torch.linspace(0.5, 1.5, size))
            if not _is_on_simplex(weights):
                raise ConfigError(
                    f'{who} needs weights that are at least 0 and add up to 1, but those of '
                    f'{name} add up to {float(weights.sum()):.3f} for {size} choices'
                )
