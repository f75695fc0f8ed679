"""Mutables whose choices are modules."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ..copies import SavedBuffers
from ..errors import InputError, SearchSpaceError, SubnetError
from ..structures import Mismatch, describe, total
from ..typing import Mixture
from .base import MutableModule
from .isolation import InputChanged, Inputs, Isolation, copy_inputs
from .mixing import mix_calls

__all__ = ['ModuleMutable']


@contextmanager
def _entering(*blocks: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block())
        yield


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

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._isolation = Isolation()

    @abstractmethod
    def build_choices(self, cfg: Any) -> nn.ModuleDict:
        """Build the choices from ``{name: config or module}``."""

    def _set_choices(self, choices: nn.ModuleDict) -> None:
        """Take over the choices; every subclass calls this once, when they are built."""
        self._set_choice_names(choices)
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
            InputError: Outputs that cannot be added up, or an input that was changed by a
                choice although it was not at first.
        """
        modules = [self.choices[name] for name in names]
        try:
            if mixture is None:
                traced = torch.compiler.is_compiling()
                calls = [
                    self._isolation.call(module, *given, traced)
                    for module, given in zip(modules, inputs, strict=True)
                ]
                with self._isolation.watching(inputs):
                    return total([call(x) for call, x in calls])
            return mix_calls(modules, inputs, mixture, self._isolation)
        except Mismatch as error:
            raise InputError(
                f'In space {self.space_id!r}: the outputs of choices cannot be added up, '
                f'because {error}: {self._describe_outputs(names, inputs)}; choices of one '
                'space have to return the same shapes, in the same structure'
            ) from None
        except InputChanged as error:
            raise InputError(
                f'In space {self.space_id!r}: a choice changed its input in place, although '
                f'none of {", ".join(names)} did when it ran first; let it work on a copy '
                '(inplace=False)'
            ) from error

    def remember_pass(self) -> Callable[[], AbstractContextManager[None]]:
        return partial(_entering, super().remember_pass(), self._isolation.remember())

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
            name: self._isolation.isolated(self.choices[name], duplicate(self.choices[name]))
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
