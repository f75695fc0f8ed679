"""Steps that are skipped because a loss or a gradient is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import NonFiniteLossError
from .loss_scale import LossScale

__all__ = ['Skips']


class Skips:
    """Counts the steps that were skipped.

    Args:
        allowed: How many in a row.
        loss_scale: Which may be at fault for a gradient, and is lowered then; such steps
            are not counted among those in a row.

    Attributes:
        total: How many there were in all.
        in_a_row: How many there were since the last step that was taken.

    >>> skips = Skips(1)
    >>> logs = {}
    >>> with skips.counted(logs):
    ...     raise NonFiniteLossError('The loss is nan; no step was taken')
    >>> skips.total, skips.in_a_row, logs
    (1, 1, {'skipped': tensor(1.)})
    """

    def __init__(self, allowed: int, loss_scale: LossScale | None = None) -> None:
        self.allowed = allowed
        self.loss_scale = loss_scale
        self.total = 0
        self.in_a_row = 0

    @contextmanager
    def counted(self, logs: dict[str, Tensor]) -> Iterator[None]:
        """Skip a step that raises because of what is not finite, and has been undone.

        Args:
            logs: Of the step; emptied if it is skipped.

        Raises:
            NonFiniteLossError: No more may be skipped.
        """
        try:
            yield
        except NonFiniteLossError as error:
            self.total += 1
            lowered = self._lowered(error)
            self.in_a_row += not lowered
            if not lowered and (self.in_a_row > self.allowed or not error.agreed):
                if not (self.allowed and error.agreed):
                    raise
                raise NonFiniteLossError(
                    f'{self.in_a_row} steps in a row were not finite, of which '
                    f'skip_non_finite={self.allowed} may be skipped. {error}'
                ) from error
            logs.clear()
            logs['skipped'] = torch.ones(())
        else:
            self.in_a_row = 0
            if self.loss_scale is not None:
                self.loss_scale.keep()

    def again(self, step: Callable[[], Tensor]) -> Tensor:
        """Return what a step returns, taken again with a lower scale where that is at fault."""
        while True:
            try:
                result = step()
            except NonFiniteLossError as error:
                if not self._lowered(error):
                    raise
            else:
                if self.loss_scale is not None:
                    self.loss_scale.keep()
                return result

    def _lowered(self, error: NonFiniteLossError) -> bool:
        scale = self.loss_scale if error.agreed and error.of_gradient else None
        return scale is not None and scale.lower()
