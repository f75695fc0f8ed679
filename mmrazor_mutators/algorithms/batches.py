"""Batches as a network takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

__all__ = ['PreparedBatches', 'laid_out']


def laid_out(batch: Any, memory_format: Any) -> Any:
    """Return a batch whose images lie in memory as the weights do."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        inputs, targets = batch
        if isinstance(inputs, Tensor) and inputs.dim() == 4:
            return inputs.contiguous(memory_format=memory_format), targets
    return batch


class PreparedBatches:
    """The batches of a loader, each prepared, as often as one asks for them.

    Args:
        loader: Yields batches.
        prepare: What is made of each.
    """

    def __init__(self, loader: Iterable[Any], prepare: Callable[[Any], Any]) -> None:
        self._loader = loader
        self._prepare = prepare

    def __iter__(self) -> Iterator[Any]:
        return map(self._prepare, self._loader)
