"""Choices that leave the search for good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, SearchSpaceError, did_you_mean
from .base import BaseMutator

__all__ = ['DroppedChoices', 'DroppingMutator']


class DroppedChoices:
    """Remembers what was dropped, and relaxes the logits of what was not.

    A dropped choice has weight 0 exactly, whatever the relaxation makes of
    the others: its logit is not shown to it.
    """

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, ...]] = {}
        self._indices: dict[tuple[str, torch.device], Tensor] = {}

    def drop(self, space_id: str, names: Iterable[str]) -> None:
        """Remember that choices of a space have left; the caller has checked them."""
        self._names[space_id] = tuple(dict.fromkeys([*self._names.get(space_id, ()), *names]))
        self._indices = {}

    def kept(self, space_id: str, names: Sequence[str]) -> list[str]:
        """Return those of ``names`` that were not dropped."""
        dropped = self._names.get(space_id, ())
        return [name for name in names if name not in dropped]

    def kept_indices(self, space_id: str, names: Sequence[str]) -> tuple[int, ...] | None:
        """Return where the choices stand that were not dropped; ``None`` for all of them."""
        dropped = self._names.get(space_id)
        if not dropped:
            return None
        return tuple(index for index, name in enumerate(names) if name not in dropped)

    def relax(
        self,
        space_id: str,
        names: Sequence[str],
        arch_param: Tensor,
        relax: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Return ``relax`` of the kept logits, with zeros between, shape ``(num_choices,)``."""
        where = self._where(space_id, names, arch_param.device)
        if where is None:
            return relax(arch_param)
        weights = relax(arch_param[where])
        return weights.new_zeros(len(names)).index_copy(0, where, weights)

    def select(self, space_id: str, names: Sequence[str], arch_param: Tensor) -> Tensor:
        """Return the kept logits alone."""
        where = self._where(space_id, names, arch_param.device)
        return arch_param if where is None else arch_param[where]

    def _where(
        self, space_id: str, names: Sequence[str], device: torch.device
    ) -> Tensor | None:
        """Return the kept indices on a device, copied there once; ``None`` for all."""
        indices = self.kept_indices(space_id, names)
        if indices is None:
            return None
        key = (space_id, device)
        if key not in self._indices:
            with torch.inference_mode(False):  # It has to serve training as well.
                self._indices[key] = torch.tensor(indices, device=device)
        return self._indices[key]

    def names(self, space_id: str) -> tuple[str, ...]:
        """Return the names of what was dropped from a space."""
        return self._names.get(space_id, ())

    def get_state(self) -> dict[str, list[str]]:
        """Return what a checkpoint keeps."""
        return {space_id: list(names) for space_id, names in self._names.items()}

    def set_state(self, state: Mapping[str, Sequence[str]]) -> None:
        """Go on where :meth:`get_state` was called."""
        self._names = {space_id: tuple(names) for space_id, names in state.items()}
        self._indices = {}


class DroppingMutator(BaseMutator):
    """A mutator whose spaces can lose choices while the search goes on.

    Args:
        **kwargs: As for :class:`BaseMutator`.
    """

    arch_params: nn.ParameterDict

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dropped = DroppedChoices()
        self._masked: set[str] = set()

    def _names_in(self, space_id: str) -> Sequence[str]:
        if space_id not in self.search_spaces:
            raise SearchSpaceError(
                f'There is no space {space_id!r}; {did_you_mean(space_id, self.search_spaces)}'
            )
        names: Sequence[str] = self.search_spaces[space_id]['choice_names']
        return names

    def _kept_or_none(self, space_id: str) -> tuple[int, ...] | None:
        return self._dropped.kept_indices(space_id, self._names_in(space_id))

    def kept_indices(self, space_id: str) -> tuple[int, ...]:
        """Return the indices of the choices of a space that were not dropped.

        Raises:
            SearchSpaceError: An unknown space.
        """
        kept = self._kept_or_none(space_id)
        return tuple(range(len(self._names_in(space_id)))) if kept is None else kept

    def kept_choices(self, space_id: str) -> tuple[str, ...]:
        """Return the names of the choices of a space that were not dropped.

        Raises:
            SearchSpaceError: An unknown space.
        """
        return tuple(self._dropped.kept(space_id, self._names_in(space_id)))

    def kept_arch_params(self) -> dict[str, Tensor]:
        """Return the architecture parameter of every space without what was dropped.

        For penalties, which should not move what no longer plays a part.
        """
        return {
            space_id: self._dropped.select(space_id, self._names_in(space_id), arch_param)
            for space_id, arch_param in self.arch_params.items()
            if space_id in self.search_spaces
        }

    def drop_choices(self, space_id: str, names: Iterable[str]) -> None:
        """Take choices out of the search for good.

        They weigh 0, are not run and are in no subnet any more; the other
        choices are relaxed as if there were only these.  In a space without
        an architecture parameter the sum leaves them out.

        Raises:
            SearchSpaceError: An unknown space or choice, or too few left.
        """
        known = self._names_in(space_id)
        if isinstance(names, str):
            raise SearchSpaceError(
                f'In space {space_id!r}: expected a list of choice names, but got {names!r}'
            )
        space, names = self.search_spaces[space_id], tuple(names)
        for name in names:
            if name not in known:
                raise SearchSpaceError(
                    f'In space {space_id!r}: there is no choice {name!r}; '
                    f'{did_you_mean(name, known)}'
                )
        left = [name for name in self._eligible(space_id) if name not in names]
        if len(left) < space['num_chosen']:
            raise SearchSpaceError(
                f'In space {space_id!r}: a subnet keeps {space["num_chosen"]} of the choices, '
                f'but dropping {", ".join(names)} leaves {", ".join(left) or "none"}'
            )
        self._dropped.drop(space_id, names)
        self._mask_dropped()

    def _check_dropped(self, dropped: Any) -> dict[str, list[str]]:
        """Return what a checkpoint says was dropped, if the spaces can do without it.

        Raises:
            InputError: They cannot, or it is of another form.
        """
        if not isinstance(dropped, Mapping) or not all(
            isinstance(names, (list, tuple)) for names in dropped.values()
        ):
            raise InputError(
                f'Expected a checkpoint to say what was dropped as {{space_id: [names]}}, but '
                f'it says {dropped!r}'
            )
        for space_id in dropped.keys() & self.search_spaces.keys():
            known, names = self._names_in(space_id), list(dropped[space_id])
            left = [name for name in known if name not in names]
            if (
                not set(names) <= set(known)
                or len(left) < self.search_spaces[space_id]['num_chosen']
            ):
                raise InputError(
                    f'In space {space_id!r}: a checkpoint says that {names} were dropped, '
                    f'which does not fit its choices {", ".join(known)}; is it of another '
                    'search?'
                )
        return {space_id: list(names) for space_id, names in dropped.items()}

    def _mask_dropped(self) -> None:
        """Leave dropped choices out of the sums of spaces without a parameter."""
        for space_id, space in self.search_spaces.items():
            if space_id in self._masked or self._dropped.names(space_id):
                for mutable in space['modules']:
                    names = mutable.full_choice_names
                    kept = self._dropped.kept(space_id, names)
                    mutable.set_choice_mask(torch.tensor([name in kept for name in names]))
                self._masked.add(space_id)

    def _dropped_from(self, space_id: str) -> Iterable[str]:
        return self._dropped.names(space_id)

    def release(self, supernet: nn.Module) -> None:
        """Forget ``supernet``, in which every choice runs again.

        Raises:
            BindingError: This mutator was not prepared from ``supernet``.
        """
        self._check_prepared(supernet)
        for space_id in self._masked & self.search_spaces.keys():
            for mutable in self.search_spaces[space_id]['modules']:
                if not mutable.is_fixed:
                    mutable.set_choice_mask(mutable.build_choice_mask())
        self._masked = set()
        super().release(supernet)
