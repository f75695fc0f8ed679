"""Implicit differentiation with conjugate gradients."""

from __future__ import annotations

from torch import Tensor

from ...errors import ConfigError
from ...registry import HYPERGRADIENTS
from .implicit import Implicit, MatVec
from .tensors import add, dot

__all__ = ['ConjugateGradient']


@HYPERGRADIENTS.register_module(name='cg')
class ConjugateGradient(Implicit):
    r"""Solves :math:`(H + \delta I)\, x = v` by conjugate gradients.

    Hestenes & Stiefel 1952; for hypergradients, Pedregosa, ICML 2016.  The
    method is meant for a positive definite matrix; it stops where it meets a
    direction of no or negative curvature, and damping makes room for some.
    Whether to stop is looked up on the device, twice in each iteration.

    Args:
        num_iterations: At most this many products with :math:`H`, from 1 on.
        damping: :math:`\delta`, from 0 on.
        tolerance: Stop when the residual is this small against :math:`v`.

    Raises:
        ConfigError: An option outside of its range.
    """

    def __init__(
        self, num_iterations: int = 10, damping: float = 0.0, tolerance: float = 1e-10
    ) -> None:
        if num_iterations < 1:
            raise ConfigError(
                f'Expected `num_iterations` to be at least 1, but got {num_iterations!r}'
            )
        if not damping >= 0:
            raise ConfigError(f'Expected `damping` to be at least 0, but got {damping!r}')
        self.num_iterations = num_iterations
        self.damping = damping
        self.tolerance = tolerance

    def solve(self, hessian_product: MatVec, vector: list[Tensor]) -> list[Tensor]:
        """Return the solution after the last iteration."""
        solution = [value.new_zeros(value.shape) for value in vector]
        residual = direction = vector
        squared = initial = dot(residual, residual)
        for _ in range(self.num_iterations):
            if squared <= self.tolerance**2 * initial:
                break
            product = add(hessian_product(direction), direction, self.damping)
            curvature = dot(direction, product)
            if curvature <= 0:
                break
            length = squared / curvature
            solution = add(solution, direction, length)
            residual = add(residual, product, -length)
            previous, squared = squared, dot(residual, residual)
            direction = add(residual, direction, squared / previous)
        return solution
