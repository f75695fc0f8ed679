"""Temporary changes of weights, buffers and random state, undone whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    'buffers_kept',
    'buffers_kept_on_error',
    'frozen',
    'get_rng_state',
    'in_mode',
    'replaced',
    'replayed',
    'set_rng_state',
]


@contextmanager
def buffers_kept_on_error(module: nn.Module) -> Iterator[None]:
    """Put every buffer of ``module`` back if the block raises."""
    put_back = _save_buffers(module)
    try:
        yield
    except BaseException:
        put_back()
        raise


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Put every buffer of ``module`` back after the block.

    Running statistics then show no trace of passes at weights that were never
    the network's own.
    """
    put_back = _save_buffers(module)
    try:
        yield
    finally:
        put_back()


def _save_buffers(module: nn.Module) -> Callable[[], None]:
    """Return a function that restores every buffer: which tensor it is, and its values."""
    tensors = list(module.buffers())
    saved = [tensor.clone() for tensor in tensors]
    # A module may also assign a new tensor instead of changing the one it has.
    places = [(part._buffers, dict(part._buffers)) for part in module.modules()]

    def put_back() -> None:
        for buffers, entries in places:
            buffers.clear()
            buffers.update(entries)
        _copy_back(tensors, saved)

    return put_back


def _copy_back(tensors: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(tensors, saved, strict=True):
            tensor.copy_(value)


@contextmanager
def replaced(params: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Give parameters other values inside of the block; bit for bit the same after it.

    The parameters stay the same objects.  No graph that was built before may
    be differentiated inside of the block.
    """
    saved = [param.detach().clone() for param in params]
    try:
        _copy_back(params, values)
        yield
    finally:
        _copy_back(params, saved)


@contextmanager
def frozen(params: Sequence[Tensor]) -> Iterator[None]:
    """Let no graph reach the parameters inside of the block."""
    flags = [param.requires_grad for param in params]
    try:
        for param in params:
            param.requires_grad_(False)
        yield
    finally:
        for param, flag in zip(params, flags, strict=True):
            param.requires_grad_(flag)


@contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Let a module train or evaluate inside of the block; then each part is as it was."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.train(training)
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def get_rng_state() -> dict[str, Any]:
    """Return the state of torch's generators, on the CPU and on every CUDA device in use."""
    state: dict[str, Any] = {'cpu': torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Set what :func:`get_rng_state` returned."""
    torch.set_rng_state(state['cpu'])
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state['cuda'])


@contextmanager
def replayed(state: dict[str, Any]) -> Iterator[None]:
    """Draw the random numbers that were drawn from ``state`` on, then go on as before.

    A loss with dropout or sampled weights is a function of the weights only
    while its draws stay the same.
    """
    current = get_rng_state()
    set_rng_state(state)
    try:
        yield
    finally:
        set_rng_state(current)
