"""Forward passes of a supernet: when one begins, and what it mixes with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ..mutables import find_mutables
from ..typing import Mixture

__all__ = ['ForwardScope', 'hook_trunk', 'trunk']


def _in_backward() -> bool:
    """Whether autograd is running, as when a checkpointed segment is recomputed."""
    return torch._C._current_graph_task_id() != -1


class ForwardScope:
    """Knows when a forward pass of the supernet begins and ends.

    The mixtures are made when the outermost module of the supernet's trunk is
    entered, and hold until that happens again: a segment that is recomputed
    during the backward pass sees the draw of its forward pass.  For segments
    inside of the supernet that needs ``checkpoint(..., use_reentrant=False)``,
    since the older kind cannot share weights between segments; and where another
    pass may come before the backward pass, ``Recomputed`` in its place.

    Args:
        relax_spaces: Makes the mixtures of all spaces for one forward pass.
    """

    def __init__(self, relax_spaces: Callable[[], dict[str, Mixture]]) -> None:
        self._relax_spaces = relax_spaces
        self._mixtures: dict[str, Mixture] = {}
        self._fixed: dict[str, Mixture] = {}
        self._given: dict[str, Mixture] = {}
        self._entered: list[int] = []

    @property
    def mixtures(self) -> dict[str, Mixture]:
        """The mixtures of the pass that is running, or came last."""
        return self._mixtures

    @property
    def is_open(self) -> bool:
        """Whether mixtures of a forward pass are there to be used."""
        return bool(self._entered) or (bool(self._mixtures) and _in_backward())

    def enter(self, level: int, *_: Any) -> None:
        """Begin a forward pass, unless a module further up the trunk has done so.

        Args:
            level: How far below the supernet the entered module is.
        """
        # What is not above it was left without a word, by an interrupt.
        self._entered = [above for above in self._entered if above < level]
        if not self._entered:
            # A pass that is recomputed as a whole draws again, from the random
            # state that the checkpoint has restored.
            if not _in_backward():
                self._given = dict(self._fixed)
            self._mixtures = {**self._relax_spaces(), **self._given}
        self._entered.append(level)

    def leave(self, level: int, *_: Any) -> None:
        """End what :meth:`enter` began, also when the forward pass raised."""
        self._entered = [above for above in self._entered if above < level]

    @contextmanager
    def fixing(self, mixtures: Mapping[str, Mixture]) -> Iterator[None]:
        """Use the given mixtures instead of relaxed ones."""
        previous = self._fixed
        self._fixed = {**previous, **mixtures}
        try:
            yield
        finally:
            self._fixed = previous

    def remember(self) -> Callable[[], AbstractContextManager[None]]:
        """Return what opens a block in which the pass that is running now goes on.

        A segment that is recomputed then sees the mixtures of its own pass,
        even if another pass has begun since.
        """
        return partial(self._going_on, self._mixtures if self.is_open else {}, self._entered)

    @contextmanager
    def _going_on(self, mixtures: dict[str, Mixture], entered: list[int]) -> Iterator[None]:
        current = self._mixtures, self._entered
        self._mixtures, self._entered = mixtures, list(entered)
        try:
            yield
        finally:
            self._mixtures, self._entered = current

    def mixture(self, space_id: str) -> Mixture | None:
        """Return the mixture of a space, or ``None`` outside of any forward pass."""
        if not self.is_open:
            # A mutable that is called by itself: should it be recomputed, then without
            # the mixtures of an older pass.
            self._mixtures = {}
            return self._fixed.get(space_id)
        return self._mixtures.get(space_id)

    def __getstate__(self) -> dict[str, Any]:
        # Mixtures belong to a graph, which can be neither copied nor pickled.
        return {**self.__dict__, '_mixtures': {}, '_given': {}, '_fixed': {}, '_entered': []}


def trunk(supernet: nn.Module) -> list[nn.Module]:
    """Return the modules that contain every mutable, from the root downward.

    Whichever of them is called first, by itself or through a wrapper, begins
    a forward pass.
    """
    mutables = {id(m) for m in find_mutables(supernet)}
    modules = [supernet]
    while True:
        holding_all = [
            child
            for child in modules[-1].children()
            if mutables <= {id(m) for m in find_mutables(child)}
        ]
        if not holding_all:
            return modules
        modules.append(holding_all[0])


def hook_trunk(supernet: nn.Module, scope: ForwardScope) -> list[Any]:
    """Let ``scope`` see the forward passes of ``supernet``; return the hooks' handles."""
    handles = []
    for level, module in enumerate(trunk(supernet)):
        enter, leave = partial(scope.enter, level), partial(scope.leave, level)
        handles.append(module.register_forward_pre_hook(enter, prepend=True))
        handles.append(module.register_forward_hook(leave, always_call=True))
    return handles
