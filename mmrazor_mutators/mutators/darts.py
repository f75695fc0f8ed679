"""DARTS: weights by softmax, and the largest of them wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..builder import MUTATORS
from ..errors import SearchSpaceError
from ..functional import top_names
from ..mutables import mutables_inside
from ..typing import Subnet
from .base import check_ignored
from .differentiable import DifferentiableMutator

__all__ = ['DartsMutator']


@MUTATORS.register_module()
class DartsMutator(DifferentiableMutator):
    r"""Mixes by :math:`w = \mathrm{softmax}(\alpha)` and keeps the largest.

    DARTS (Liu et al., ICLR 2019), sections 2.2 and 2.4.  In each space the
    choice with the largest weight wins; a node without architecture
    parameters of its own keeps the ``num_chosen`` inputs whose best operation
    weighs most.  Choices in ``ignore_choices`` never win.

    Args:
        ignore_choices: Names of choices that a subnet never keeps.
        **kwargs: As for :class:`BaseMutator`.

    >>> import torch
    >>> import mmrazor_mutators as mm
    >>> choices = dict(none=torch.nn.Identity(), skip=torch.nn.Identity())
    >>> supernet = mm.DifferentiableOP(space_id='a', choices=choices)
    >>> mutator = mm.DartsMutator()
    >>> mutator.prepare_from_supernet(supernet)
    >>> mutator.search_subnet()['a']['chosen']
    ['skip']
    """

    paper = 'Liu et al., ICLR 2019'

    def __init__(self, ignore_choices: Sequence[str] = ('zero', 'none'), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_choices = check_ignored(ignore_choices)

    def choice_probs(self, arch_param: Tensor) -> Tensor:
        """Return the scores by which choices are compared, within and across spaces.

        Args:
            arch_param: Logits, shape ``(num_choices,)``.

        Returns:
            Scores, shape ``(num_choices,)``, without any randomness.
        """
        return arch_param.softmax(-1)

    def search_subnet(self) -> Subnet:
        """Keep the best choice of every space, and of every node its best inputs.

        Raises:
            BindingError: No supernet was prepared.
            SearchSpaceError: ``ignore_choices`` leaves nothing to choose.
        """
        return self._read_off(self._chosen_by_extension)

    def best_subnet(self) -> Subnet:
        """Return what :meth:`search_subnet` does where no extension chooses, as a budget does.

        Raises:
            BindingError: No supernet was prepared.
            SearchSpaceError: ``ignore_choices`` leaves nothing to choose.
        """
        return self._read_off(lambda allowed: None)

    def _read_off(
        self, ask: Callable[[Mapping[str, Sequence[str]]], Mapping[str, Sequence[str]] | None]
    ) -> Subnet:
        self._check_spaces()
        scores = {
            space_id: self._scores(space_id)
            for space_id in self.search_spaces
            if space_id in self.arch_params
        }
        vetoed: set[tuple[str, str]] = set()
        while True:
            allowed = {
                space_id: self._eligible(space_id, [n for s, n in vetoed if s == space_id])
                for space_id in self.search_spaces
            }

            given = ask(allowed) or {}

            def choose(
                space_id: str, allowed: Any = allowed, given: Any = given
            ) -> dict[str, Any]:
                rated = self.rate(space_id, allowed, scores)
                count = self.search_spaces[space_id]['num_chosen']
                chosen = list(given.get(space_id) or self.select(rated, count))
                return {'chosen': chosen, 'chosen_probs': [rated[name] for name in chosen]}

            subnet = self._choose_everywhere(choose)
            objections = self._objections(subnet) - vetoed
            if not objections:
                return subnet
            vetoed |= objections

    def scores(self, space_id: str) -> Tensor:
        """Return :meth:`choice_probs` of a space, 0 where a choice was dropped.

        Args:
            space_id: One with an architecture parameter.

        Returns:
            Shape ``(num_choices,)``, with a graph.
        """
        names, logits = self._names_in(space_id), self.arch_params[space_id]
        return self._dropped.relax(space_id, names, logits, self.choice_probs)

    def _scores(self, space_id: str) -> dict[str, float]:
        names = self._names_in(space_id)
        scores = dict(zip(names, self.scores(space_id).tolist(), strict=True))
        if not all(map(math.isfinite, scores.values())):
            raise SearchSpaceError(
                f'In space {space_id!r}: the choices cannot be compared, because their scores '
                f'are {list(scores.values())}; the search has diverged'
            )
        return scores

    def rate(
        self,
        space_id: str,
        allowed: Mapping[str, Sequence[str]],
        scores: Mapping[str, Mapping[str, float]],
    ) -> dict[str, float]:
        """Return how good each choice of a space is that a subnet may keep.

        Args:
            space_id: The space.
            allowed: For every space the choices that a subnet may keep.
            scores: For every space with an architecture parameter
                :meth:`choice_probs` by name.
        """
        if space_id in scores:
            return {name: scores[space_id][name] for name in allowed[space_id]}
        return {
            name: self.content_score(space_id, name, allowed, scores)
            for name in allowed[space_id]
        }

    def select(self, rated: Mapping[str, float], count: int) -> list[str]:
        """Return the best ``count`` of rated choices, best first."""
        return top_names(rated, count)

    def content_score(
        self,
        space_id: str,
        name: str,
        allowed: Mapping[str, Sequence[str]],
        scores: Mapping[str, Mapping[str, float]],
    ) -> float:
        """Rate an input of a node by the best operation that may stand on it.

        Raises:
            SearchSpaceError: Nothing that stands on it has been rated.
        """
        mutable = self.search_spaces[space_id]['modules'][0]
        inside = [inner.space_id for inner in mutables_inside(mutable, name)]
        best = [
            scores[inner][choice]
            for inner in inside
            if inner in scores
            for choice in allowed[inner]
        ]
        if not best:
            raise SearchSpaceError(
                f'In space {space_id!r}: the choice {name!r} cannot be rated, because neither '
                'the space nor anything inside of the choice has an architecture parameter; '
                'set with_arch_param=True'
            )
        return max(best)
