"""Evolutionary search over candidates that somebody else draws, costs and scores."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator

from ..checks import check_count
from ..errors import ConfigError, InputError
from .constraints import check_constraints, meets, shown
from .evolution_state import Scored, load_evolution, state_of_evolution

__all__ = ['Evolution']

_PATIENCE = 10
"""How often a child is tried for, as in MMRazor: this many times their number."""


def _key(candidate: Any) -> str:
    return json.dumps(candidate, sort_keys=True)


class Evolution:
    """Asks for the scores of candidates, generation by generation.

    SPOS (Guo et al., ECCV 2020), section 3.4, algorithm 1, with the defaults of
    the paper and of MMRazor v0.2.0.  The first generation is drawn; a later
    one consists of mutants and of children of the best candidates so far, and
    of drawn ones where those are too few.  Only candidates that meet the
    constraints are asked for, and none twice, so that generations become
    smaller, and the evolution ends, where a space has no more of them.

    A generation depends on nothing but the seed and what was evaluated in the
    generations before it.

    Args:
        sample: ``generator -> candidate``; a candidate is anything that JSON
            holds.
        mutate: ``(candidate, mutate_prob, generator) -> candidate``.
        cross: ``(candidate, candidate, generator) -> candidate``.
        costs_of: ``candidate -> {name: cost}``.
        key_of: ``candidate -> str``, equal for two that are the same.
        candidate_pool_size: Size of a generation.
        candidate_top_k: How many of the best are parents.
        max_epoch: Number of generations.
        num_mutation: How many mutants a generation has.
        num_crossover: How many children of two.
        mutate_prob: What ``mutate`` is given, from 0 to 1.
        constraints: As for :func:`check_constraints`.
        max_draws: How many drawn candidates in a row may be known or
            infeasible before a generation is taken as it is.
        seed: Of all draws, an int of at least 0.

    Raises:
        ConfigError: An option outside of its range.

    >>> steps = lambda x, prob, generator: x + 1
    >>> evolution = Evolution(
    ...     lambda _: 3,
    ...     steps,
    ...     lambda x, y, _: x + y,
    ...     num_crossover=0,
    ...     candidate_pool_size=1,
    ...     num_mutation=1,
    ...     max_epoch=3,
    ... )
    >>> evolution.run(lambda candidate: -abs(candidate - 5)).candidate
    5
    """

    def __init__(
        self,
        sample: Callable[[Generator], Any],
        mutate: Callable[[Any, float, Generator], Any],
        cross: Callable[[Any, Any, Generator], Any],
        costs_of: Callable[[Any], Mapping[str, float]] = lambda candidate: {},
        key_of: Callable[[Any], str] = _key,
        *,
        candidate_pool_size: int = 50,
        candidate_top_k: int = 10,
        max_epoch: int = 20,
        num_mutation: int = 25,
        num_crossover: int = 25,
        mutate_prob: float = 0.1,
        constraints: Mapping[str, Any] | None = None,
        max_draws: int = 1000,
        seed: int = 0,
    ) -> None:
        self.sample, self.mutate, self.cross = sample, mutate, cross
        self.costs_of, self.key_of = costs_of, key_of
        self.candidate_pool_size = check_count('candidate_pool_size', candidate_pool_size)
        self.candidate_top_k = check_count('candidate_top_k', candidate_top_k)
        self.max_epoch = check_count('max_epoch', max_epoch)
        self.num_mutation = check_count('num_mutation', num_mutation, 0)
        self.num_crossover = check_count('num_crossover', num_crossover, 0)
        if isinstance(mutate_prob, bool) or not 0 <= mutate_prob <= 1:
            raise ConfigError(
                f'Expected `mutate_prob` to be from 0 to 1, but got {mutate_prob!r}'
            )
        self.mutate_prob = mutate_prob
        self.bounds = check_constraints(constraints)
        self.max_draws = check_count('max_draws', max_draws)
        self.seed = check_count('seed', seed, 0)
        self.epoch = 0
        self.evaluated: list[Scored] = []
        self._scores: dict[str, float] = {}  # Of the generation that is being evaluated.
        self._pool: dict[str, Any] | None = None
        self._known: set[str] = set()
        self._costs: dict[str, dict[str, float]] = {}

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to evaluate."""
        return self.epoch >= self.max_epoch or not self._generation()

    @property
    def best(self) -> Scored:
        """The best candidate so far, of equal ones the first.

        Raises:
            InputError: No generation was evaluated yet.
        """
        if not self.evaluated:
            raise InputError('The evolution has evaluated no generation yet: there is no best')
        return self.top(1)[0]

    def top(self, count: int | None = None) -> list[Scored]:
        """Return the best candidates so far, by default as many as there are parents."""
        ranked = sorted(self.evaluated, key=lambda scored: -scored.score)
        return ranked[: self.candidate_top_k if count is None else count]

    @property
    def pending(self) -> list[Scored]:
        """Those of this generation that have a score."""
        pool = self._pool or {}
        return [
            Scored(self.epoch, score, self._costs_of(pool[key]), pool[key])
            for key, score in self._scores.items()
        ]

    def ask(self) -> list[Any]:
        """Return the candidates of this generation that have no score yet.

        Raises:
            ConfigError: No candidate that was drawn meets the constraints.
        """
        if self.finished:
            return []
        return [c for key, c in self._generation().items() if key not in self._scores]

    def tell(self, candidate: Any, score: float) -> None:
        """Take the score of a candidate; the last one ends the generation.

        Raises:
            InputError: The candidate was not asked for, or its score is no
                finite number.
        """
        key = self.key_of(candidate)
        if not math.isfinite(score):
            raise InputError(
                f'Expected the score of {candidate!r} to be finite, but got {score}'
            )
        pool = {} if self.finished else self._generation()
        if key not in pool or key in self._scores:
            raise InputError(f'No score of {candidate!r} was asked for')
        self._take(key, score)

    def _take(self, key: str, score: float) -> None:
        pool = self._generation()
        self._scores[key] = float(score)
        if len(self._scores) == len(pool):
            self._remember(
                [
                    Scored(self.epoch, self._scores[key], self._costs_of(candidate), candidate)
                    for key, candidate in pool.items()
                ]
            )
            self.epoch += 1

    def run(self, score: Callable[[Any], float]) -> Scored:
        """Evaluate all generations, and return the best candidate.

        Raises:
            ConfigError: No candidate that was drawn meets the constraints.
        """
        while not self.finished:
            for candidate in self.ask():
                self.tell(candidate, score(candidate))
        return self.best

    def state_dict(self) -> dict[str, Any]:
        """Return what was evaluated, as JSON holds it."""
        return state_of_evolution(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called, with more generations if one likes.

        All generations are drawn again, from the scores that the state has; so it has to
        be the state of just this evolution.

        Raises:
            ConfigError: A state with a field of another type, of other options, or of
                another space; nothing is loaded then.
        """
        kept = vars(self).copy()
        try:
            load_evolution(self, state)
        except BaseException:
            vars(self).update(kept)
            raise

    def _remember(self, scored: Sequence[Scored]) -> None:
        self.evaluated = [*self.evaluated, *scored]
        self._known = {*self._known, *(self.key_of(entry.candidate) for entry in scored)}
        self._scores, self._pool = {}, None

    def _generation(self) -> dict[str, Any]:
        """Return the candidates of this generation by their keys."""
        if self._pool is None:
            entropy = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)
            self._pool = self._breed(Generator().manual_seed(int(entropy[0])))
        return self._pool

    def _breed(self, generator: Generator) -> dict[str, Any]:
        pool: dict[str, Any] = {}
        parents = [scored.candidate for scored in self.top()]

        def mutant() -> Any:
            (parent,) = _pick(parents, 1, generator)
            return self.mutate(parent, self.mutate_prob, generator)

        def child() -> Any:
            first, second = _pick(parents, 2, generator)
            return self.cross(first, second, generator)

        if parents:
            self._add(pool, self.num_mutation, mutant, _PATIENCE * self.num_mutation)
        if len(parents) > 1:
            self._add(pool, self.num_crossover, child, _PATIENCE * self.num_crossover)
        missing = self.candidate_pool_size - len(pool)
        self._add(pool, missing, lambda: self.sample(generator), None)
        if not pool and not self.evaluated:
            raise ConfigError(
                f'None of the {len(self._costs)} different candidates in {self.max_draws} '
                f'draws meets the constraints: {shown(self.bounds, self._costs.values())}'
            )
        return pool

    def _add(
        self, pool: dict[str, Any], count: int, make: Callable[[], Any], tries: int | None
    ) -> None:
        """Add new, feasible candidates; with ``None`` stop after as many vain ones."""
        goal, left = len(pool) + count, self.max_draws if tries is None else tries
        while len(pool) < goal and left > 0:
            candidate = make()
            key = self.key_of(candidate)
            left -= 1
            if (
                key not in pool
                and key not in self._known
                and meets(self._costs_of(candidate), self.bounds)
            ):
                pool[key] = candidate
                left = self.max_draws if tries is None else left

    def _costs_of(self, candidate: Any) -> dict[str, float]:
        key = self.key_of(candidate)
        if key not in self._costs:
            self._costs[key] = {name: float(c) for name, c in self.costs_of(candidate).items()}
        return self._costs[key]


def _pick(parents: Sequence[Any], count: int, generator: Generator) -> list[Any]:
    """Return some of the parents, each at most once."""
    order = torch.randperm(len(parents), generator=generator)
    return [parents[index] for index in order[:count].tolist()]
