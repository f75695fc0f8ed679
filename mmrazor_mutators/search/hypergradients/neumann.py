"""Implicit differentiation with a Neumann series."""

from __future__ import annotations

from torch import Tensor

from ...errors import ConfigError
from ...registry import HYPERGRADIENTS
from .implicit import Implicit, MatVec
from .tensors import add

__all__ = ['Neumann']


@HYPERGRADIENTS.register_module(name='neumann')
class Neumann(Implicit):
    r""":math:`H^{-1} v \approx \eta \sum_{k=0}^{K} (I - \eta H)^k v`.

    Lorraine et al., AISTATS 2020, algorithm 3.  Converges where
    :math:`\eta` is below 2 over the largest eigenvalue of :math:`H`.

    Args:
        num_terms: :math:`K`, from 0 (a scaled identity) on.
        step_size: :math:`\eta`, above 0.

    Raises:
        ConfigError: An option outside of its range.
    """

    def __init__(self, num_terms: int = 5, step_size: float = 0.01) -> None:
        if num_terms < 0:
            raise ConfigError(f'Expected `num_terms` to be at least 0, but got {num_terms!r}')
        if not step_size > 0:
            raise ConfigError(f'Expected `step_size` to be above 0, but got {step_size!r}')
        self.num_terms = num_terms
        self.step_size = step_size

    def solve(self, hessian_product: MatVec, vector: list[Tensor]) -> list[Tensor]:
        """Return the partial sum of the series."""
        term = total = vector
        for _ in range(self.num_terms):
            term = add(term, hessian_product(term), -self.step_size)
            total = add(total, term)
        return [self.step_size * value for value in total]
