"""Activation checkpoints: a module is computed once more when the backward pass comes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .copies import SavedBuffers

__all__ = ['Moment', 'Recomputed', 'checkpointed']


class Moment:
    """What a module depends on beside its inputs and weights, as it is just now.

    ``with moment:`` brings that back for the length of the block: the values
    of buffers, the mode of each part, and what parts with a method
    ``remember_pass`` say themselves, by returning what opens such a block for
    them.  After the block all of it is as before the block, so a recomputation
    counts in no running statistic.  The block may be entered again and again;
    random states are the checkpoint's own matter.

    Args:
        module: Whose forward pass begins.

    >>> norm = nn.BatchNorm1d(2)
    >>> moment = Moment(norm)
    >>> _ = norm(torch.rand(4, 2)), norm(torch.rand(4, 2))
    >>> with moment:
    ...     inside = norm.num_batches_tracked.item()
    >>> inside, norm.num_batches_tracked.item()
    (0, 2)
    """

    def __init__(self, module: nn.Module) -> None:
        parts: list[Any] = list(module.modules())
        modes = [(part, part.training) for part in parts]
        own = [part.remember_pass() for part in parts if hasattr(type(part), 'remember_pass')]
        self._blocks: list[Callable[[], AbstractContextManager[Any]]] = [
            partial(_in_modes, modes),
            SavedBuffers(module).lent,
            *own,
        ]
        self._undo = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            for block in self._blocks:
                stack.enter_context(block())
            self._undo = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._undo.close()


_Modes = Sequence[tuple[nn.Module, bool]]


@contextmanager
def _in_modes(modes: _Modes) -> Iterator[None]:
    current = [(part, part.training) for part, _ in modes]
    try:
        _set_modes(modes)
        yield
    finally:
        _set_modes(current)


def _set_modes(modes: _Modes) -> None:
    for part, mode in modes:
        if part.training is not mode:  # To set an attribute of a module takes its time.
            part.training = mode


class Recomputed:
    """Runs a function as one segment of which nothing but the inputs is kept.

    Its inner maps are computed again when they are needed.  That draws what the
    pass drew, sees the module as the pass saw it, and leaves no trace.  Without
    gradients the function runs as always.

    Args:
        function: Everything that is random in it has to come from torch.
        module: Holds all that the function uses, see :class:`Moment`.

    >>> block = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> x = torch.rand(4, 2)
    >>> torch.equal(Recomputed(block, block)(x), block(x))
    True
    """

    def __init__(self, function: Callable[..., Any], module: nn.Module) -> None:
        self.function = function
        self.module = module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.function(*args, **kwargs)
        moment = Moment(self.module)
        return checkpoint(
            self.function,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), moment),
            **kwargs,
        )


@contextmanager
def checkpointed(module: nn.Module) -> Iterator[None]:
    """Recompute ``module`` in the backward passes of what is run inside of the block.

    After the block its ``forward`` is what it was, be it the class's or one of
    its own.

    Args:
        module: As for :class:`Recomputed`.
    """
    own = module.__dict__.get('forward')
    if isinstance(own, Recomputed):  # By a block around this one.
        yield
        return
    module.__dict__['forward'] = Recomputed(module.forward, module)
    try:
        yield
    finally:
        if own is None:
            del module.__dict__['forward']
        else:
            module.__dict__['forward'] = own
