"""Second order, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...registry import HYPERGRADIENTS
from .base import BilevelProblem
from .unrolled import Unrolled, exact_mixed_product

__all__ = ['Exact']


@HYPERGRADIENTS.register_module(name='exact')
class Exact(Unrolled):
    """The mixed product by differentiating the training gradient once more.

    What ``finite_difference`` approximates (DARTS, Liu et al., ICLR 2019,
    equation 7), without its error, at the price of a graph through the
    backward pass.
    """

    def mixed_product(
        self, problem: BilevelProblem, train_batch: Any, direction: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the exact product."""
        return exact_mixed_product(problem, train_batch, direction)
