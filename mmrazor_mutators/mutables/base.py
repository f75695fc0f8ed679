"""What every mutable has: a space id, choices, and a mask over them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SearchSpaceError, SubnetError, did_you_mean
from ..host import BaseModule
from ..recomputation import Recomputed
from .mixing import WeightedSum, current_sum, summing_with

__all__ = ['MutableModule']


def _check_space_id(space_id: Any, learns: bool) -> str:
    """Refuse an id that cannot be a key of an ``nn.ParameterDict``, where it has to be one."""
    if not isinstance(space_id, str) or not space_id or (learns and '.' in space_id):
        raise SearchSpaceError(
            f"Expected `space_id` to be a non-empty string without '.', but got {space_id!r}"
        )
    if not learns:
        return space_id
    if hasattr(nn.ParameterDict, space_id) or space_id in vars(nn.ParameterDict()):
        raise SearchSpaceError(
            f'`space_id` {space_id!r} is an attribute of nn.ParameterDict, which holds the '
            f'architecture parameters by that name; rename it, e.g. to {space_id + "_space"!r}'
        )
    return space_id


class MutableModule(BaseModule):
    """A place in a network where something is chosen.

    Args:
        space_id: The space that this mutable belongs to.  Mutables with the
            same id share one architecture parameter and one choice.
        num_chosen: How many choices a subnet keeps, at least 1.
        init_cfg: As for the host's ``BaseModule``.

    Attributes:
        full_choice_names: Names of the choices before any was removed.

    A choice is a name here.  What it stands for is the business of subclasses: modules, as
    for operations and edges, or values, such as sizes of a kernel.  A subclass calls
    :meth:`set_choice_names` once, when it knows them, and has a ``forward`` and, where
    networks are exported, a :meth:`plain`.

    Raises:
        SearchSpaceError: An illegal ``space_id`` or ``num_chosen``.
    """

    _choice_mask: Tensor

    def __init__(self, space_id: str, num_chosen: int = 1, init_cfg: Any | None = None) -> None:
        super().__init__(init_cfg)
        self.space_id = _check_space_id(space_id, learns=hasattr(self, 'build_arch_param'))
        if not isinstance(num_chosen, int) or isinstance(num_chosen, bool) or num_chosen < 1:
            raise SearchSpaceError(
                f'In space {space_id!r}: expected `num_chosen` to be an int of at least 1, '
                f'but got {num_chosen!r}'
            )
        self.num_chosen = num_chosen
        self._is_fixed = False
        self.full_choice_names: tuple[str, ...] = ()
        self._choice_names: tuple[str, ...] = ()
        self._active_names: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Run what is chosen."""

    def set_choice_names(self, names: Iterable[str]) -> None:
        """Say what can be chosen; the constructor of a subclass calls this once.

        Args:
            names: As they will stand in subnets, in the order of the logits.

        Raises:
            SearchSpaceError: Names that are no strings or not distinct, or fewer of them than
                ``num_chosen``.
        """
        given = tuple(names)
        if len(set(given)) != len(given) or not all(isinstance(n, str) and n for n in given):
            raise SearchSpaceError(
                f'In space {self.space_id!r}: expected the names of the choices to be distinct '
                f'strings, but got {list(given)}'
            )
        if self.num_chosen > len(given):
            raise SearchSpaceError(
                f'In space {self.space_id!r}: expected `num_chosen` to be at most the number '
                f'of choices, {len(given)} ({", ".join(given) or "none"}), '
                f'but got {self.num_chosen}'
            )
        self.full_choice_names = self._choice_names = given
        # Not persistent: a mask is a passing state, and older checkpoints have none.
        self.register_buffer('_choice_mask', self.build_choice_mask(), persistent=False)
        self._active_names = self.initial_names

    def _unnamed_choices(self) -> Iterable[str]:
        """Return the names of choices that code for MMRazor 0.x has put in place by itself.

        Raises:
            SearchSpaceError: It cannot be told what they are.
        """
        names = self.choice_names  # Those of a subclass that knows its modules.
        if names:
            return names
        raise SearchSpaceError(
            f'In space {self.space_id!r}: a {type(self).__name__} has not said what its '
            'choices are. If they are modules, derive it from MutableOP, MutableEdge or '
            'ModuleMutable, which know `choices`; otherwise call self.set_choice_names(names)'
        )

    @property
    def num_choices(self) -> int:
        """Number of the choices that are still there."""
        return len(self.choice_names)

    @property
    def choice_names(self) -> tuple[str, ...]:
        """Names of the choices that are still there."""
        return self._choice_names

    @property
    def choice_kinds(self) -> tuple[str, ...]:
        """What mutables of one space have in common beside the names of the choices."""
        return ()

    @property
    def initial_names(self) -> tuple[str, ...]:
        """Names of the choices that run before any mask is set: all of them."""
        return self.full_choice_names

    @property
    def is_fixed(self) -> bool:
        """Whether :meth:`export` made the choice already, or code that overrides it."""
        return self._is_fixed or self.num_choices < len(self.full_choice_names)

    def build_choice_mask(self) -> Tensor:
        """Return the mask of :attr:`initial_names`: bool, over ``full_choice_names``.

        Raises:
            SearchSpaceError: Nobody has said what the choices are.
        """
        if not self.full_choice_names:
            self.set_choice_names(self._unnamed_choices())
        return torch.tensor([name in self.initial_names for name in self.full_choice_names])

    def build_space_mask(self) -> Tensor:
        """Return equal sampling weights for all choices: float, shape ``(num_choices,)``."""
        return torch.ones(self.num_choices)

    @property
    def choice_mask(self) -> Tensor:
        """Which choices run when nothing is relaxed; bool, over ``full_choice_names``."""
        return self._choice_mask

    @choice_mask.setter
    def choice_mask(self, mask: Tensor) -> None:
        expected = (len(self.full_choice_names),)
        if not isinstance(mask, Tensor) or tuple(mask.shape) != expected:
            came = tuple(mask.shape) if isinstance(mask, Tensor) else repr(mask)
            raise SubnetError(
                f'In space {self.space_id!r}: expected a choice mask to be a tensor of shape '
                f'{expected}, but got {came}'
            )
        # Read once here, so that no forward pass waits for a device.
        active = tuple(
            name
            for name, runs in zip(self.full_choice_names, mask.tolist(), strict=True)
            if runs and name in self.choice_names
        )
        if not active:
            raise SubnetError(
                f'In space {self.space_id!r}: a choice mask must let at least one of '
                f'{", ".join(self.choice_names)} run, but got {mask.tolist()}'
            )
        self._choice_mask = mask.to(device=self._choice_mask.device, dtype=torch.bool)
        self._active_names = active

    def set_choice_mask(self, mask: Tensor) -> None:
        """Choose what runs when nothing is relaxed.

        Args:
            mask: Over ``full_choice_names``; non-zero where a choice runs.

        Raises:
            SubnetError: A wrong shape, or nothing that may run.
        """
        self.choice_mask = mask

    @property
    def active_names(self) -> tuple[str, ...]:
        """Names of the choices that the mask lets run."""
        if not self.is_fixed:
            return self._active_names
        # Code that overrides :meth:`export` removes choices without telling.
        there = self.choice_names
        return tuple(name for name in self._active_names if name in there) or there

    def remember_pass(self) -> Callable[[], AbstractContextManager[None]]:
        """Return what opens a block in which it runs the choices of the current pass.

        A recomputation needs it, see :class:`~mmrazor_mutators.recomputation.Moment`.
        """
        forward = self.__dict__.get('forward')
        if isinstance(forward, Recomputed):
            forward = forward.function
        relax: Any = getattr(forward, 'keywords', {}).get('relax')
        mixing = relax.remember() if hasattr(relax, 'remember') else nullcontext
        return partial(self._running, self._active_names, mixing, current_sum())

    @contextmanager
    def _running(
        self,
        names: tuple[str, ...],
        mixing: Callable[[], AbstractContextManager[None]],
        compute: WeightedSum | None,
    ) -> Iterator[None]:
        current = self._active_names
        self._active_names = names
        try:
            with mixing(), summing_with(compute):
                yield
        finally:
            self._active_names = current

    def check_chosen(self, chosen: Iterable[str]) -> tuple[str, ...]:
        """Return ``chosen`` as a tuple if each is a choice of this mutable.

        Raises:
            SubnetError: An empty or unknown choice, or one that is named twice.
        """
        if isinstance(chosen, str) or not isinstance(chosen, Iterable):
            raise SubnetError(
                f'In space {self.space_id!r}: expected `chosen` to be a list of choice names, '
                f'but got {chosen!r}'
            )
        names = tuple(chosen)
        for name in names:
            if not isinstance(name, str) or name not in self.choice_names:
                raise SubnetError(
                    f'In space {self.space_id!r}: there is no choice {name!r}; '
                    f'{did_you_mean(str(name), self.choice_names)}'
                )
        if not names or len(set(names)) != len(names):
            raise SubnetError(
                f'In space {self.space_id!r}: expected at least one choice, each named once, '
                f'but got {list(names)}'
            )
        return names

    def export(self, chosen: Iterable[str]) -> None:
        """Make the choice, in place: nothing else can run any more.

        Raises:
            SubnetError: See :meth:`check_chosen`; nothing is removed then.
        """
        names = self.check_chosen(chosen)
        self._choice_names = tuple(n for n in self.full_choice_names if n in names)
        self._active_names = self._choice_names
        self._is_fixed = True

    def plain(
        self, chosen: Sequence[str], duplicate: Callable[[nn.Module], nn.Module]
    ) -> nn.Module:
        """Return what stands for this mutable in a network without anything to search.

        Args:
            chosen: Names of the choices that are made, in the order of ``full_choice_names``.
            duplicate: Copies a module of the supernet into the new network.  What is used in
                several places is copied once, and mutables inside are replaced on the way.

        Raises:
            SubnetError: A subclass that does not say.
        """
        raise SubnetError(
            f'In space {self.space_id!r}: a {type(self).__name__} cannot be exported, because '
            'it does not say what stands in its place; give it a method `plain(chosen, '
            'duplicate)` that returns a module, with what it keeps copied by `duplicate`'
        )

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__setstate__(state)
        # ``copy.copy`` takes the bound partial over as it is, with the original as
        # its ``self``; the copy has to run its own choices.
        bound = self.__dict__.get('forward')
        if isinstance(bound, partial) and getattr(bound.func, '__self__', self) is not self:
            self.__dict__['forward'] = partial(
                type(self).forward.__get__(self), **bound.keywords
            )
