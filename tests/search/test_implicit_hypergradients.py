"""Implicit hypergradients against linear algebra on a quadratic problem."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from bilevel_problems import Quadratic
from torch import Tensor
from torch.testing import assert_close

from mmrazor_mutators.search import ConjugateGradient, Neumann

TIGHT = {'rtol': 1e-10, 'atol': 1e-10}


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """Let what is written without a dtype be in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize('num_terms', [0, 1, 2, 7])
@pytest.mark.parametrize('bend', [0.0, 0.2])
def test_neumann_partial_sums(num_terms: int, bend: float) -> None:
    problem = Quadratic(bend=bend)
    loss, derivative = problem.evaluate(Neumann(num_terms=num_terms, step_size=0.05))
    w, eye = problem.w, torch.eye(5)
    powers = [
        torch.linalg.matrix_power(eye - 0.05 * problem.hessian(w), k)
        for k in range(num_terms + 1)
    ]
    solution = 0.05 * sum(powers) @ problem.weight_gradient(w)
    assert_close(loss, problem.arch_value(w), **TIGHT)
    assert_close(derivative, problem.arch_gradient(w) - problem.mixed(w) @ solution, **TIGHT)


def implicit_by_hand(problem: Quadratic, damping: float = 0.0) -> Tensor:
    w = problem.w
    matrix = problem.hessian(w) + damping * torch.eye(5)
    solution = torch.linalg.solve(matrix, problem.weight_gradient(w))
    return problem.arch_gradient(w) - problem.mixed(w) @ solution


def test_neumann_converges_to_the_implicit_derivative() -> None:
    problem = Quadratic()
    _, derivative = problem.evaluate(Neumann(num_terms=150, step_size=0.4))
    assert_close(derivative, implicit_by_hand(problem), **TIGHT)


@pytest.mark.parametrize('damping', [0.0, 0.6])
@pytest.mark.parametrize('bend', [0.0, 0.2])
def test_conjugate_gradients_are_exact_after_n_iterations(bend: float, damping: float) -> None:
    problem = Quadratic(bend=bend)
    _, derivative = problem.evaluate(ConjugateGradient(num_iterations=5, damping=damping))
    assert_close(derivative, implicit_by_hand(problem, damping), **TIGHT)
    _, early = problem.evaluate(ConjugateGradient(num_iterations=4, damping=damping))
    assert (early - derivative).norm() > 1e-4


def test_implicit_derivative_is_that_of_the_true_minimum() -> None:
    """Where w* = A^-1 B alpha, the formula is the derivative of L(w*(alpha), alpha)."""
    problem = Quadratic()
    jacobian = torch.linalg.solve(problem.A, problem.B)
    minimum = (jacobian @ problem.alpha).split([2, 3])
    with torch.no_grad():
        for weight, value in zip(problem.weights, minimum, strict=True):
            weight.copy_(value.view_as(weight))
    expected = problem.arch_gradient(problem.w) + jacobian.T @ problem.weight_gradient(
        problem.w
    )
    for method in (ConjugateGradient(), Neumann(num_terms=150, step_size=0.4)):
        assert_close(problem.evaluate(method)[1], expected, **TIGHT)


def solve_diagonal(method: ConjugateGradient, diagonal: Tensor, vector: Tensor) -> Any:
    """Return the solution, and how many products it took."""
    products = []

    def product(v: list[Tensor]) -> list[Tensor]:
        products.append(v)
        return [diagonal * v[0]]

    return method.solve(product, [vector])[0], len(products)


def test_conjugate_gradients_stop_at_negative_curvature() -> None:
    vector = torch.tensor([1.0, 1.0])
    method = ConjugateGradient()
    # Already the first direction: nothing is added.
    solution, count = solve_diagonal(method, torch.tensor([-1.0, -2.0]), vector)
    assert_close(solution, torch.zeros_like(vector), rtol=0, atol=0)
    assert count == 1
    # The second one: with H = diag(4, -1), the first step has length v'v / v'Hv = 2 / 3.
    solution, count = solve_diagonal(method, torch.tensor([4.0, -1.0]), vector)
    assert_close(solution, vector * 2 / 3, **TIGHT)
    assert count == 2
    # Damping by 2 makes room: diag(6, 1) is positive definite.
    damped = ConjugateGradient(damping=2.0)
    solution, _ = solve_diagonal(damped, torch.tensor([4.0, -1.0]), vector)
    assert_close(solution, torch.tensor([1 / 6, 1.0]), **TIGHT)


def test_conjugate_gradients_stop_when_they_are_done() -> None:
    diagonal = torch.tensor([1.0, 2.0, 3.0, 4.0])
    vector = torch.ones(4)
    assert solve_diagonal(ConjugateGradient(num_iterations=50), diagonal, vector)[1] == 4
    assert solve_diagonal(ConjugateGradient(num_iterations=3), diagonal, vector)[1] == 3
    # One step leaves a residual of v - 0.4 Hv, 0.447 of the norm of v.
    assert solve_diagonal(ConjugateGradient(tolerance=0.45), diagonal, vector)[1] == 1
    assert solve_diagonal(ConjugateGradient(tolerance=0.44), diagonal, vector)[1] == 2
    solution, count = solve_diagonal(ConjugateGradient(), diagonal, 0 * vector)
    assert count == 0
    assert not solution.any()
