"""One-shot search: paths drawn uniformly, and what an evolution does with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from torch import Generator, Tensor, nn

from ..builder import MUTATORS
from ..distributed import same_draws
from ..errors import BindingError
from ..mutables import MutableModule, find_mutables, modules_by_choice
from ..typing import Subnet
from .base import BaseMutator, check_ignored
from .masks import (
    Masks,
    check_masks,
    cross_masks,
    draw_mask,
    drawing_weights,
    masks_of,
    mutate_masks,
    subnet_of,
)
from .overrides import call_drawing

__all__ = ['OneShotMutator']

_FLAG = '__in_subnet__'


@MUTATORS.register_module()
class OneShotMutator(BaseMutator):
    """Lets one path of the supernet run at a time, and draws, mutates and crosses paths.

    SPOS (Guo et al., ECCV 2020), sections 3.2 to 3.4: in every step of the
    training each space draws its choices uniformly; later an evolution
    compares paths by the weights they share.  A path is ``{space_id: mask}``,
    as in MMRazor v0.2.0, or a subnet ``{space_id: {'chosen': [names]}}``; every
    method that takes the one takes the other as well.

    Mutables run the choices of their masks and sum them where a space keeps
    several.  While a supernet is prepared, a mutable that would mix by an
    architecture parameter does the same, so that the supernets' own mappings
    will do.  Draws come from torch's global generator, the same on every
    rank, or from the ``generator`` that is given.

    Args:
        ignore_choices: Names of choices that are never drawn; by default none,
            as in the paper.
        **kwargs: As for :class:`BaseMutator`.

    Raises:
        SearchSpaceError: ``ignore_choices`` is no list of names.

    >>> import mmrazor_mutators as mm
    >>> import torch
    >>> choices = dict(skip=nn.Identity(), relu=nn.ReLU())
    >>> supernet = mm.OneShotOP(space_id='a', choices=choices)
    >>> mutator = mm.OneShotMutator()
    >>> mutator.prepare_from_supernet(supernet)
    >>> mutator.set_subnet({'a': {'chosen': ['relu']}})
    >>> supernet(torch.tensor([-1.0]))
    tensor([0.])
    """

    paper = 'Guo et al., ECCV 2020'
    samples = 'the choices of each space (uniform)'
    cost = 'one path'

    def __init__(self, ignore_choices: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_choices = check_ignored(ignore_choices)
        self._relaxed: list[MutableModule] = []
        self._insides: list[tuple[MutableModule, str, list[nn.Module]]] = []

    def _list_spaces(self, supernet: nn.Module) -> None:
        super()._list_spaces(supernet)
        self._insides = modules_by_choice(self._outermost)

    def _take_over(self, supernet: nn.Module) -> None:
        for space_id in self.search_spaces:
            self._weights_of(space_id)  # They have to leave enough to draw.
        self._relaxed = [
            mutable
            for mutable in find_mutables(supernet)
            if getattr(mutable, 'with_arch_param', False)
        ]
        for mutable in self._relaxed:
            mutable.with_arch_param = False

    def release(self, supernet: nn.Module) -> None:
        """Forget ``supernet``; its mutables stay, and none of their choices is masked."""
        super().release(supernet)
        for mutable in self._relaxed:
            mutable.with_arch_param = True
        self._relaxed, self._insides = [], []
        for mutable in find_mutables(supernet):
            mutable.choice_mask = mutable.build_choice_mask()
        _clear_flags(supernet)

    def get_random_mask(
        self,
        space_info: Mapping[str, Any],
        searching: bool = False,
        generator: Generator | None = None,
    ) -> Tensor:
        """Draw the choices of one space, in proportion to its ``space_mask``.

        Args:
            space_info: An entry of ``search_spaces``.
            searching: As in v0.2.0, where only a draw of the training was the
                same on all ranks; here every draw is, so it changes nothing.
            generator: Where to draw from, by default torch's global one.

        Raises:
            SearchSpaceError: ``space_mask`` or ``ignore_choices`` leave too
                few choices.
        """
        with self._agreed(generator):
            return self._draw(space_info, generator)

    def sample_subnet(
        self, searching: bool = False, generator: Generator | None = None
    ) -> Masks:
        """Draw a path, the choices of each space on their own.

        Args:
            searching: As for :meth:`get_random_mask`.
            generator: As for :meth:`get_random_mask`.

        Raises:
            BindingError: No supernet was prepared.
        """
        self._check_spaces()
        with self._agreed(generator):
            return {sid: self._mask(sid, searching, generator) for sid in self.search_spaces}

    def set_subnet(self, subnet_dict: Masks | Subnet) -> None:
        """Let a path of the supernet run, and nothing else of the choices.

        Modules inside of choices have an attribute ``__in_subnet__`` from then
        on, which tells whether they belong to the path.

        Raises:
            SubnetError: The path does not fit the search space; nothing is
                changed then.
        """
        masks = self.subnet_to_masks(subnet_dict)
        for space_id, space in self.search_spaces.items():
            for mutable in space['modules']:
                mutable.choice_mask = masks[space_id]
        for _, _, modules in self._insides:
            for module in modules:
                self.reset_in_subnet(module, False)
        for mutable, name, modules in self._insides:
            if vars(mutable).get(_FLAG, True) and name in mutable.active_names:
                for module in modules:
                    self.reset_in_subnet(module, True)

    @staticmethod
    def reset_in_subnet(m: nn.Module, in_subnet: bool = True) -> None:
        """Say of a module whether it belongs to the path that runs.

        Args:
            m: The module; those inside of it are left alone.
            in_subnet: Whether it does.
        """
        vars(m)[_FLAG] = in_subnet

    def set_chosen_subnet(self, subnet_dict: Masks | Subnet) -> None:
        """Note the path that the search has found, as ``chosen`` in ``search_spaces``.

        Raises:
            SubnetError: The path does not fit the search space.
        """
        subnet = self.masks_to_subnet(self.subnet_to_masks(subnet_dict))
        for space_id, entry in subnet.items():
            self.search_spaces[space_id]['chosen'] = entry['chosen']

    def search_subnet(self) -> Subnet:
        """Return the path noted by :meth:`set_chosen_subnet`; without one it is an error."""
        if not self.search_spaces or any(
            'chosen' not in s for s in self.search_spaces.values()
        ):
            raise BindingError(
                'This OneShotMutator knows no subnet yet: an evolution finds one (see '
                'OneShotTrainLoop), or call set_chosen_subnet'
            )
        return self._choose_everywhere(
            lambda space_id: {'chosen': list(self.search_spaces[space_id]['chosen'])}
        )

    def mutation(
        self,
        subnet_dict: Masks | Subnet,
        prob: float = 0.1,
        generator: Generator | None = None,
    ) -> Masks:
        """Return a path that differs from the given one in some spaces.

        Each space that has an alternative takes another selection with
        probability ``prob``, and one of them where the draw hits none.

        Args:
            subnet_dict: The path, which is not changed.
            prob: From 0 to 1.
            generator: As for :meth:`get_random_mask`.

        Raises:
            ConfigError: ``prob`` is no probability.
            SubnetError: The path does not fit the search space.
        """
        masks = self.subnet_to_masks(subnet_dict)
        free = [
            space_id
            for space_id, space in self.search_spaces.items()
            if int((self._weights_of(space_id) > 0).sum()) > space['num_chosen']
        ]
        with self._agreed(generator):
            draw = partial(self._mask, searching=True, generator=generator)
            tries = 20 if self._draws_itself else 1000  # It may draw always the same.
            return mutate_masks(masks, free, draw, prob, generator, tries)

    def crossover(
        self,
        subnet_dict1: Masks | Subnet,
        subnet_dict2: Masks | Subnet,
        generator: Generator | None = None,
    ) -> Masks:
        """Return a path that takes each space from either of two, with equal chances."""
        first, second = map(self.subnet_to_masks, (subnet_dict1, subnet_dict2))
        with self._agreed(generator):
            return cross_masks(first, second, generator)

    def masks_to_subnet(self, masks: Masks) -> Subnet:
        """Return ``{space_id: {'chosen': [names]}}`` for masks, with all spaces."""
        self._check_spaces()
        return subnet_of(self.search_spaces, masks)

    def subnet_to_masks(self, subnet: Masks | Subnet) -> Masks:
        """Return new masks for a subnet, or for masks.

        A space that the subnet leaves out, because it stands inside of a
        choice that is not made, gets the first of its choices.

        Raises:
            SubnetError: A subnet that does not fit the search space.
        """
        self._check_spaces()
        if isinstance(subnet, Mapping) and any(isinstance(m, Tensor) for m in subnet.values()):
            return check_masks(self.search_spaces, subnet)
        first_names = {
            space_id: self._eligible(space_id)[: space['num_chosen']]
            for space_id, space in self.search_spaces.items()
        }
        return masks_of(self.search_spaces, self._outermost, subnet, first_names)

    def _weights_of(self, space_id: str) -> Tensor:
        return drawing_weights(self.search_spaces[space_id], self._eligible(space_id))

    def _mask(self, space_id: str, searching: bool, generator: Generator | None) -> Tensor:
        """Return :meth:`get_random_mask` of a space, inside of one agreement for all spaces."""
        space = self.search_spaces[space_id]
        if not self._draws_itself:
            return self._draw(space, generator)
        return call_drawing(self.get_random_mask, space, searching, generator=generator)

    @property
    def _draws_itself(self) -> bool:
        return type(self).get_random_mask is not OneShotMutator.get_random_mask

    def live_part(self, subnet: Subnet) -> Subnet:
        """Return a subnet without the spaces inside of choices that are not made."""
        return self._choose_everywhere(lambda space_id: dict(subnet[space_id]))

    def export_subnet(self, supernet: nn.Module, subnet_dict: Subnet) -> nn.Module:
        """Return the network of a subnet as a new, plain module."""
        net = super().export_subnet(supernet, subnet_dict)
        _clear_flags(net)
        return net

    def _agreed(self, generator: Generator | None) -> Any:
        """Let all ranks draw the same, unless they draw from a generator of their own."""
        if generator is not None or not self.search_spaces:
            return nullcontext()
        first = next(iter(self.search_spaces.values()))['modules'][0]
        return same_draws(first.choice_mask.device)

    def _draw(self, space: Mapping[str, Any], generator: Generator | None) -> Tensor:
        return draw_mask(space, self._eligible(space['modules'][0].space_id), generator)


def _clear_flags(network: nn.Module) -> None:
    for module in network.modules():
        vars(module).pop(_FLAG, None)
