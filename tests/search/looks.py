"""Counts how often the host waits for the device: a read of a value is one look."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_READS = ('_local_scalar_dense', 'equal', 'nonzero', 'masked_select', '_unique2')
_METHODS = ('tolist', 'cpu', 'numpy')
_MAKERS = ('tensor', 'as_tensor')


def _by_an_optimizer() -> bool:
    """Whether an optimizer of torch reads its own counter of steps, which is on the CPU."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if '/torch/optim/' in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


class Looks(TorchDispatchMode):
    """Notes every look inside of ``with looks:``.

    Attributes:
        seen: What was called, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.inside = False

    def note(self, name: str) -> None:
        if not self.inside and not _by_an_optimizer():
            self.seen.append(name)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masks = args[1] if name in ('index', 'index_put', 'index_put_') else ()
        if name in _READS or any(m is not None and m.dtype is torch.bool for m in masks):
            self.note(name)
        return func(*args, **(kwargs or {}))


def _noting(looks: Looks, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def method(*args: Any, **kwargs: Any) -> Any:
        looks.note(name)
        outer, looks.inside = looks.inside, True
        try:
            return original(*args, **kwargs)
        finally:
            looks.inside = outer

    return method


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Yield the list of looks, which grows inside of the block."""
    looks = Looks()
    with monkeypatch.context() as patch, looks:
        for name in _METHODS:
            patch.setattr(Tensor, name, _noting(looks, name, getattr(Tensor, name)))
        for name in _MAKERS:  # From a list of Python: a copy that waits, too.
            patch.setattr(torch, name, _noting(looks, name, getattr(torch, name)))
        yield looks.seen
