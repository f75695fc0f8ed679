"""Layers of ours as those of torch that compute the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from torch import nn

__all__ = ['our_classes_kept', 'use_torch_classes']

_kept: ContextVar[bool] = ContextVar('kept', default=False)


def use_torch_classes(network: nn.Module) -> None:
    """Give each layer the class of torch that it names as its ``torch_class``, in place.

    Parameters, buffers, hooks and names stay.  A subclass of such a layer may compute
    something else and keeps its class, unless it names one itself.

    >>> from mmrazor_mutators.ops.fast_convs import PointwiseConv2d
    >>> net = nn.Sequential(PointwiseConv2d(2, 3, 1))
    >>> use_torch_classes(net)
    >>> type(net[0]) is nn.Conv2d
    True
    """
    for module in network.modules():
        torch_class = vars(type(module)).get('torch_class')
        if torch_class is not None and not _kept.get():
            cast(Any, module).__class__ = torch_class


@contextmanager
def our_classes_kept() -> Iterator[None]:
    """Let networks that are exported inside of the block keep what trains fast on a CPU."""
    token = _kept.set(True)
    try:
        yield
    finally:
        _kept.reset(token)
