"""What can be combined with any mutator: penalties, perturbations, stopping rules ..."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from ..typing import Subnet
from .scheduled import Scheduled

__all__ = ['Extension']


class Extension(Scheduled):
    """Something that a mutator is combined with; every method does nothing by default.

    An extension is named in the config of a mutator, as in
    ``dict(type='DartsMutator', extensions=[dict(type='BetaDecay')])``, and
    overrides the moments that it has a say in.  It keeps no reference to the
    mutator or the search, which come with every call.  Its buffers and its
    extra state are saved with the mutator's.

    Attributes:
        epoch: From 0 to ``max_epochs - 1``; schedules follow :meth:`on_epoch`.
        max_epochs: Number of epochs of the whole search.
        stopped: Whether the extension has ended the search early.
        paper: Where the method was published, for lists.
        takes_gradients: Whether it differentiates losses by itself.
    """

    paper: str = ''
    stopped: bool = False
    takes_gradients: bool = False

    def check(self, mutator: Any) -> None:
        """Refuse a mutator that this cannot be combined with.

        Called by ``prepare_from_supernet`` when the spaces are known and
        nothing is changed yet.

        Raises:
            NASError: What is wrong, and what to do.
        """

    def attach(self, mutator: Any, supernet: nn.Module) -> None:
        """Change the supernet, where that is needed; it is bound already."""

    def detach(self, mutator: Any) -> None:
        """Undo :meth:`attach` exactly, also one that failed half way or never began."""

    def hidden(self, mutator: Any, supernet: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which candidates bear nothing of :meth:`attach`.

        They are copied inside of it, e.g. into an exported network.
        """
        return nullcontext()

    def begin_epoch(self, mutator: Any) -> None:
        """Act at the start of an epoch, e.g. drop choices.

        Called after :meth:`on_epoch`, which only moves schedules, but not
        when a checkpoint is loaded.
        """

    def penalty(self, mutator: Any) -> Tensor | None:
        """Return a scalar that is added to the architecture loss, or ``None``."""
        return None

    def arch_objective(self, mutator: Any, task_loss: Tensor) -> Tensor:
        """Return what takes the place of the task loss for the architecture."""
        return task_loss

    def read_off(
        self, mutator: Any, allowed: Mapping[str, Sequence[str]]
    ) -> Mapping[str, Sequence[str]] | None:
        """Return the choices of a subnet, ``{space_id: names}``, or ``None`` to leave it.

        The first extension that returns some decides. It is asked by ``search_subnet``, not
        while the search goes on.

        Args:
            mutator: Prepared.
            allowed: For every space the choices that a subnet may keep.
        """
        return None

    def veto(self, mutator: Any, subnet: Subnet) -> Iterable[tuple[str, str]]:
        """Return the choices, as ``(space_id, name)``, that a subnet must not keep.

        ``search_subnet`` then reads off another one without these, until
        nobody objects.
        """
        return ()

    def figures(self, mutator: Any, subnet: Subnet | None) -> Mapping[str, Any]:
        """Return numbers that a monitor notes after an epoch, ``{name: number}``.

        Args:
            mutator: Prepared.
            subnet: What would be found now, if that can be said.
        """
        return {}

    def before_step(self, search: Any, train_batch: Any, arch_batch: Any) -> None:
        """Act before a search step.

        Args:
            search: The :class:`~mmrazor_mutators.BilevelSearch`.
            train_batch: ``(inputs, targets)`` of the weights' half.
            arch_batch: The same of the architecture's half, or ``None``.
        """

    def around_weight_step(
        self, search: Any, train_batch: Any, arch_batch: Any
    ) -> AbstractContextManager[None]:
        """Return a context in which the step of the weights is taken."""
        return nullcontext()

    def after_search(self, search: Any, train_batches: Any, arch_batches: Any) -> None:
        """Act when the last epoch is over.

        Args:
            search: The :class:`~mmrazor_mutators.BilevelSearch`.
            train_batches: Can be iterated over more than once; yields batches.
            arch_batches: The same for the architecture's half, or ``None``.
        """
