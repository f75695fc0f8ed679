"""How sharply a loss is curved: extreme eigenvalues of a Hessian that is never built."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..distributed import average_
from ..errors import ConfigError
from .hypergradients.tensors import filled, gradients

__all__ = ['dominant_eigenvalue', 'hessian_product', 'largest_eigenvalue']


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def hessian_product(loss: Tensor, params: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the function that multiplies a vector by the Hessian of a loss.

    Pearlmutter's product (1994): the gradient is differentiated once more
    along the vector.  All products come from the one graph of ``loss``, so
    that draws in it stay the same; over the ranks of a distributed run they
    are averaged.

    Args:
        loss: A scalar with a graph of which every operation has a second
            derivative.
        params: Leaves; vectors are as long as all of them together.
    """
    grads = filled(gradients(loss, params, create_graph=True), params)

    def product(vector: Tensor) -> Tensor:
        parts = vector.split([param.numel() for param in params])
        terms = [
            (grad * part.view_as(grad)).sum()
            for grad, part in zip(grads, parts, strict=True)
            if grad.requires_grad
        ]
        if not terms:
            return torch.zeros_like(vector)
        inner = torch.stack(terms).sum()
        result = _flat(filled(gradients(inner, params, retain_graph=True), params)).detach()
        average_([result])
        return result

    return product


def _start(like: Tensor, seed: int) -> Tensor:
    """Return a direction that touches no global random state.

    It is no special one: equal entries are in the null space of whatever goes
    through a softmax.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    return drawn.to(like)


def _ritz_values(
    product: Callable[[Tensor], Tensor],
    like: Tensor,
    wanted: Callable[[Tensor], Tensor],
    tolerance: float,
    max_products: int,
) -> float:
    """Power iteration that keeps every vector on its way (Lanczos, 1950)."""
    if not 0 < tolerance < 1:
        raise ConfigError(f'Expected `tolerance` to be between 0 and 1, but got {tolerance!r}')
    if max_products < 1:
        raise ConfigError(f'Expected `max_products` to be at least 1, but got {max_products!r}')
    vector = _start(like, seed=0)
    basis = [vector / vector.norm()]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    while True:
        image = product(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        for _ in range(2):  # Once leaves rounding errors that grow.
            known = torch.stack(basis)
            image = image - known.T @ (known @ image)
        rest = float(image.norm())
        if not math.isfinite(diagonal[-1] + rest):
            return math.nan
        matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        for i, entry in enumerate(off_diagonal):
            matrix[i, i + 1] = matrix[i + 1, i] = entry
        values, vectors = torch.linalg.eigh(matrix)
        index = int(wanted(values))
        value = float(values[index])
        residual = rest * abs(float(vectors[-1, index]))
        scale = float(values.abs().max())
        if residual <= tolerance * scale or len(basis) >= min(max_products, like.numel()):
            return value
        off_diagonal.append(rest)
        basis.append(image / rest)


def dominant_eigenvalue(
    product: Callable[[Tensor], Tensor],
    like: Tensor,
    tolerance: float = 1e-3,
    max_products: int = 50,
) -> float:
    """Return the eigenvalue of largest magnitude of a symmetric matrix, with its sign.

    By Lanczos' form of the power iteration, which takes the best combination
    of all vectors on the way (Golub & Van Loan, section 10.1): it needs far
    fewer products, and eigenvalues of opposite sign do not disturb it.  The
    start is always the same.

    Args:
        product: Multiplies a vector by the matrix, as :func:`hessian_product`.
        like: A vector; its length, dtype and device are those of the matrix.
        tolerance: Largest residual, relative to the largest magnitude, above 0
            and below 1.  The error of the eigenvalue is about its square.
        max_products: Largest number of products, at least 1.

    Returns:
        The eigenvalue, or NaN where a product is not finite.

    >>> matrix = torch.diag(torch.tensor([1.0, -3.0, 2.0]))
    >>> round(dominant_eigenvalue(lambda v: matrix @ v, torch.zeros(3)), 4)
    -3.0
    """
    return _ritz_values(
        product, like, lambda values: values.abs().argmax(), tolerance, max_products
    )


def largest_eigenvalue(
    product: Callable[[Tensor], Tensor],
    like: Tensor,
    tolerance: float = 1e-3,
    max_products: int = 50,
) -> float:
    """Return the largest eigenvalue of a symmetric matrix, be it negative.

    Args:
        product: As for :func:`dominant_eigenvalue`.
        like: As for :func:`dominant_eigenvalue`.
        tolerance: As for :func:`dominant_eigenvalue`.
        max_products: As for :func:`dominant_eigenvalue`.

    >>> matrix = torch.diag(torch.tensor([1.0, -3.0, 2.0]))
    >>> round(largest_eigenvalue(lambda v: matrix @ v, torch.zeros(3)), 4)
    2.0
    """
    return _ritz_values(product, like, lambda values: values.argmax(), tolerance, max_products)
