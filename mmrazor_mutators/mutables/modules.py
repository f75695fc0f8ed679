"""Mutables whose choices are modules."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..copies import SavedBuffers
from ..errors import InputError, SearchSpaceError, SubnetError
from ..structures import Mismatch, describe, total
from ..typing import Mixture
from .base import MutableModule
from .isolation import Inputs, copy_inputs, lend, note_changes, protected
from .mixing import mix_calls

__all__ = ['ModuleMutable']


class ModuleMutable(MutableModule):
    """A mutable that chooses among modules: operations on one input, or inputs of a node.

    Args:
        **kwargs: As for :class:`MutableModule`.

    Attributes:
        choices: ``nn.ModuleDict`` of the choices, set by the subclass.

    Raises:
        SearchSpaceError: A choice whose name no module can have.
    """

    choices: nn.ModuleDict

    @abstractmethod
    def build_choices(self, cfg: Any) -> nn.ModuleDict:
        """Build the choices from ``{name: config or module}``."""

    def _set_choices(self, choices: nn.ModuleDict) -> None:
        """Take over the choices; every subclass calls this once, when they are built."""
        self.set_choice_names(choices)
        self.choices = choices

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
    def choice_names(self) -> tuple[str, ...]:
        """Names of the choices that are still there."""
        return tuple(self.choices.keys())

    @property
    def choice_modules(self) -> tuple[nn.Module, ...]:
        """Modules of the choices that are still there."""
        return tuple(self.choices.values())

    @property
    def choice_kinds(self) -> tuple[str, ...]:
        """Types of the choices that are still there."""
        return tuple(type(module).__name__ for module in self.choice_modules)

    def _run(
        self,
        names: Sequence[str],
        inputs: Sequence[Inputs],
        mixture: Mixture | None = None,
    ) -> Any:
        """Return the sum, or a mixture, of what choices make of their inputs.

        Args:
            names: Of the choices.
            inputs: The arguments of each.
            mixture: ``None`` for the sum.

        Raises:
            InputError: Outputs that cannot be added up.
        """
        modules = [self.choices[name] for name in names]
        try:
            if mixture is None:
                lent = list(map(lend, modules, inputs))
                found = total([call(x) for call, x, _ in lent])
                note_changes(modules, lent)
                return found
            return mix_calls(modules, inputs, mixture)
        except Mismatch as error:
            raise InputError(
                f'In space {self.space_id!r}: the outputs of choices cannot be added up, '
                f'because {error}: {self._describe_outputs(names, inputs)}; choices of one '
                'space have to return the same shapes, in the same structure'
            ) from None

    def _describe_outputs(self, names: Sequence[str], inputs: Sequence[Inputs]) -> str:
        found = []
        for name, (args, kwargs) in zip(names, inputs, strict=True):
            module = self.choices[name]
            if getattr(module, 'is_zero', False):
                continue
            saved = SavedBuffers(module)
            args, kwargs = copy_inputs(module, args, kwargs)
            with torch.no_grad():
                found.append(f'{name!r} returns {describe(module(*args, **kwargs))}')
            saved.put_back()
        return ', '.join(found)

    def export(self, chosen: Iterable[str]) -> None:
        """Remove every choice that was not chosen, in place.

        Raises:
            SubnetError: See :meth:`check_chosen`; nothing is removed then.
        """
        super().export(chosen)
        for name in self.choice_names:
            if name not in self.active_names:
                self.choices.pop(name)

    def plain(
        self, chosen: Sequence[str], duplicate: Callable[[nn.Module], nn.Module]
    ) -> nn.Module:
        """Return what stands for this mutable in a network without anything to search."""
        kept = {
            name: protected(self.choices[name], duplicate(self.choices[name]))
            for name in chosen
        }
        plain = self.build_plain(kept)
        inside = {id(m) for module in kept.values() for m in module.modules()}
        for module in plain.modules():
            if id(module) not in inside:
                module.training = self.training
        return plain

    def build_plain(self, choices: Mapping[str, nn.Module]) -> nn.Module:
        """Return a plain module that holds the chosen ones.

        Args:
            choices: Copies of the chosen ones, in the order of ``full_choice_names``.

        Raises:
            SubnetError: A subclass that does not say.
        """
        raise SubnetError(
            f'In space {self.space_id!r}: a {type(self).__name__} cannot be exported, because '
            'it does not say what stands in its place; give it a method `build_plain(choices)` '
            'that returns a module with the chosen ones'
        )
