"""Steps over batches that come in parts, so that one part at a time is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from torch import Tensor

from ...distributed import average_
from ...errors import InputError
from ..guards import get_rng_state, set_rng_state
from .scaling import unscaled_gradients
from .tensors import unshared

__all__ = ['MicroBatches', 'grouped', 'loss_and_gradient', 'mean_loss']


class MicroBatches(tuple[Any, ...]):
    """The parts of one batch.

    Attributes:
        shares: How many of all samples each part has, as a fraction.
    """

    shares: Sequence[float]

    @classmethod
    def of(
        cls, name: str, batches: Any, count: int, size_of: Callable[[Any], int]
    ) -> MicroBatches:
        """Return the parts that a step was given.

        Args:
            name: Of the argument.
            batches: A list of the parts.
            count: How many there have to be.
            size_of: Returns the number of samples in a part.

        Raises:
            InputError: Something else than so many batches.

        >>> parts = MicroBatches.of('batch', [[1, 2, 3], [4]], 2, len)
        >>> parts, parts.shares
        (([1, 2, 3], [4]), [0.75, 0.25])
        """
        fits = isinstance(batches, (list, tuple)) and len(batches) == count
        if not fits or any(isinstance(batch, Tensor) for batch in batches):
            came = type(batches).__name__
            if isinstance(batches, (list, tuple)):
                came = f'{len(batches)} of {", ".join({type(b).__name__ for b in batches})}'
            raise InputError(
                f'Expected `{name}` to be a list of {count} batches, as accumulate={count} '
                f'says, but got {came}'
            )
        sizes = [size_of(batch) for batch in batches]
        if not sum(sizes):
            raise InputError(f'Expected `{name}` to have samples, but got none')
        parts = cls(batches)
        parts.shares = [size / sum(sizes) for size in sizes]
        return parts


def _with_equal_draws(batches: MicroBatches) -> Iterator[tuple[Any, float]]:
    """Yield each part and its share; all draw the random numbers that one batch would draw."""
    draws = get_rng_state()
    for number, pair in enumerate(zip(batches, batches.shares, strict=True)):
        if number:
            set_rng_state(draws)
        yield pair


def mean_loss(loss_of: Callable[[Any], Tensor], batch: Any) -> Tensor:
    """Return the loss of a batch, of several parts as their mean with one graph for all."""
    if not isinstance(batch, MicroBatches):
        return loss_of(batch)
    losses = [share * loss_of(part) for part, share in _with_equal_draws(batch)]
    return sum(losses[1:], start=losses[0])


def loss_and_gradient(
    problem: Any, loss_of: Callable[[Any], Tensor], batch: Any, params: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor | None]]:
    """Return a detached loss and its gradient, part by part where the batch has parts.

    Args:
        problem: A :class:`BilevelProblem`, whose gradients agree over ranks.
        loss_of: ``batch -> scalar``.
        batch: A batch, or :class:`MicroBatches`.
        params: Leaves.
    """
    if not isinstance(batch, MicroBatches):
        loss = loss_of(batch)
        return loss.detach(), problem.gradient(loss, params)
    total: Tensor | None = None
    sums: list[Tensor | None] = [None] * len(params)
    for part, share in _with_equal_draws(batch):
        loss = share * loss_of(part)
        for index, grad in enumerate(unshared(unscaled_gradients(problem, loss, params))):
            before = sums[index]
            if before is None:
                sums[index] = grad
            elif grad is not None:
                before.add_(grad)
        total = loss.detach() if total is None else total + loss.detach()
        del loss
    average_([grad for grad in sums if grad is not None])
    if total is None:
        raise InputError('Expected at least one micro-batch, but got none')
    return total, sums


def grouped(batches: Iterable[Any], count: int) -> Iterator[Any]:
    """Yield what a step with ``accumulate=count`` takes; a rest that is too small is left out.

    >>> [*grouped([1, 2, 3], 1)], [*grouped([1, 2, 3], 2)]
    ([1, 2, 3], [[1, 2]])
    """
    if count == 1:
        yield from batches
        return
    iterator = iter(batches)
    while len(group := list(islice(iterator, count))) == count:
        yield group
