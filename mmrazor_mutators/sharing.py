"""Work that several candidates do on one tensor, done once.

Candidates that read the same source often begin alike: with a ReLU, with a
pooling.  One that tells how it begins (``prologue``) and how it goes on
(``epilogue``) shares that beginning with all others of the same key inside
of ``with shared_work():``, which the cells of the supernets are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .structures import scale

__all__ = [
    'Begun',
    'Open',
    'Prologue',
    'begin',
    'finish',
    'is_hooked',
    'leave_open',
    'run_candidate',
    'shared_work',
]


class Prologue(NamedTuple):
    """How a candidate begins.

    Attributes:
        key: Equal for two candidates if they begin with the same function.
        run: That function of the source.
    """

    key: Hashable
    run: Callable[[Tensor], Any]


_Results = dict[tuple[int, bool, Hashable], tuple[Tensor, Any]]


class _Blocks(threading.local):
    """The results of the blocks that are running in this thread, by source and key."""

    def __init__(self) -> None:
        self.results: list[_Results] = []


_blocks = _Blocks()


@contextmanager
def shared_work() -> Iterator[None]:
    """Let candidates share their prologues inside of the block.

    Blocks may be nested; nothing outlives its own.

    >>> from mmrazor_mutators.ops import DartsDilConv
    >>> x, kwargs = torch.rand(2, 4, 8, 8), dict(in_channels=4, out_channels=4)
    >>> ops = [DartsDilConv(kernel_size=3, **kwargs) for _ in range(2)]
    >>> with shared_work():  # One ReLU for both of them.
    ...     outputs = [run_candidate(op, x) for op in ops]
    >>> all(torch.equal(y, op(x)) for y, op in zip(outputs, ops))
    True
    """
    _blocks.results.append({})
    try:
        yield
    finally:
        _blocks.results.pop()


def is_hooked(module: nn.Module) -> bool:
    """Whether somebody listens to the calls of ``module``, which are left out here."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


class Begun(NamedTuple):
    """A candidate that has begun.

    Attributes:
        value: What its prologue made of the source, or the source itself.
        shares: Whether that is a prologue's.
    """

    value: Any
    shares: bool


def begin(module: Any, x: Any) -> Begun:
    """Run the prologue of a candidate, unless it was run for ``x`` already.

    A candidate joins in by two methods: ``prologue()`` returns a
    :class:`Prologue`, or ``None`` to be left alone in its current state, and
    ``epilogue(shared)`` makes the output of what that returned.  One that ends
    with a norm has a third, ``open_epilogue(shared)``, which stops before that
    and returns an :class:`Open`.  Hooks on a candidate keep it out.
    """
    prologue = None
    if hasattr(module, 'prologue') and not is_hooked(module):
        prologue = module.prologue()
    return Begun(x, False) if prologue is None else Begun(_shared(prologue, x), True)


class Open(NamedTuple):
    """The output of a candidate, left open before its last norm.

    Whoever sums up candidates may normalise by itself, together with all other ones.

    Attributes:
        map: What the norm would read; without a norm, the output itself.
        norm: A module that changes no shape, or ``None``.
    """

    map: Tensor
    norm: nn.Module | None = None

    def close(self, weight: Tensor | None = None) -> Tensor:
        """Return the output, multiplied by a scalar tensor if one is given."""
        output = self.map if self.norm is None else self.norm(self.map)
        return output if weight is None else scale(output, weight)


def leave_open(module: Any, begun: Begun) -> Open:
    """Go on with a candidate that has begun, to its last norm where it knows to stop there."""
    if not begun.shares:
        return Open(module(begun.value))
    if hasattr(module, 'open_epilogue'):
        return module.open_epilogue(begun.value)
    return Open(module.epilogue(begun.value))


def finish(module: Any, begun: Begun, weight: Tensor | None = None) -> Tensor:
    """Return ``weight * module(x)`` of a candidate that has begun with ``x``."""
    if begun.shares and weight is None:
        return module.epilogue(begun.value)
    return leave_open(module, begun).close(weight)


def run_candidate(module: Any, x: Any, weight: Tensor | None = None) -> Tensor:
    """Return ``weight * module(x)``, with whatever was done for ``x`` already.

    Args:
        module: The candidate; see :func:`begin`.
        x: Its input.
        weight: A scalar tensor; ``None`` for the bare output.
    """
    return finish(module, begin(module, x), weight)


def _shared(prologue: Prologue, x: Any) -> Any:
    """Return what a prologue makes of ``x``, from an earlier run where there was one."""
    if not _blocks.results or torch.compiler.is_compiling():
        return prologue.run(x)
    # The source is kept along, so that its id stays its own.
    results, key = _blocks.results[-1], (id(x), torch.is_grad_enabled(), prologue.key)
    if key not in results:
        results[key] = x, prologue.run(x)
    return results[key][1]
