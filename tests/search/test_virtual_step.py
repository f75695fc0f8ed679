"""The virtual step against the optimizers' own, and its derivative against differences."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizers_by_hand import BY_HAND, step_by_hand
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.testing import assert_close

from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.search import virtual_step
from mmrazor_mutators.search.virtual_step import pull_back

# Those of torch.optim whose step is smooth where no gradient is 0.
SMOOTH: dict[str, dict[str, Any]] = {
    'SGD': {'momentum': 0.9, 'weight_decay': 0.1, 'dampening': 0.2},
    'Adam': {'weight_decay': 0.1},
    'AdamW': {'weight_decay': 0.1},
    'NAdam': {'weight_decay': 0.1},
    'RAdam': {'weight_decay': 0.1},
    'Adamax': {'weight_decay': 0.1},
    'Adagrad': {'weight_decay': 0.1},
    'Adadelta': {'weight_decay': 0.1},
    'RMSprop': {'momentum': 0.5, 'centered': True},
}


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """Let optimizers count their steps in float64 as well."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def with_past(
    kind: type[Optimizer], options: dict[str, Any], steps_before: int
) -> tuple[Optimizer, list[Tensor]]:
    """Return an optimizer with two groups, three parameters and a past."""
    params = [nn.Parameter(torch.randn(*shape)) for shape in ((3,), (2, 2), (1,))]
    groups = [{'params': params[:1]}, {'params': params[1:], 'lr': 0.02}]
    optimizer = kind(groups, **{'lr': 0.1, **options})
    for _ in range(steps_before):
        for param in params:
            param.grad = torch.randn_like(param)
        optimizer.step()
    optimizer.zero_grad()
    return optimizer, params


def really_stepped(
    optimizer: Optimizer, params: list[Tensor], grads: list[Tensor | None]
) -> list[Tensor]:
    """Return the weights after the step of a copy of the optimizer."""
    twin, copies = copy.deepcopy((optimizer, params))
    for param, grad in zip(copies, grads, strict=True):
        param.grad = grad if grad is None else grad.detach().clone()
    twin.step()
    return [param.detach() for param in copies]


sgd_options = st.fixed_dictionaries(
    {
        'momentum': st.sampled_from([0.0, 0.5, 0.9]),
        'weight_decay': st.sampled_from([0.0, 3e-4, 0.5]),
        'maximize': st.booleans(),
    }
).flatmap(
    lambda options: st.one_of(
        st.fixed_dictionaries({'dampening': st.sampled_from([0.0, 0.3, 1.0])}),
        st.just({'nesterov': options['momentum'] > 0}),
    ).map(lambda more: {**options, **more})
)


@given(options=sgd_options, steps_before=st.integers(0, 2), missing=st.integers(0, 3))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_sgd_steps_as_torch_does(
    options: dict[str, Any], steps_before: int, missing: int
) -> None:
    """To rounding, and with the derivative by hand; trap: momentum buffers ignored."""
    torch.manual_seed(steps_before)
    optimizer, params = with_past(torch.optim.SGD, options, steps_before)
    grads = [
        None if i == missing else torch.randn_like(param, requires_grad=True)
        for i, param in enumerate(params)
    ]
    stepped = virtual_step(optimizer, params, grads)
    for value, expected in zip(stepped, really_stepped(optimizer, params, grads), strict=True):
        assert_close(value, expected, rtol=1e-15, atol=1e-15)
    if missing == len(params):
        by_hand, slope = step_by_hand(optimizer, [grad.detach() for grad in grads])
        ones = pull_back(stepped, grads, [torch.ones_like(param) for param in params])
        assert_close(torch.cat([v.reshape(-1) for v in stepped]), by_hand)
        assert_close(torch.cat([v.reshape(-1) for v in ones]), slope)


@pytest.mark.parametrize('steps_before', [0, 1, 4])
@pytest.mark.parametrize('name', SMOOTH)
def test_every_optimizer_steps_as_torch_does(name: str, steps_before: int) -> None:
    optimizer, params = with_past(getattr(torch.optim, name), SMOOTH[name], steps_before)
    grads: list[Any] = [torch.randn_like(params[0]), None, torch.randn_like(params[2])]
    stepped = virtual_step(optimizer, params, grads)
    for value, expected in zip(stepped, really_stepped(optimizer, params, grads), strict=True):
        assert_close(value, expected, rtol=1e-12, atol=1e-12)
    assert_close(stepped[1], params[1].detach(), rtol=0, atol=0)


@pytest.mark.parametrize('steps_before', [0, 1, 6])
@pytest.mark.parametrize('name', SMOOTH)
def test_derivative_of_every_optimizer(name: str, steps_before: int) -> None:
    """Against central differences of the optimizer's own step."""
    optimizer, params = with_past(getattr(torch.optim, name), SMOOTH[name], steps_before)
    grads = [torch.randn_like(p).add_(2).requires_grad_() for p in params]
    vector = [torch.randn_like(p) for p in params]
    stepped = virtual_step(optimizer, params, grads)
    products = pull_back(stepped, grads, vector)

    shift = 1e-5
    up, down = (
        really_stepped(optimizer, params, [g.detach() + sign * shift for g in grads])
        for sign in (1, -1)
    )
    for product, plus, minus, v in zip(products, up, down, vector, strict=True):
        # Each number has a step of its own, so the transposed derivative is diagonal.
        assert_close(product, v * (plus - minus) / (2 * shift), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('kind', BY_HAND)
def test_nothing_else_changes(kind: type[Optimizer]) -> None:
    optimizer, params = with_past(kind, {}, steps_before=2)
    values = [param.detach().clone() for param in params]
    state = copy.deepcopy(optimizer.state_dict())
    grads = [torch.randn_like(param).requires_grad_() for param in params]
    stepped = virtual_step(optimizer, params, grads)
    pull_back(stepped, grads, [torch.ones_like(param) for param in params])
    for param, value in zip(params, values, strict=True):
        assert_close(param.detach(), value, rtol=0, atol=0)
        assert param.grad is None
    after = optimizer.state_dict()
    assert after['param_groups'] == state['param_groups']
    assert after['state'].keys() == state['state'].keys()
    for index, entries in state['state'].items():
        for key, entry in entries.items():
            assert_close(after['state'][index][key], entry, rtol=0, atol=0)


def test_no_state_is_made_for_a_first_step() -> None:
    optimizer, params = with_past(torch.optim.SGD, {'momentum': 0.9}, steps_before=0)
    virtual_step(optimizer, params, [torch.ones_like(param) for param in params])
    assert not optimizer.state


def test_missing_gradients_pull_back_to_zeros() -> None:
    optimizer, params = with_past(torch.optim.SGD, {}, steps_before=0)
    grads = [torch.ones_like(params[0], requires_grad=True), None, None]
    products = pull_back(virtual_step(optimizer, params, grads), grads, params)
    assert_close(products[0], -0.1 * params[0].detach())
    assert not products[1].any()
    assert not products[2].any()


@pytest.mark.parametrize('name', ['Adam', 'RMSprop'])
def test_a_gradient_of_zero_does_not_poison_the_derivative(name: str) -> None:
    """The square root in an adaptive step has no derivative at 0: inf * 0 would be NaN."""
    optimizer, params = with_past(getattr(torch.optim, name), {}, steps_before=0)
    grads = [torch.zeros_like(param, requires_grad=True) for param in params]
    stepped = virtual_step(optimizer, params, grads)
    for product in pull_back(stepped, grads, [torch.ones_like(param) for param in params]):
        assert product.isfinite().all()


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
@pytest.mark.parametrize('name', ['SGD', 'Adam'])
def test_what_is_not_finite_shows(name: str, bad: float) -> None:
    """A diverged architecture gradient must not come back as a zero or a large number."""
    optimizer, params = with_past(getattr(torch.optim, name), {}, steps_before=1)
    grads = [torch.ones_like(param, requires_grad=True) for param in params]
    vector = [torch.full_like(param, bad) for param in params]
    for product in pull_back(virtual_step(optimizer, params, grads), grads, vector):
        assert not product.isfinite().any()


def test_an_optimizer_that_cannot_be_differentiated() -> None:
    optimizer = torch.optim.LBFGS([nn.Parameter(torch.ones(1))])
    params = optimizer.param_groups[0]['params']
    with pytest.raises(ConfigError, match='which LBFGS does not support; use an optimizer of'):
        virtual_step(optimizer, params, [torch.ones(1)])
