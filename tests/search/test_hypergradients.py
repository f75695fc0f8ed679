"""Hypergradients of first and second order against the closed form of a quadratic problem."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from bilevel_problems import Quadratic
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizers_by_hand import step_by_hand
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.testing import assert_close

from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.search import (
    ConjugateGradient,
    Exact,
    FiniteDifference,
    FirstOrder,
    Neumann,
)

TIGHT = {'rtol': 1e-10, 'atol': 1e-10}

OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    'sgd': (SGD, {}),
    'momentum': (SGD, {'momentum': 0.9}),
    'dampening': (SGD, {'momentum': 0.9, 'dampening': 0.4}),
    'nesterov': (SGD, {'momentum': 0.8, 'nesterov': True}),
    'maximize': (SGD, {'momentum': 0.7, 'maximize': True}),
    'adam': (Adam, {'betas': (0.8, 0.95), 'eps': 0.1}),
    'adamw': (AdamW, {'betas': (0.7, 0.9), 'eps': 0.1}),
    'rmsprop': (RMSprop, {'alpha': 0.9, 'eps': 0.1}),
    'rmsprop momentum': (RMSprop, {'momentum': 0.5, 'eps': 0.1}),
}


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """Let Adam count its steps in float64 as well, for it computes with their number."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def use_optimizer(problem: Quadratic, name: str, steps_before: int = 0) -> None:
    """Give the two weights groups of their own, and a past that fills the state."""
    kind, options = OPTIMIZERS[name]
    first, second = problem.weights
    problem.weight_optimizer = kind(
        [
            {'params': [first]},
            {'params': [second], 'lr': 0.02, 'weight_decay': 0.3},
        ],
        **{'lr': 0.1, 'weight_decay': 0.05, **options},
    )
    for _ in range(steps_before):
        for weight in problem.weights:
            weight.grad = torch.randn_like(weight)
        problem.weight_optimizer.step()
    problem.weight_optimizer.zero_grad()


def unrolled_by_hand(problem: Quadratic) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss after the step, the direct derivative, and the direction u."""
    w = problem.w
    shaped = [
        part.view_as(weight)
        for part, weight in zip(
            problem.train_gradient(w).split([2, 3]), problem.weights, strict=True
        )
    ]
    stepped, slope = step_by_hand(problem.weight_optimizer, shaped)
    direction = slope * problem.weight_gradient(stepped)
    return problem.arch_value(stepped), problem.arch_gradient(stepped), direction


@given(seed=st.integers(0, 2**32), bend=st.floats(-1, 1))
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_first_order(seed: int, bend: float) -> None:
    problem = Quadratic(seed, bend)
    loss, derivative = problem.evaluate(FirstOrder())
    assert_close(loss, problem.arch_value(problem.w), **TIGHT)
    assert_close(derivative, problem.arch_gradient(problem.w), **TIGHT)


@pytest.mark.parametrize('steps_before', [0, 1, 3])
@pytest.mark.parametrize('name', OPTIMIZERS)
def test_exact(name: str, steps_before: int) -> None:
    """Traps: a virtual step that changes nothing, momentum ignored, aliased gradients."""
    problem = Quadratic(bend=0.7)
    use_optimizer(problem, name, steps_before)
    loss, derivative = problem.evaluate(Exact())
    expected_loss, direct, direction = unrolled_by_hand(problem)
    indirect = problem.mixed(problem.w) @ direction
    assert_close(loss, expected_loss, **TIGHT)
    assert_close(derivative, direct + indirect, **TIGHT)
    assert indirect.norm() > 1e-3  # The check would be blind to a term of zero.


@pytest.mark.parametrize('radius', [0.01, 0.5])
@pytest.mark.parametrize('steps_before', [0, 2])
@pytest.mark.parametrize('name', OPTIMIZERS)
def test_finite_difference(name: str, steps_before: int, radius: float) -> None:
    """Traps: ``/ 2. * eps``, and the difference of a gradient and an alias of it."""
    problem = Quadratic(bend=0.7)
    use_optimizer(problem, name, steps_before)
    loss, derivative = problem.evaluate(FiniteDifference(radius))
    expected_loss, direct, u = unrolled_by_hand(problem)
    epsilon = radius / u.norm()
    # The difference of ``s`` between both sides: sin(a + b) - sin(a - b) = 2 cos(a) sin(b).
    difference = 2 * epsilon * u + 2 * problem.bend * problem.w.cos() * (epsilon * u).sin()
    assert_close(loss, expected_loss, **TIGHT)
    expected = direct - problem.B.T @ difference / (2 * epsilon)
    assert_close(derivative, expected, **TIGHT)


def test_finite_difference_is_of_second_order_in_the_radius() -> None:
    problem = Quadratic(bend=0.9)
    _, exact = problem.evaluate(Exact())
    errors = [
        (problem.evaluate(FiniteDifference(radius))[1] - exact).norm()
        for radius in (0.4, 0.2, 0.1)
    ]
    assert_close(errors[0] / errors[1], torch.tensor(4.0), rtol=0.02, atol=0)
    assert_close(errors[1] / errors[2], torch.tensor(4.0), rtol=0.005, atol=0)


def test_finite_difference_without_a_direction() -> None:
    problem = Quadratic(bend=0.7)
    problem.weight_optimizer = SGD(problem.weights, lr=0.0)
    _, derivative = problem.evaluate(FiniteDifference())
    assert_close(derivative, problem.arch_gradient(problem.w), **TIGHT)


METHODS = {
    'first_order': FirstOrder(),
    'exact': Exact(),
    'finite_difference': FiniteDifference(),
    'neumann': Neumann(),
    'cg': ConjugateGradient(),
}


@pytest.mark.parametrize('name', METHODS)
def test_nothing_else_changes(name: str) -> None:
    """Traps: weights that stay at the virtual step, polluted buffers, leftover ``.grad``."""
    problem = Quadratic(bend=0.5)
    use_optimizer(problem, 'momentum', steps_before=2)
    params = [*problem.weights, *problem.arch_params]
    for param in params:
        param.grad = torch.randn_like(param)
    before = [param.detach().clone() for param in params]
    grads = [param.grad.clone() for param in params]
    buffers = [
        problem.weight_optimizer.state[weight]['momentum_buffer'].clone()
        for weight in problem.weights
    ]
    problem.evaluate(METHODS[name])
    for param, value, grad in zip(params, before, grads, strict=True):
        assert_close(param.detach(), value, rtol=0, atol=0)
        assert_close(param.grad, grad, rtol=0, atol=0)
        assert param.requires_grad
    for weight, buffer in zip(problem.weights, buffers, strict=True):
        state = problem.weight_optimizer.state[weight]
        assert_close(state['momentum_buffer'], buffer, rtol=0, atol=0)
    assert problem.supernet.passes == (1 if name == 'first_order' else 0)


@pytest.mark.parametrize('name', METHODS)
def test_parameters_that_a_loss_does_not_use_count_as_zeros(name: str) -> None:
    """A weight outside of the training loss takes no virtual step, nor does it decay."""
    problem = Quadratic(bend=0.3)
    problem.weight_optimizer = SGD(problem.weights, lr=0.1, momentum=0.9, weight_decay=0.5)
    first, second = problem.weights
    one, _ = problem.arch_params
    problem.train_loss = lambda batch: (first**2).sum() * one.sum().exp()
    problem.arch_loss = lambda batch: first.sum() * second.sum() * one.sum() ** 2
    _, derivative = problem.evaluate(METHODS[name])

    w1, w2 = first.detach(), second.detach().sum()
    total = one.detach().sum()
    grad = mixed = 2 * w1 * total.exp()
    curvature = 2 * total.exp()  # The Hessian is this times the identity.
    if name in ('exact', 'finite_difference'):
        w1 = w1 - 0.1 * (grad + 0.5 * w1)
    direct = 2 * total * w1.sum() * w2
    scale = {
        'first_order': torch.zeros(()),
        'exact': torch.tensor(-0.1),
        'finite_difference': torch.tensor(-0.1),
        'neumann': -0.01 * sum((1 - 0.01 * curvature) ** k for k in range(6)),
        'cg': -1 / curvature,
    }[name]
    indirect = (mixed * scale * w2 * total**2).sum()
    expected = torch.cat([(direct + indirect).expand(3), torch.zeros(1)])
    assert_close(derivative, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ('method', 'options', 'message'),
    [
        (FiniteDifference, {'radius': 0.0}, '`radius` to be above 0, but got 0.0'),
        (FiniteDifference, {'radius': float('nan')}, '`radius` to be above 0, but got nan'),
        (Neumann, {'num_terms': -1}, '`num_terms` to be at least 0, but got -1'),
        (Neumann, {'step_size': -0.5}, '`step_size` to be above 0, but got -0.5'),
        (ConjugateGradient, {'num_iterations': 0}, '`num_iterations` to be at least 1.*got 0'),
        (ConjugateGradient, {'damping': -1e-3}, '`damping` to be at least 0, but got -0.001'),
    ],
)
def test_options_out_of_range(method: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        method(**options)
