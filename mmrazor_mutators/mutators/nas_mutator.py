"""MMRazor 1.0's one mutator for mutables that mix and mutables that run one choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..builder import MUTATORS
from ..distributed import same_draws
from ..errors import BindingError, ConfigError, SearchSpaceError, SubnetError
from ..mutables import MutableEdge, MutableModule, OneHotMutableOP, OneShotOP
from ..typing import Mixture
from .darts import DartsMutator
from .dsnas import fix_if_decided
from .grouping import FormerName, check_groups, name_spaces, rename, restore_names
from .masks import drawing_weights

__all__ = ['NasMutator']

Choices = dict[str, str | list[str]]
"""``{space_id: name}``, for edges ``{space_id: [names]}``."""


@MUTATORS.register_module()
class NasMutator(DartsMutator):
    """Mixes differentiable mutables as DARTS does, and runs one choice of one-shot ones.

    It has the calls of MMRazor 1.0's mutator of this name.  What differs:
    spaces are called by their alias (``space_id``), or after the place of a
    mutable that has none, not ``module_0``; ``arch_params`` are there from
    ``prepare_from_supernet`` on; ``ignore_choices`` are never chosen.  A
    :class:`OneHotMutableOP` runs the choice that it draws.  For a supernet with
    one-shot mutables alone :class:`OneShotMutator` does more.

    Args:
        custom_groups: Lists of names; the mutables in a list share one space,
            which has the name of the first.  A name is an alias or the place of
            a module.
        **kwargs: As for :class:`DartsMutator`.

    Raises:
        ConfigError: ``custom_groups`` of another form.

    >>> import mmrazor_mutators as mm
    >>> choices = dict(skip=nn.Identity(), relu=nn.ReLU())
    >>> supernet = nn.Sequential(
    ...     mm.DiffMutableOP(choices, alias='a'), mm.OneShotMutableOP(choices)
    ... )
    >>> mutator = mm.NasMutator()
    >>> mutator.prepare_from_supernet(supernet)
    >>> list(mutator.search_groups), list(mutator.arch_params)
    (['a', '1'], ['a'])
    >>> mutator.set_choices({'a': 'skip', '1': 'relu'})
    >>> mutator.current_choices
    {'a': 'skip', '1': 'relu'}
    """

    paper = 'Liu et al., ICLR 2019'
    samples = 'what its mutables say'
    cost = 'what its mutables say'

    def __init__(
        self, custom_groups: Sequence[Sequence[str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.custom_groups = check_groups(custom_groups)
        self._choices: dict[str, tuple[str, ...]] = {}
        # What the mutables were called before; None as long as none was named here.
        self._renamed: list[FormerName] | None = None

    def prepare_from_supernet(self, supernet: nn.Module) -> None:
        """Name the spaces, and bind an architecture parameter where one is wanted.

        Raises:
            BindingError: See :class:`DifferentiableMutator`.
            SearchSpaceError: See :func:`name_spaces` and :class:`BaseMutator`;
                the supernet is then as it was.
        """
        prepared_before = bool(self.search_spaces)
        try:
            super().prepare_from_supernet(supernet)
        except BaseException:
            if not prepared_before:
                self._restore_names()
            raise

    def _list_spaces(self, supernet: nn.Module) -> None:
        # What is left of a deployed supernet keeps its names.
        if self._renamed is None:
            self._renamed = rename(name_spaces(supernet, self.custom_groups))
        super()._list_spaces(supernet)

    def _restore_names(self) -> None:
        restore_names(self._renamed or [])
        self._renamed = None

    def release(self, supernet: nn.Module) -> None:
        """Take everything back that was lent or noted; ``arch_params`` stay here.

        Raises:
            BindingError: This mutator was not prepared from ``supernet``.
        """
        self._check_prepared(supernet)
        for space_id in filter(self._is_one_shot, self.search_spaces):
            for mutable in self.search_spaces[space_id]['modules']:
                mutable.choice_mask = mutable.build_choice_mask()
        super().release(supernet)
        self._restore_names()
        self._choices = {}

    def prepare_arch_params(self) -> None:
        """Do nothing: :meth:`prepare_from_supernet` has made and bound ``arch_params``.

        Raises:
            BindingError: No supernet was prepared.
        """
        self._check_spaces()

    @property
    def search_groups(self) -> dict[str, list[MutableModule]]:
        """The mutables of each space.

        Raises:
            BindingError: No supernet was prepared.
        """
        self._check_spaces()
        return {sid: list(space['modules']) for sid, space in self.search_spaces.items()}

    @property
    def current_choices(self) -> dict[str, str | list[str] | None]:
        """What :meth:`set_choices` was given last, ``None`` before.

        Raises:
            BindingError: No supernet was prepared.
        """
        self._check_spaces()
        return {
            space_id: self._as_choice(space_id, self._choices[space_id])
            if space_id in self._choices
            else None
            for space_id in self.search_spaces
        }

    def sample_choices(self, kind: str = 'random') -> Choices:
        """Return a choice for every space.

        Args:
            kind: ``'random'``: of one-shot mutables one is drawn uniformly.
                With ``'max'`` or ``'min'`` they are refused, as operations have
                no order.  The choice of every other space is its best one, the
                same for all kinds.

        Raises:
            BindingError: No supernet was prepared.
            ConfigError: Another kind.
            SearchSpaceError: ``'max'`` or ``'min'`` with one-shot mutables, or
                ``ignore_choices`` leaves nothing to choose.
        """
        self._check_spaces()
        if kind not in ('random', 'max', 'min'):
            raise ConfigError(
                f"Expected `kind` to be 'random', 'max' or 'min', but got {kind!r}"
            )
        one_shot = [sid for sid in self.search_spaces if self._is_one_shot(sid)]
        if one_shot and kind != 'random':
            raise SearchSpaceError(
                f'There is no {kind!r} of the operations in the space {one_shot[0]!r}; '
                "choose with kind='random' or set_choices"
            )
        allowed = {space_id: self._eligible(space_id) for space_id in self.search_spaces}
        scores = {
            sid: self._scores(sid) for sid in self.search_spaces if sid in self.arch_params
        }
        drawn = self._draw(one_shot)
        return {
            space_id: self._as_choice(
                space_id,
                drawn[space_id]
                if space_id in drawn
                else self.select(
                    self.rate(space_id, allowed, scores),
                    self.search_spaces[space_id]['num_chosen'],
                ),
            )
            for space_id in self.search_spaces
        }

    def set_choices(self, choices: Mapping[str, str | Sequence[str]]) -> None:
        """Note a choice for every space; one-shot mutables run theirs from then on.

        Mutables with an architecture parameter go on mixing: what was noted for
        them shows in :attr:`current_choices` alone, and :meth:`search_subnet`
        reads the best off the parameters.

        Args:
            choices: ``{space_id: name}`` or ``{space_id: [names]}``.

        Raises:
            BindingError: No supernet was prepared.
            SubnetError: A space that is missing or unknown, or a choice that it
                does not have; nothing is changed then.
        """
        self._check_spaces()
        if not isinstance(choices, Mapping) or choices.keys() != self.search_spaces.keys():
            came = ', '.join(map(str, choices)) if isinstance(choices, Mapping) else choices
            raise SubnetError(
                f'Expected a choice for each of the spaces {", ".join(self.search_spaces)}, '
                f'but got some for {came}'
            )
        noted = {sid: self._names_of(sid, choices[sid]) for sid in self.search_spaces}
        self._choices = noted
        for space_id in filter(self._is_one_shot, noted):
            for mutable in self.search_spaces[space_id]['modules']:
                runs = [name in noted[space_id] for name in mutable.full_choice_names]
                mutable.choice_mask = torch.tensor(runs)

    def rate(
        self,
        space_id: str,
        allowed: Mapping[str, Sequence[str]],
        scores: Mapping[str, Mapping[str, float]],
    ) -> dict[str, float]:
        """Return how good each choice of a space is; a one-shot choice that is set has 1.

        Raises:
            BindingError: No choice was set for a one-shot space.
        """
        if not self._is_one_shot(space_id):
            return super().rate(space_id, allowed, scores)
        if space_id not in self._choices:
            raise BindingError(
                f'No choice was made in the one-shot space {space_id!r}: call '
                'set_choices(sample_choices()), or set_choices with what was found'
            )
        return {name: float(name in self._choices[space_id]) for name in allowed[space_id]}

    def on_epoch(self, epoch: int, max_epochs: int) -> None:
        """Move every schedule to an epoch, and fix one-hot spaces that are decided."""
        super().on_epoch(epoch, max_epochs)
        for space_id in () if self.restoring else list(self.search_spaces):
            mutable = self.search_spaces[space_id]['modules'][0]
            if isinstance(mutable, OneHotMutableOP) and space_id in self.arch_params:
                fix_if_decided(self, space_id, mutable.fix_threshold)

    def _mixtures(self, arch_params: Mapping[str, Tensor]) -> dict[str, Mixture]:
        mixtures = super()._mixtures(arch_params)
        one_hot = [
            sid
            for sid in mixtures
            if isinstance(self.search_spaces[sid]['modules'][0], OneHotMutableOP)
        ]
        if one_hot:
            # One look at the device for all spaces.
            drawn = torch.stack([mixtures[sid].weights.detach().argmax() for sid in one_hot])
            for space_id, index in zip(one_hot, drawn.tolist(), strict=True):
                mixtures[space_id] = Mixture(mixtures[space_id].weights, (index,))
        return mixtures

    def _draw(self, space_ids: Sequence[str]) -> dict[str, list[str]]:
        """Draw choices uniformly, the same on all ranks."""
        drawn = {}
        for space_id in space_ids:
            mutable = self.search_spaces[space_id]['modules'][0]
            weights = drawing_weights(self.search_spaces[space_id], self._eligible(space_id))
            with same_draws(mutable.choice_mask.device):
                indices = torch.multinomial(weights, mutable.num_chosen).tolist()
            drawn[space_id] = [mutable.full_choice_names[index] for index in indices]
        return drawn

    def _names_of(self, space_id: str, choice: Any) -> tuple[str, ...]:
        space = self.search_spaces[space_id]
        names = space['modules'][0].check_chosen(
            [choice] if isinstance(choice, str) else choice
        )
        ignored = [name for name in names if name in self.ignore_choices]
        if ignored or len(names) > space['num_chosen']:
            raise SubnetError(
                f'In space {space_id!r}: expected at most {space["num_chosen"]} choices, none '
                f'of them in `ignore_choices` {self.ignore_choices}, but got {list(names)}'
            )
        return names

    def _as_choice(self, space_id: str, names: Sequence[str]) -> str | list[str]:
        is_edge = isinstance(self.search_spaces[space_id]['modules'][0], MutableEdge)
        return list(names) if is_edge or len(names) != 1 else names[0]

    def _is_one_shot(self, space_id: str) -> bool:
        return isinstance(self.search_spaces[space_id]['modules'][0], OneShotOP)
