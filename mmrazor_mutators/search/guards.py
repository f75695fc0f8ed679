"""Temporary changes of weights, buffers and random state, undone whatever happens."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..copies import SavedBuffers, copied, copy_into

__all__ = [
    'buffers_kept',
    'buffers_kept_on_error',
    'draws_kept',
    'frozen',
    'get_rng_state',
    'in_mode',
    'lent',
    'replayed',
    'set_rng_state',
    'uncollected',
    'values_kept',
]


@contextmanager
def buffers_kept_on_error(module: nn.Module) -> Iterator[SavedBuffers]:
    """Put every buffer of ``module`` back if the block raises."""
    saved = SavedBuffers(module)
    try:
        yield saved
    except BaseException:
        saved.put_back()
        raise


@contextmanager
def buffers_kept(module: nn.Module, saved: SavedBuffers | None = None) -> Iterator[None]:
    """Put every buffer of ``module`` back after the block.

    Running statistics then show no trace of passes at weights that were never
    the network's own.

    Args:
        module: Whose buffers are kept.
        saved: Copies that somebody else has made of them as they are now.
    """
    saved = SavedBuffers(module) if saved is None else saved
    try:
        yield
    finally:
        saved.put_back()


@contextmanager
def values_kept(params: Sequence[Tensor]) -> Iterator[Callable[[], None]]:
    """Put the values of parameters back after the block, bit for bit.

    The parameters stay the same objects.  No graph that was built before they
    were moved may be differentiated afterwards.

    Yields:
        A function that puts them back at once; it can be called repeatedly.
    """
    saved = copied(params)
    try:
        yield lambda: copy_into(params, saved)
    finally:
        copy_into(params, saved)


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
def lent(borrower: Any, name: str, value: Any) -> Iterator[None]:
    """Give an object an attribute inside of the block, and take it away after it."""
    setattr(borrower, name, value)
    try:
        yield
    finally:
        delattr(borrower, name)


@contextmanager
def uncollected() -> Iterator[None]:
    """Let Python look for no cycles of references inside of the block.

    It looks each time that some hundred objects are new, and goes through all of the growing
    graph of a pass, which holds none.  With many candidates that is an eighth of a step.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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


@contextmanager
def draws_kept() -> Iterator[None]:
    """Put the generators of torch, NumPy and Python back after the block."""
    kept = get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])
