"""Random networks to compare with: of the same space, and within the same limits."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..algorithms import SPOS
from ..extensions import Budget
from ..functional import gumbel_noise
from ..typing import Subnet

__all__ = ['Draws', 'draw_from', 'draw_in', 'limits_text']


class Draws(NamedTuple):
    """Random networks.

    Attributes:
        subnets: Of the networks.
        limits: What they may cost, ``{name: (lowest, highest)}``; empty where they are drawn
            from the whole space.
    """

    subnets: list[Subnet]
    limits: dict[str, tuple[float, float]]


def draw_from(model: Any, train_cfg: Mapping[str, Any], seed: int, count: int) -> Draws:
    """Draw random networks of the space of a search, others for every seed.

    Without limits, in each space every choice is equally likely. Where the search holds the
    network found to limits, by a ``Budget`` or by the constraints of an evolution, random ones
    keep to them as well: a ``Budget`` chooses the best network by scores that are Gumbel
    noise, which without limits is that same draw, and an evolution draws until one fits.

    Args:
        model: Of a search.
        train_cfg: Of its config.
        seed: Of the run.
        count: How many.

    Raises:
        NASError: No network of the space is within the limits.
    """
    seeds = [random.Random(f'{seed}/{index}').getrandbits(31) for index in range(count)]
    options = train_cfg.get('evolution') or {}
    if options.get('constraints') and isinstance(model, SPOS):
        return _draw_paths(model, options, seeds)
    return draw_in(model.mutator, seeds)


def draw_in(space: Any, seeds: Sequence[int]) -> Draws:
    """Draw a random network for each seed, within a ``Budget`` where there is one.

    Args:
        space: A mutator that was prepared.
        seeds: Each decides on one network.
    """
    budget = Budget.of(space)
    if budget is None:
        return Draws([space.random_subnet(each) for each in seeds], {})
    limits = {name: (0.0, limit) for name, limit in budget.limits.items()}
    return Draws([_draw_within(budget, space, each) for each in seeds], limits)


def _draw_paths(model: SPOS, options: Mapping[str, Any], seeds: list[int]) -> Draws:
    kept = {key: options[key] for key in ('constraints', 'max_draws') if key in options}
    subnets, limits = [], {}
    for seed in seeds:
        evolution = model.build_evolution(seed=seed, candidate_pool_size=1, **kept)
        subnets += evolution.ask()
        limits = dict(evolution.bounds)
    return Draws(subnets, limits)


class _Noise:
    """Stands in for a mutator that prefers choices at random."""

    def __init__(self, space: Any, seed: int) -> None:
        self.search_spaces, self.arch_params = space.search_spaces, space.arch_params
        self._seed = seed

    def scores(self, space_id: str) -> Tensor:
        """Return the probabilities of the choices of one space."""
        count = len(self.search_spaces[space_id]['choice_names'])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_seed_of(self._seed, space_id))
            return gumbel_noise(torch.zeros(count, dtype=torch.float64)).softmax(0)


def _seed_of(seed: int, space_id: str) -> int:
    return random.Random(f'{seed}/{space_id}').getrandbits(63)


def _draw_within(budget: Budget, space: Any, seed: int) -> Subnet:
    chosen = budget.read_off(_Noise(space, seed), budget.allowed(space)) or {}
    subnet: Subnet = space._choose_everywhere(lambda sid: {'chosen': [*chosen[sid]]})
    return subnet


def limits_text(limits: Mapping[str, tuple[float, float]]) -> str:
    """Say in words what limits random networks were drawn within.

    >>> limits_text({'params': (0.0, 34000.0), 'flops': (1e5, 3e5)})
    'params <= 34,000, flops from 100,000 to 300,000'
    >>> limits_text({})
    ''
    """
    parts = []
    for name, (low, high) in limits.items():
        if low <= 0:
            parts.append(f'{name} <= {_short(high)}')
        elif math.isinf(high):
            parts.append(f'{name} >= {_short(low)}')
        else:
            parts.append(f'{name} from {_short(low)} to {_short(high)}')
    return ', '.join(parts)


def _short(number: float) -> str:
    return f'{number:,.0f}' if number >= 1000 else f'{number:g}'
