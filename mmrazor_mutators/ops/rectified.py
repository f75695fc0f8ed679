"""What candidates have in common that begin with a ReLU and end with a norm."""

from __future__ import annotations

from abc import abstractmethod
from itertools import islice
from typing import Any

from torch import Tensor, nn

from ..sharing import Prologue
from .base import BaseOP
from .batch_norm import scaled_norm

__all__ = ['RectifiedOP', 'run_after_first']


class RectifiedOP(BaseOP):
    """A candidate whose ReLU is shared, and whose norm multiplies by its weight.

    Args:
        **kwargs: As for :class:`BaseOP`.
    """

    @property
    @abstractmethod
    def first(self) -> Any:
        """The module that it begins with; only a plain ReLU is shared."""

    @abstractmethod
    def after_first(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Go on after the first module.

        Args:
            x: The output of that.
            weight: What the result is multiplied by, a scalar tensor; ``None``
                for nothing.
        """

    def prologue(self) -> Prologue | None:
        """Share the ReLU."""
        first = self.first
        return Prologue('relu', first) if type(first) is nn.ReLU and not first.inplace else None

    def epilogue(self, rectified: Tensor) -> Tensor:
        """Go on after the ReLU."""
        return self.after_first(rectified)

    def scaled_epilogue(self, rectified: Tensor, weight: Tensor) -> Tensor:
        """Go on after the ReLU, and multiply."""
        return self.after_first(rectified, weight)


def run_after_first(layers: nn.Sequential, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Run all layers but the first one, whose output is ``x``; the last one scales."""
    last = len(layers) - 1
    for layer in islice(layers, 1, last):
        x = layer(x)
    return scaled_norm(layers[last], x, weight)
