"""Candidates that change their input in place, kept apart from everybody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..structures import map_tensors

__all__ = ['Call', 'InputChanged', 'Inputs', 'Isolation', 'copy_inputs']

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a candidate."""


class InputChanged(Exception):
    """An input was changed in place; whoever knows where says so."""


def copy_inputs(module: nn.Module, args: Any, kwargs: Any) -> Inputs:
    """Return copies of all tensors: a forward pre-hook of modules that work in place."""
    return map_tensors(torch.clone, args), map_tensors(torch.clone, kwargs)


def _tensors(given: Inputs) -> list[Tensor]:
    args, kwargs = given
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        return [args[0]]
    return [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor)]


def _versions(tensors: Sequence[Tensor]) -> list[int] | None:
    """Return how often each was changed in place; ``None`` where PyTorch does not count."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return [tensor._version for tensor in tensors]


def _has_switch(module: nn.Module) -> bool:
    """Whether a part of ``module`` is told to work in place."""
    return any(getattr(part, 'inplace', False) is True for part in module.modules())


_KNOWN_PACKAGES = ('torch.', __name__.split('.')[0] + '.')


def _may_change_input(module: nn.Module) -> bool:
    """Whether a part of ``module`` is told to work in place, or has code of somebody else's.

    The layers of PyTorch do what they are told, ours change nothing, and a candidate that
    shares how it begins has promised to leave its input to the others.
    """
    if hasattr(module, 'prologue') or hasattr(module, 'term'):
        return False
    return _has_switch(module) or any(
        not type(part).__module__.startswith(_KNOWN_PACKAGES) for part in module.modules()
    )


class Call(NamedTuple):
    """A candidate with further arguments, or one that may change them; it shares no work.

    Attributes:
        module: The candidate.
        args: Its positional arguments after the first.
        kwargs: Its keyword arguments.
        isolation: Where to note whether it changes them; ``None`` if it cannot.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    isolation: Isolation | None

    def __call__(self, x: Any) -> Any:
        """Return what the candidate makes of ``x`` and the further arguments."""
        args, kwargs = (x, *self.args), self.kwargs
        if self.isolation is None:
            return self.module(*args, **kwargs)
        if self.isolation.changes_input(self.module) is False:
            # The gradients of its uses are added up first, as they are for a copy: so what
            # was learnt changes no rounding.
            args, kwargs = map_tensors(_alias, args), map_tensors(_alias, kwargs)
            return self.module(*args, **kwargs)
        args, kwargs = copy_inputs(self.module, args, kwargs)
        tensors = _tensors((args, kwargs))
        before = _versions(tensors)
        output = self.module(*args, **kwargs)
        if before is not None:
            self.isolation.learn(self.module, _versions(tensors) != before)
        return output


def _alias(tensor: Tensor) -> Any:
    return torch.ops.aten.alias(tensor)


class Isolation:
    """Knows which candidates of a mutable change their input.

    PyTorch counts the changes of a tensor.  A candidate that might change its input and runs
    for the first time, in training or in evaluation, gets a copy; if that was changed, it gets
    copies from then on.  All others get the input itself, so that nothing is copied where
    nothing works in place.
    """

    def __init__(self) -> None:
        self._changes_input: dict[tuple[int, bool], bool] = {}
        self._may: dict[int, bool] = {}

    def __deepcopy__(self, memo: Any) -> Isolation:
        return Isolation()  # Candidates are known by their identity.

    def __reduce__(self) -> Any:
        return Isolation, ()

    def learn(self, module: nn.Module, changes_input: bool) -> None:
        """Note whether a candidate has changed its input in its present mode."""
        self._changes_input[id(module), module.training] = changes_input

    def changes_input(self, module: nn.Module) -> bool | None:
        """Return whether it changes its input in its present mode; ``None`` if unknown."""
        return self._changes_input.get((id(module), module.training))

    def call(
        self, module: nn.Module, args: Sequence[Any], kwargs: dict[str, Any], traced: bool
    ) -> tuple[Any, Any]:
        """Return what to call, the candidate itself if possible, and its first argument.

        Args:
            module: The candidate.
            args: Its positional arguments, at least one.
            kwargs: Its keyword arguments.
            traced: Whether it is compiled, where no changes are counted: then what it is
                told tells what it does.
        """
        if traced and _has_switch(module):
            args, kwargs = copy_inputs(module, args, kwargs)
        x, *others = args
        watched = None if traced or not self._may_change(module) else self
        if watched is None and not (others or kwargs):
            return module, x
        return Call(module, tuple(others), kwargs, watched), x

    def _may_change(self, module: nn.Module) -> bool:
        may = self._may.get(id(module))
        if may is None:
            may = self._may[id(module)] = _may_change_input(module)
        return may

    @contextmanager
    def knowing(self, changes_input: dict[tuple[int, bool], bool]) -> Iterator[None]:
        """Know what was known at another time, inside of the block: for a recomputation."""
        current, self._changes_input = self._changes_input, dict(changes_input)
        try:
            yield
        finally:
            self._changes_input = current

    def remember(self) -> Callable[[], AbstractContextManager[None]]:
        """Return what opens a block in which it knows what it knows now."""
        return partial(self.knowing, dict(self._changes_input))

    @contextmanager
    def watching(self, inputs: Sequence[Inputs]) -> Iterator[None]:
        """Make sure that nothing is changed inside of the block after all.

        Raises:
            InputChanged: By a candidate that did not do so when it ran first.
        """
        if torch.compiler.is_compiling():
            yield
            return
        tensors = list({id(t): t for given in inputs for t in _tensors(given)}.values())
        before = _versions(tensors)
        yield
        if before is not None and _versions(tensors) != before:
            self._changes_input.clear()
            self._may.clear()
            raise InputChanged

    def isolated(self, module: nn.Module, duplicate: nn.Module) -> nn.Module:
        """Return the copy of a candidate for a network without mutables, made harmless.

        Args:
            module: The candidate; one that never ran is judged by what it is told.
            duplicate: The copy, which gets a hook if it has to.
        """
        known = [self._changes_input.get((id(module), mode)) for mode in (True, False)]
        if True in known or (known == [None, None] and _has_switch(module)):
            duplicate.register_forward_pre_hook(copy_inputs, with_kwargs=True)
        return duplicate
