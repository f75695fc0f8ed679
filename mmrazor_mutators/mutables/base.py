"""What every mutable has: a space id, choices, and a mask over them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
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


def _check_space_id(space_id: Any) -> str:
    """Refuse an id that cannot be a key of an ``nn.ParameterDict``."""
    if not isinstance(space_id, str) or not space_id or '.' in space_id:
        raise SearchSpaceError(
            f"Expected `space_id` to be a non-empty string without '.', but got {space_id!r}"
        )
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
        choices: ``nn.ModuleDict`` of the choices, set by the subclass.
        full_choice_names: Names of the choices before any was removed.
        is_fixed: Whether :meth:`export` made the choice already.

    Raises:
        SearchSpaceError: An illegal ``space_id`` or ``num_chosen``.
    """

    choices: nn.ModuleDict
    _choice_mask: Tensor

    def __init__(self, space_id: str, num_chosen: int = 1, init_cfg: Any | None = None) -> None:
        super().__init__(init_cfg)
        self.space_id = _check_space_id(space_id)
        if not isinstance(num_chosen, int) or isinstance(num_chosen, bool) or num_chosen < 1:
            raise SearchSpaceError(
                f'In space {space_id!r}: expected `num_chosen` to be an int of at least 1, '
                f'but got {num_chosen!r}'
            )
        self.num_chosen = num_chosen
        self.is_fixed = False
        self.full_choice_names: tuple[str, ...] = ()
        self._active_names: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, x: Any) -> Tensor:
        """Run the choices.

        Args:
            x: A tensor, or for an edge a list with one tensor per choice.
        """

    @abstractmethod
    def build_choices(self, cfg: Any) -> nn.ModuleDict:
        """Build the choices from ``{name: config or module}``."""

    def _set_choices(self, choices: nn.ModuleDict) -> None:
        """Take over the choices; every subclass calls this once, when they are built."""
        if self.num_chosen > len(choices):
            raise SearchSpaceError(
                f'In space {self.space_id!r}: expected `num_chosen` to be at most the number '
                f'of choices, {len(choices)} ({", ".join(choices) or "none"}), '
                f'but got {self.num_chosen}'
            )
        self.choices = choices
        self.full_choice_names = tuple(choices)
        # Not persistent: a mask is a passing state, and older checkpoints have none.
        self.register_buffer('_choice_mask', self.build_choice_mask(), persistent=False)
        self._active_names = self.full_choice_names

    def _name_choices(self, choices: Mapping[str, nn.Module]) -> nn.ModuleDict:
        """Return the choices as children, whose names have to be legal ones."""
        named = nn.ModuleDict()
        for name, choice in choices.items():
            try:
                named.add_module(name, choice)
            except (KeyError, TypeError) as error:
                raise SearchSpaceError(
                    f'In space {self.space_id!r}: {name!r} cannot name a choice, because it is '
                    f'not a legal name of a module ({error})'
                ) from error
        return named

    @property
    def num_choices(self) -> int:
        """Number of the choices that are still there."""
        return len(self.choices)

    @property
    def choice_names(self) -> tuple[str, ...]:
        """Names of the choices that are still there."""
        return tuple(self.choices.keys())

    @property
    def choice_modules(self) -> tuple[nn.Module, ...]:
        """Modules of the choices that are still there."""
        return tuple(self.choices.values())

    def build_choice_mask(self) -> Tensor:
        """Return a mask that lets every choice run: bool, shape ``(num_choices,)``."""
        return torch.ones(self.num_choices, dtype=torch.bool)

    def build_space_mask(self) -> Tensor:
        """Return equal sampling weights for all choices: float, shape ``(num_choices,)``."""
        return torch.ones(self.num_choices)

    @property
    def choice_mask(self) -> Tensor:
        """Which choices run when nothing is relaxed; bool, over ``full_choice_names``."""
        return self._choice_mask

    @choice_mask.setter
    def choice_mask(self, mask: Tensor) -> None:
        self.set_choice_mask(mask)

    def set_choice_mask(self, mask: Tensor) -> None:
        """Choose what runs when nothing is relaxed.

        Args:
            mask: Over ``full_choice_names``; non-zero where a choice runs.

        Raises:
            SubnetError: A wrong shape, or nothing that may run.
        """
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
            if runs and name in self.choices
        )
        if not active:
            raise SubnetError(
                f'In space {self.space_id!r}: a choice mask must let at least one of '
                f'{", ".join(self.choice_names)} run, but got {mask.tolist()}'
            )
        self._choice_mask = mask.to(device=self._choice_mask.device, dtype=torch.bool)
        self._active_names = active

    @property
    def active_names(self) -> tuple[str, ...]:
        """Names of the choices that the mask lets run."""
        return self._active_names

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
            if not isinstance(name, str) or name not in self.choices:
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
        """Remove every choice that was not chosen, in place.

        Raises:
            SubnetError: See :meth:`check_chosen`; nothing is removed then.
        """
        names = self.check_chosen(chosen)
        for name in self.choice_names:
            if name not in names:
                self.choices.pop(name)
        self._active_names = tuple(n for n in self.full_choice_names if n in names)
        self.is_fixed = True

    @abstractmethod
    def build_plain(self, choices: Mapping[str, nn.Module]) -> nn.Module:
        """Return what stands for this mutable in a network without anything to search.

        Args:
            choices: The chosen ones, in the order of ``full_choice_names``.
        """

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__setstate__(state)
        # ``copy.copy`` takes the bound partial over as it is, with the original as
        # its ``self``; the copy has to run its own choices.
        bound = self.__dict__.get('forward')
        if isinstance(bound, partial) and getattr(bound.func, '__self__', self) is not self:
            self.__dict__['forward'] = partial(
                type(self).forward.__get__(self), **bound.keywords
            )
