"""Activation checkpoints: a module is computed once more when the backward pass comes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..mutators.binding import ForwardScope, scopes_of
from .copies import copied, copy_into

__all__ = ['Moment', 'checkpointed']

Around = Callable[[], AbstractContextManager[Any]]


class Moment:
    """What a module depends on beside its inputs and weights, as it is just now.

    ``with moment:`` brings that back for the length of the block: the mixtures
    of the forward pass, the values of buffers, the mode of each part.  After
    the block all of it is as before the block, so a recomputation counts in no
    running statistic.  The block may be entered again and again; random
    states are the checkpoint's own matter.

    Args:
        module: Whose forward pass begins.
        scopes: Of the mutators that mutables inside of it are bound to.
        around: Opens what the pass runs inside of.

    >>> norm = nn.BatchNorm1d(2)
    >>> moment = Moment(norm)
    >>> _ = norm(torch.rand(4, 2)), norm(torch.rand(4, 2))
    >>> with moment:
    ...     inside = norm.num_batches_tracked.item()
    >>> inside, norm.num_batches_tracked.item()
    (0, 2)
    """

    def __init__(
        self,
        module: nn.Module,
        scopes: Sequence[ForwardScope] = (),
        around: Around = nullcontext,
    ) -> None:
        self._module = module
        self._around = around
        self._bring_back = _noted(module)
        self._passes = [scope.remember() for scope in scopes]
        self._undo = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            stack.callback(_noted(self._module))
            for pass_again in self._passes:
                stack.enter_context(pass_again())
            stack.enter_context(self._around())
            self._bring_back()
            self._undo = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._undo.close()


def _noted(module: nn.Module) -> Callable[[], None]:
    """Return a function that puts buffers and modes of ``module`` back to what they are now."""
    parts = [(part, part.training, dict(part._buffers)) for part in module.modules()]
    # By way of `data`: to a graph that has noted a buffer, it never changes.
    tensors = [b.data for _, _, own in parts for b in own.values() if b is not None]
    values = copied(tensors)

    def put_back() -> None:
        for part, training, buffers in parts:
            part.training = training
            if buffers:
                part._buffers.clear()
                part._buffers.update(buffers)
        copy_into(tensors, values)

    return put_back


class _Checkpointed:
    """Runs a module's forward as one segment of which nothing but the inputs is kept.

    Args:
        module: The module.
        forward: Its forward.
        scopes: As for :class:`Moment`.
        around: As for :class:`Moment`.
    """

    def __init__(
        self,
        module: nn.Module,
        forward: Callable[..., Any],
        scopes: Sequence[ForwardScope],
        around: Around,
    ) -> None:
        self.module = module
        self.forward = forward
        self.scopes = scopes
        self.around = around

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        moment = Moment(self.module, self.scopes, self.around)
        return checkpoint(
            self.forward,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), moment),
            **kwargs,
        )


@contextmanager
def checkpointed(module: nn.Module, around: Around = nullcontext) -> Iterator[None]:
    """Recompute ``module`` in the backward passes of what is run inside of the block.

    Without gradients it runs as always.  After the block its ``forward`` is
    what it was, be it the class's or one of its own.

    Args:
        module: Everything that is random in it has to come from torch.
        around: Opens what its passes run inside of, for the recomputation, which comes
            when that is closed.
    """
    own = module.__dict__.get('forward')
    if isinstance(own, _Checkpointed):  # By a block around this one.
        yield
        return
    module.__dict__['forward'] = _Checkpointed(
        module, module.forward, scopes_of(module), around
    )
    try:
        yield
    finally:
        if own is None:
            del module.__dict__['forward']
        else:
            module.__dict__['forward'] = own
