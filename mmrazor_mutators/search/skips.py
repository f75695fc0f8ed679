"""Steps that are skipped because a loss or a gradient is not finite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import NonFiniteLossError

__all__ = ['Skips']


class Skips:
    """Counts the steps that were skipped.

    Args:
        allowed: How many in a row.

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

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
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
            self.in_a_row += 1
            if self.in_a_row > self.allowed or not error.agreed:
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
