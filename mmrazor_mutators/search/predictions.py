"""What a supernet says about a batch, whatever the form of the batch is."""

from __future__ import annotations

from typing import Any

from torch import nn

from .checks import pair_of
from .summary import SummarizedSearch

__all__ = ['Predictions']


class Predictions(SummarizedSearch):
    """Outputs and targets of batches; override both methods for batches of another form."""

    supernet: nn.Module

    def predict(self, batch: Any) -> tuple[Any, Any]:
        """Return what the supernet makes of a batch, and what it should be.

        Args:
            batch: A pair ``(inputs, targets)``.
        """
        inputs, targets = pair_of(batch)
        return self.supernet(inputs), targets

    def size_of(self, batch: Any) -> int:
        """Return the number of samples in a batch."""
        return len(pair_of(batch)[0])
