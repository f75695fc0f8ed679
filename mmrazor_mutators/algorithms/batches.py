"""Batches as a network takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from ..errors import InputError

__all__ = ['PreparedBatches', 'laid_out', 'pair_of', 'parts_of', 'size_of']

_IMAGES = ('inputs', 'img')
_TARGETS = ('data_samples', 'gt_label')


def pair_of(batch: Any) -> tuple[Any, Any]:
    """Return a batch as a pair ``(inputs, targets)``.

    Args:
        batch: Such a pair, or a dict with ``inputs`` and ``data_samples``, or
            with ``img`` and ``gt_label``, of which the latter may be missing.

    Raises:
        InputError: Anything else.

    >>> pair_of({'img': 1, 'gt_label': 2}), pair_of([3, 4])
    ((1, 2), (3, 4))
    """
    if isinstance(batch, Mapping):
        for images, targets in zip(_IMAGES, _TARGETS, strict=True):
            if images in batch:
                return batch[images], batch.get(targets)
        came = f'a dict with {", ".join(map(repr, batch)) or "nothing"}'
    elif isinstance(batch, (tuple, list)):
        if len(batch) == 2:
            return batch[0], batch[1]
        came = f'{len(batch)} parts'
    else:
        came = type(batch).__name__
    raise InputError(
        'Expected a batch to be a pair (inputs, targets), or a dict with `inputs` and '
        f'`data_samples` or with `img` and `gt_label`, but got {came}'
    )


def size_of(batch: Any) -> int:
    """Return the number of samples in a batch.

    >>> size_of({'img': [1, 2, 3]}), size_of(([1, 2], None))
    (3, 2)
    """
    if isinstance(batch, Mapping):
        return len(next(batch[key] for key in _IMAGES if key in batch))
    return len(batch[0])


def parts_of(batch: Any, count: int, prepare: Callable[[Any], Any]) -> Any:
    """Return the prepared batch of a step, or the list of those that it accumulates.

    Args:
        batch: A batch, or a list of ``count`` of them.
        count: How many a step accumulates.
        prepare: What is made of each.

    Raises:
        InputError: Another number of batches.

    >>> parts_of('a', 1, str.upper), parts_of(['a', 'b'], 2, str.upper)
    ('A', ['A', 'B'])
    """
    if count == 1:
        return prepare(batch)
    if not isinstance(batch, list) or len(batch) != count:
        came = len(batch) if isinstance(batch, list) else type(batch).__name__
        raise InputError(
            f'Expected a list of {count} batches in a step with accumulate={count}, but got '
            f'{came}; use BilevelTrainLoop'
        )
    return [prepare(part) for part in batch]


def laid_out(batch: Any, memory_format: Any) -> Any:
    """Return a batch whose images lie in memory as the weights do."""
    if isinstance(batch, Mapping):
        images = {
            key: _as_weights(batch[key], memory_format) for key in _IMAGES if key in batch
        }
        return {**batch, **images}
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return _as_weights(batch[0], memory_format), batch[1]
    return batch


def _as_weights(images: Any, memory_format: Any) -> Any:
    if isinstance(images, Tensor) and images.dim() == 4:
        return images.contiguous(memory_format=memory_format)
    return images


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
