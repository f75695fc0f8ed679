"""What every mutator does: fill holes, list spaces, apply a subnet."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from torch import nn

from ..builder import MUTATORS
from ..errors import BindingError, SearchSpaceError
from ..export import deploy_subnet, export_subnet
from ..host import BaseModule
from ..mutables import (
    MutableModule,
    Placeholder,
    build_search_spaces,
    convert_placeholders,
    find_chosen,
    find_mutables,
)
from ..typing import ConfigDict, SearchSpaces, Subnet
from .binding import is_lent, rebind, release
from .overrides import check_listed, holes_in, put_back, settle
from .summary import Summarized

__all__ = ['BaseMutator', 'check_ignored']


def check_ignored(ignore_choices: Any) -> tuple[str, ...]:
    """Return the names of choices that a subnet never keeps, as a tuple.

    Raises:
        SearchSpaceError: No list of names.
    """
    if isinstance(ignore_choices, str) or not isinstance(ignore_choices, Iterable):
        raise SearchSpaceError(
            f'Expected `ignore_choices` to be a list of names, but got {ignore_choices!r}'
        )
    return tuple(ignore_choices)


def _rebind_after_loading(mutator: BaseMutator, _: Any) -> None:
    before, mutator._before_loading = mutator._before_loading, {}
    mutator._rebind(before)


@MUTATORS.register_module()
class BaseMutator(Summarized, BaseModule):
    """Owns the search space of one supernet.

    Args:
        placeholder_mapping: ``{group: config of a mutable}`` for the
            placeholders of the supernet.  By default the mapping that the
            supernet brings itself, its ``default_placeholder_mapping``.
        init_cfg: As for the host's ``BaseModule``.

    Attributes:
        search_spaces: ``{space_id: {'modules', 'choice_names', 'num_chosen',
            'space_mask'}}``, empty before :meth:`prepare_from_supernet`.
    """

    # Names of choices that a subnet never keeps.
    ignore_choices: tuple[str, ...] = ()

    def __init__(
        self,
        placeholder_mapping: Mapping[str, ConfigDict] | None = None,
        init_cfg: Any | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.placeholder_mapping = placeholder_mapping
        self.search_spaces: SearchSpaces = {}
        self._outermost: list[MutableModule] = []
        self._mutables: list[MutableModule] = []  # All, also those of no space of ours.
        self._before_loading: dict[str, nn.Parameter] = {}
        self.register_load_state_dict_post_hook(_rebind_after_loading)

    def prepare_from_supernet(self, supernet: nn.Module) -> None:
        """Replace the placeholders of ``supernet`` and list its spaces.

        Raises:
            BindingError: This mutator has a supernet already.
            SearchSpaceError: The supernet has nothing to search, a
                placeholder cannot be filled, or the spaces contradict each
                other.  The supernet is then as it was.
        """
        if self.search_spaces:
            raise BindingError(
                f'This {type(self).__name__} is prepared already; call release(supernet) '
                'before preparing it a second time'
            )
        holes = holes_in(supernet)
        undo = partial(put_back, holes)
        try:
            converted = self.convert_placeholder(supernet, self._mapping_for(supernet))
            if converted is None:  # Code that overrides it, as in MMRazor 0.x.
                settle(holes)
            undo = converted or undo
            self._list_spaces(supernet)
            self._take_over(supernet)
        except BaseException:
            self.search_spaces = {}
            undo()
            raise

    def _list_spaces(self, supernet: nn.Module) -> None:
        self.search_spaces = check_listed(self, self.build_search_spaces(supernet))
        self._mutables = list(find_mutables(supernet))
        self._outermost = [mutable for mutable, _ in find_chosen([supernet], lambda _: ())]

    def _take_over(self, supernet: nn.Module) -> None:
        """Change what else has to change, after validating all of it."""

    def _mapping_for(self, supernet: nn.Module) -> Mapping[str, ConfigDict]:
        if self.placeholder_mapping is not None:
            return self.placeholder_mapping
        mapping: dict[str, ConfigDict] = {}
        for module in supernet.modules():
            for group, cfg in getattr(module, 'default_placeholder_mapping', {}).items():
                mapping.setdefault(group, cfg)
        return mapping

    def build_search_spaces(self, supernet: nn.Module) -> SearchSpaces:
        """List the spaces of a supernet without placeholders."""
        return build_search_spaces(supernet)

    def convert_placeholder(
        self, supernet: nn.Module, placeholder_mapping: Mapping[str, ConfigDict]
    ) -> Any:
        """Replace every placeholder in place; return a function that undoes it."""
        return convert_placeholders(supernet, placeholder_mapping)

    def release(self, supernet: nn.Module) -> None:
        """Forget ``supernet``; the mutables stay in it, without any parameter of this mutator.

        Raises:
            BindingError: This mutator was not prepared from ``supernet``.
        """
        self._check_prepared(supernet)
        own = list(self.parameters())
        for mutable in self._mutables:
            if is_lent(mutable, own):
                release(mutable)
        self.search_spaces, self._mutables = {}, []

    def _rebind(self, before: Mapping[str, nn.Parameter]) -> None:
        """Lend what has become another object, in the way in which it was lent before."""
        replaced = {
            id(before[name]): param
            for name, param in self.named_parameters()
            if name in before and before[name] is not param
        }
        for mutable in self._mutables if replaced else ():
            rebind(mutable, replaced)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        # Some moves between devices replace parameters instead of changing them.
        before = dict(self.named_parameters())
        result = super()._apply(*args, **kwargs)
        self._rebind(before)
        return result

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # So does loading with ``assign=True``, once the children are loaded.
        self._before_loading = dict(self.named_parameters())
        super()._load_from_state_dict(*args, **kwargs)

    def deploy_subnet(self, supernet: nn.Module, subnet_dict: Subnet) -> None:
        """Make the choices of a subnet, in place: everything else is removed.

        Args:
            supernet: The supernet that this mutator was prepared from, or any one without
                placeholders before it was prepared.
            subnet_dict: ``{space_id: {'chosen': [choice names], ...}}``.

        Raises:
            BindingError: This mutator was prepared from another supernet, or from none and
                there are placeholders.
            SubnetError: The subnet does not fit the search space; nothing is
                changed then.
        """
        prepared = bool(self.search_spaces)
        if prepared or any(isinstance(module, Placeholder) for module in supernet.modules()):
            self._check_prepared(supernet)
        deploy_subnet(supernet, subnet_dict)
        if prepared:
            self._list_spaces(supernet)

    def export_subnet(self, supernet: nn.Module, subnet_dict: Subnet) -> nn.Module:
        """Return the network of a subnet as a new, plain module.

        It holds no mutables and no candidates that were not chosen, and its
        weights are copies of the supernet's.

        Args:
            supernet: The supernet that this mutator was prepared from.
            subnet_dict: ``{space_id: {'chosen': [choice names], ...}}``.

        Raises:
            SubnetError: The subnet does not fit the search space.
        """
        self._check_prepared(supernet)
        return export_subnet(supernet, subnet_dict)

    def _check_spaces(self) -> None:
        """Refuse to go on without a supernet."""
        if not self.search_spaces:
            raise BindingError(
                f'This {type(self).__name__} has no supernet yet; call '
                'prepare_from_supernet(supernet)'
            )

    def for_retraining(self) -> BaseMutator:
        """Return the mutator that makes the network to be trained from scratch.

        It differs from this one where the candidates of the search are not
        those of the network found, as with partial channels.
        """
        return self

    def random_subnet(self, seed: int | None = None) -> Subnet:
        """Draw a subnet: in every space each choice is equally likely.

        ``ignore_choices`` are left out, and so are spaces inside of edges
        that were not chosen.

        Args:
            seed: Of the draw, which touches no global random state.

        Raises:
            SearchSpaceError: ``ignore_choices`` leaves nothing to choose.
        """
        rng = random.Random(seed)

        def draw(space_id: str) -> dict[str, Any]:
            names = self._eligible(space_id)
            return {'chosen': rng.sample(names, self.search_spaces[space_id]['num_chosen'])}

        return self._choose_everywhere(draw)

    def _eligible(self, space_id: str, vetoed: Iterable[str] = ()) -> list[str]:
        """Return the choices of a space that a subnet may keep."""
        space = self.search_spaces[space_id]
        present = space['modules'][0].choice_names
        gone = {*self._dropped_from(space_id), *vetoed}
        names = [name for name in present if name not in {*self.ignore_choices, *gone}]
        if len(names) < space['num_chosen']:
            others = f', with {", ".join(sorted(gone))} dropped or vetoed,' if gone else ''
            raise SearchSpaceError(
                f'In space {space_id!r}: {space["num_chosen"]} of the choices '
                f'{", ".join(present)} are to be kept, but `ignore_choices` '
                f'{tuple(self.ignore_choices)}{others} leaves {names}'
            )
        return names

    def _dropped_from(self, space_id: str) -> Iterable[str]:
        """Return the choices of a space that have left the search."""
        return ()

    def _choose_everywhere(self, choose: Callable[[str], dict[str, Any]]) -> Subnet:
        """Make one choice per space, except where an outer choice dropped the space."""
        self._check_spaces()
        subnet: Subnet = {}

        def chosen_of(mutable: MutableModule) -> tuple[str, ...]:
            if mutable.space_id not in self.search_spaces:
                return mutable.choice_names  # Of a space that a subclass left out.
            if mutable.space_id not in subnet:
                subnet[mutable.space_id] = choose(mutable.space_id)
            return tuple(subnet[mutable.space_id]['chosen'])

        for _ in find_chosen(self._outermost, chosen_of):
            pass
        return {
            space_id: subnet[space_id] for space_id in self.search_spaces if space_id in subnet
        }

    def _check_prepared(self, supernet: nn.Module) -> None:
        ours = {id(m) for space in self.search_spaces.values() for m in space['modules']}
        if not any(id(module) in ours for module in supernet.modules()):
            raise BindingError(
                f'This {type(self).__name__} was not prepared from this '
                f'{type(supernet).__name__}; call prepare_from_supernet(supernet) first. A '
                'copy of a supernet needs the mutator copied along: '
                'copy.deepcopy((supernet, mutator))'
            )
