"""Mutators that extensions can be combined with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..builder import build_extension
from ..errors import ConfigError
from ..typing import ConfigDict, Subnet
from .extension import Extension
from .scheduled import Scheduled

__all__ = ['ExtensibleMutator']


def _listed(extensions: Any) -> Sequence[ConfigDict | Extension]:
    if isinstance(extensions, (str, Mapping)) or not isinstance(extensions, Iterable):
        raise ConfigError(
            f'Expected `extensions` to be a list of configs, but got {extensions!r}'
        )
    return list(extensions)


def _build_extension(extension: ConfigDict | Extension) -> Extension:
    built = build_extension(extension) if isinstance(extension, Mapping) else extension
    if not isinstance(built, Extension):
        raise ConfigError(
            f'Expected an extension or the config of one, but got {type(built).__name__}'
        )
    return built


class ExtensibleMutator(Scheduled):
    """Lets extensions have their say at every moment of the search.

    Args:
        extensions: What the mutator is combined with, as
            ``dict(type='BetaDecay')``, or ready ones.
        **kwargs: As for the mutator that this class is combined with.

    Attributes:
        extensions: ``nn.ModuleList`` of :class:`Extension`.
    """

    arch_params: nn.ParameterDict

    def __init__(
        self, extensions: Sequence[ConfigDict | Extension] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.extensions: Any = nn.ModuleList(map(_build_extension, _listed(extensions)))

    def on_epoch(self, epoch: int, max_epochs: int) -> None:
        """Move every schedule to an epoch, and let extensions act.

        Raises:
            InputError: An epoch outside of the search.
        """
        super().on_epoch(epoch, max_epochs)
        for extension in self.extensions:
            extension.on_epoch(epoch, max_epochs)
            if not self.restoring:
                extension.begin_epoch(self)

    def regularization(self) -> Tensor:
        """Return a scalar that is added to the architecture loss.

        By default the sum of the extensions' penalties; what overrides it
        adds to ``super().regularization()``.
        """
        like = next(iter(self.arch_params.values()), torch.empty(0))
        total = like.new_zeros((), requires_grad=False)
        for extension in self.extensions:
            penalty = extension.penalty(self)
            if penalty is not None:
                total = total + penalty
        return total

    def arch_objective(self, task_loss: Tensor) -> Tensor:
        """Return what the architecture minimises: the loss and :meth:`regularization`.

        Args:
            task_loss: The loss on an architecture batch, a scalar.
        """
        for extension in self.extensions:
            task_loss = extension.arch_objective(self, task_loss)
        return task_loss + self.regularization()

    @property
    def stopped(self) -> bool:
        """Whether an extension has ended the search early."""
        return any(extension.stopped for extension in self.extensions)

    def _check_extensions(self) -> None:
        for extension in self.extensions:
            extension.check(self)

    def _attach_extensions(self, supernet: nn.Module) -> None:
        for extension in self.extensions:
            extension.attach(self, supernet)

    def _detach_extensions(self) -> None:
        # In reverse, so that each finds what it has left.
        for extension in reversed(self.extensions):
            extension.detach(self)

    @contextmanager
    def _extensions_hidden(self, supernet: nn.Module) -> Iterator[None]:
        """Let candidates bear nothing of any extension inside of the block."""
        with ExitStack() as stack:
            for extension in self.extensions:
                stack.enter_context(extension.hidden(self, supernet))
            yield

    def _chosen_by_extension(
        self, allowed: Mapping[str, Sequence[str]]
    ) -> Mapping[str, Sequence[str]] | None:
        """Return the choices of the first extension that makes some."""
        for extension in self.extensions:
            chosen = extension.read_off(self, allowed)
            if chosen is not None:
                return dict(chosen)
        return None

    def _objections(self, subnet: Subnet) -> set[tuple[str, str]]:
        """Return the choices of a subnet that an extension vetoes."""
        return {
            (space_id, name)
            for extension in self.extensions
            for space_id, name in extension.veto(self, subnet)
        }
