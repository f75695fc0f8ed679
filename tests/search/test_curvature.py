"""Extreme eigenvalues against Hessians that are built in full."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_searches import toy_batches, toy_search

from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.search.curvature import (
    dominant_eigenvalue,
    hessian_product,
    largest_eigenvalue,
)
from mmrazor_mutators.search.guards import buffers_kept, frozen


def symmetric(values: list[float], seed: int = 0) -> Tensor:
    """Return a matrix with these eigenvalues, in directions that are drawn."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(drawn)
    return basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T


@pytest.mark.parametrize(
    ('values', 'dominant', 'largest'),
    [
        ([0.1, 0.5, 2.0, 3.0], 3.0, 3.0),
        ([-4.0, 0.5, 2.0, 3.0], -4.0, 3.0),
        ([-4.0, -3.0, -2.0, -0.5], -4.0, -0.5),
        ([2.0, 2.0, 2.0], 2.0, 2.0),
        ([0.0, 0.0, 0.0], 0.0, 0.0),
        ([5.0], 5.0, 5.0),
    ],
)
def test_known_matrices(values: list[float], dominant: float, largest: float) -> None:
    matrix = symmetric(values)
    like = torch.zeros(len(values), dtype=torch.float64)
    found = dominant_eigenvalue(lambda v: matrix @ v, like)
    assert found == pytest.approx(dominant, abs=1e-9)
    found = largest_eigenvalue(lambda v: matrix @ v, like)
    assert found == pytest.approx(largest, abs=1e-9)


def test_opposite_signs_of_one_size() -> None:
    # Plain power iteration swings between the two for ever.
    matrix = symmetric([-3.0, 3.0, *torch.linspace(-1, 1, 40).tolist()])
    like = torch.zeros(42, dtype=torch.float64)
    assert largest_eigenvalue(lambda v: matrix @ v, like) == pytest.approx(3.0, rel=1e-5)
    found = dominant_eigenvalue(lambda v: matrix @ v, like)
    assert abs(found) == pytest.approx(3.0, rel=1e-5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_few_products_of_a_large_matrix(dtype: torch.dtype) -> None:
    matrix = symmetric(torch.linspace(-0.2, 1.0, 200).tolist()).to(dtype)
    calls = []

    def product(vector: Tensor) -> Tensor:
        assert vector.norm().item() == pytest.approx(1.0, abs=1e-5)
        calls.append(vector)
        return matrix @ vector

    found = largest_eigenvalue(product, torch.zeros(200, dtype=dtype))
    assert found == pytest.approx(1.0, abs=1e-3)
    assert len(calls) <= 50
    state = torch.get_rng_state()
    again = largest_eigenvalue(product, torch.zeros(200, dtype=dtype))
    assert again == found
    assert torch.equal(torch.get_rng_state(), state)
    calls.clear()
    largest_eigenvalue(product, torch.zeros(200, dtype=dtype), max_products=3)
    assert len(calls) == 3


def test_a_product_that_is_not_finite() -> None:
    like = torch.zeros(4)
    assert str(dominant_eigenvalue(lambda v: v * torch.nan, like)) == 'nan'


def test_errors() -> None:
    for name, value in [('tolerance', 0), ('tolerance', 1.0), ('max_products', 0)]:
        with pytest.raises(ConfigError, match=f'`{name}` to be .*, but got {value}'):
            dominant_eigenvalue(lambda v: v, torch.zeros(2), **{name: value})


def test_products_are_those_of_the_hessian() -> None:
    a = torch.randn(3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    linear = torch.randn(2, dtype=torch.float64, requires_grad=True)
    unused = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def loss_of(flat: Tensor) -> Tensor:
        x, y, z = flat[:3], flat[3:7].view(2, 2), flat[7:9]
        return (x.softmax(0)[:2] @ y).sin().sum() + x.pow(3).sum() + 2 * z.sum()

    params = [a, b, linear, unused]
    flat = torch.cat([p.detach().reshape(-1) for p in params])
    hessian: Any = torch.autograd.functional.hessian(loss_of, flat)
    x, y, z = a, b, linear
    loss = (x.softmax(0)[:2] @ y).sin().sum() + x.pow(3).sum() + 2 * z.sum()
    product = hessian_product(loss, params)
    for _ in range(3):
        vector = torch.randn(11, dtype=torch.float64)
        torch.testing.assert_close(product(vector), hessian @ vector)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    found = largest_eigenvalue(product, flat, tolerance=1e-6)
    assert found == pytest.approx(float(eigenvalues.max()), rel=1e-8)
    found = dominant_eigenvalue(product, flat, tolerance=1e-6)
    assert found == pytest.approx(float(eigenvalues[eigenvalues.abs().argmax()]), rel=1e-8)


def test_a_linear_loss_is_flat() -> None:
    a = torch.randn(3, requires_grad=True)
    product = hessian_product((2 * a).sum(), [a])
    assert dominant_eigenvalue(product, torch.zeros(3)) == 0.0


@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_a_supernet(sign: float) -> None:
    search = toy_search(loss_fn=lambda *xs: sign * nn.functional.cross_entropy(*xs))
    (batch,) = toy_batches(1)
    alphas = list(search.mutator.arch_params.values())

    def loss_of(*values: Tensor) -> Tensor:
        weights = {
            space_id: value.softmax(0)
            for space_id, value in zip(search.mutator.arch_params, values, strict=True)
        }
        with search.mutator.mixing(weights):
            return search.compute_loss(batch)

    with buffers_kept(search.supernet):
        values = tuple(alpha.detach() for alpha in alphas)
        blocks: Any = torch.autograd.functional.hessian(loss_of, values)
    hessian = torch.cat([torch.cat(row, 1) for row in blocks])
    eigenvalues = torch.linalg.eigvalsh(hessian)
    dominant = float(eigenvalues[eigenvalues.abs().argmax()])
    like = torch.cat(values)
    with buffers_kept(search.supernet), frozen(search.weights):
        product = hessian_product(search.train_loss(batch), alphas)
        found = largest_eigenvalue(product, like, tolerance=1e-6)
        assert found == pytest.approx(float(eigenvalues.max()), rel=1e-6)
        found = dominant_eigenvalue(product, like, tolerance=1e-6)
        assert found == pytest.approx(dominant, rel=1e-6)
        # A start of equal entries would have found nothing: softmax does not see it.
        assert product(torch.ones_like(like)).norm() < 1e-12
