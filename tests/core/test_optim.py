"""The exponentiated gradient against loops, closed forms and the limits of numbers."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.functional import exponentiated_gradient, renormalized
from mmrazor_mutators.registry import OPTIMIZERS


def point(*shape: int) -> Tensor:
    values = torch.rand(*shape, dtype=torch.float64) + 0.1
    return values / values.sum(-1, keepdim=True)


def by_hand(p: list[float], g: list[float], lr: float) -> list[float]:
    """The step of the paper, entry by entry."""
    stepped = [a * math.exp(-lr * b) for a, b in zip(p, g, strict=True)]
    return [value / math.fsum(stepped) for value in stepped]


@pytest.mark.parametrize('lr', [0.01, 0.1, 3.0])
def test_the_step_by_hand(lr: float) -> None:
    p, g = point(5, 4), torch.randn(5, 4, dtype=torch.float64)
    expected = [by_hand(a, b, lr) for a, b in zip(p.tolist(), g.tolist(), strict=True)]
    assert_close(exponentiated_gradient(p, g, lr), torch.tensor(expected).double())
    parameters = [nn.Parameter(row.clone()) for row in p]
    optimizer = mm.ExponentiatedGradient(parameters, lr=lr)
    for parameter, grad in zip(parameters, g, strict=True):
        parameter.grad = grad
    assert optimizer.step() is None
    assert_close(torch.stack([q.data for q in parameters]), torch.tensor(expected).double())


def test_a_step_is_that_of_softmax_logits_without_its_derivative() -> None:
    """Adding ``-lr * g`` to logits is the same step; gradient descent on logits is not."""
    logits, g = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    stepped = exponentiated_gradient(logits.softmax(-1), g, 0.3)
    assert_close(stepped, (logits - 0.3 * g).softmax(-1))
    p = logits.softmax(-1)
    through_softmax = p * (g - (p * g).sum())
    assert (stepped - (logits - 0.3 * through_softmax).softmax(-1)).abs().max() > 0.01


def test_a_constant_added_to_the_gradient_changes_nothing() -> None:
    p, g = point(3, 5), torch.randn(3, 5, dtype=torch.float64)
    constants = torch.tensor([[-7.0], [0.4], [120.0]], dtype=torch.float64)
    expected = exponentiated_gradient(p, g, 0.7)
    assert_close(exponentiated_gradient(p, g + constants, 0.7), expected)
    assert (exponentiated_gradient(p, g * 1.5, 0.7) - expected).abs().max() > 0.01


def test_renormalizing_changes_the_gradient_by_a_constant_alone() -> None:
    """What GAEAMutator relies on: with a sum of 1 the step is that of the bare gradient."""
    p, g = point(5), torch.randn(5, dtype=torch.float64)
    leaf = p.clone().requires_grad_()
    (of_leaf,) = torch.autograd.grad((renormalized(leaf) * g).sum(), leaf)
    assert_close(of_leaf, g - (p * g).sum())
    step = exponentiated_gradient(p, of_leaf, 0.4)
    assert_close(step, exponentiated_gradient(p, g, 0.4))
    # With another sum it is a step of another length.
    half = (0.5 * p).requires_grad_()
    (of_half,) = torch.autograd.grad((renormalized(half) * g).sum(), half)
    assert_close(of_half, 2 * of_leaf)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('size', [1e4, 1e30])
def test_huge_gradients_give_no_nan(dtype: torch.dtype, size: float) -> None:
    for signs in ([1, -1, 1], [1, 1, 1], [-1, -1, -1], [-1, 0, -1]):
        parameter = nn.Parameter(torch.full((3,), 1 / 3, dtype=dtype))
        optimizer = mm.ExponentiatedGradient([parameter], lr=2.0)
        for _ in range(3):
            parameter.grad = torch.tensor(signs, dtype=dtype) * size
            optimizer.step()
        assert parameter.isfinite().all()
        assert parameter.sum().item() == pytest.approx(1, abs=0.01)
        # A choice of which nothing was left comes back with the next step.
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        assert parameter.min().item() >= 0.99e-5


def test_nothing_is_out_of_reach_for_good() -> None:
    """As in the authors' code: products are raised to 1e-5, then divided by the sum."""
    parameter = nn.Parameter(torch.tensor([0.25, 0.75], dtype=torch.float64))
    optimizer = mm.ExponentiatedGradient([parameter], lr=1.0, min_prob=1e-3)
    parameter.grad = torch.tensor([1e3, 0.0], dtype=torch.float64)
    optimizer.step()
    assert_close(parameter.data, torch.tensor([1e-3, 0.75]).double() / 0.751)
    for _ in range(20):
        parameter.grad = torch.tensor([-1.0, 0.0], dtype=torch.float64)
        optimizer.step()
    assert parameter[0] > 0.99
    bare = exponentiated_gradient(parameter.detach(), torch.tensor([1e4, 0.0]), 1.0)
    assert bare.tolist() == [0.0, 1.0]


def test_it_minimises_on_the_simplex() -> None:
    target = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    parameter = nn.Parameter(torch.full((3,), 1 / 3, dtype=torch.float64))
    optimizer = mm.ExponentiatedGradient([parameter], lr=0.5)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (parameter - target).square().sum()
        value.backward()
        return value

    losses = [optimizer.step(loss).item() for _ in range(400)]
    assert losses[-1] < 1e-10 < losses[0]
    assert_close(parameter.data, target, rtol=0, atol=1e-5)
    assert_close(parameter.sum().item(), 1.0)


def test_parameters_without_a_gradient_stay_and_groups_have_their_own_rate() -> None:
    p, g = point(2, 3), torch.randn(3, dtype=torch.float64)
    still, slow, fast = (nn.Parameter(row.clone()) for row in (p[0], p[1], p[1]))
    groups: list[dict[str, Any]] = [{'params': [still, slow]}, {'params': [fast], 'lr': 1.0}]
    optimizer = mm.ExponentiatedGradient(groups, lr=0.1)
    slow.grad, fast.grad = g, g
    optimizer.step()
    assert still.data.equal(p[0])
    assert_close(slow.data, exponentiated_gradient(p[1], g, 0.1))
    assert_close(fast.data, exponentiated_gradient(p[1], g, 1.0))


def test_the_state_is_the_rate() -> None:
    parameter = nn.Parameter(point(4))
    optimizer = mm.ExponentiatedGradient([parameter], lr=0.2)
    optimizer.param_groups[0]['lr'] = 0.05  # As a scheduler does.
    state = copy.deepcopy(optimizer.state_dict())
    assert state['state'] == {}
    resumed = mm.ExponentiatedGradient([parameter], lr=0.2)
    resumed.load_state_dict(state)
    assert resumed.param_groups[0]['lr'] == 0.05


def test_a_config_names_it() -> None:
    parameter = nn.Parameter(point(4))
    cfg = {'type': 'ExponentiatedGradient', 'lr': 0.3, 'params': [parameter]}
    built = OPTIMIZERS.build(cfg)
    assert type(built) is mm.ExponentiatedGradient
    assert built.param_groups[0]['lr'] == 0.3


@pytest.mark.parametrize(
    ('values', 'shown'),
    [
        ([0.5, -0.1, 0.6], r'shape \(3,\) with the least entry -0\.1 and the sum 1;'),
        ([0.5, 0.4], r'shape \(2,\) with the least entry 0\.4 and the sum 0\.9;'),
        ([[0.5, 0.5], [1.0, 1.0]], r'shape \(2, 2\) with the least entry 0\.5 and the sum 2;'),
        ([float('nan'), 1.0], 'the sum nan'),
        ([1e-3, -2e-3], 'the sum -0.001; GAEAMutator has such parameters'),
    ],
)
def test_what_is_not_on_the_simplex_is_refused(values: Any, shown: str) -> None:
    with pytest.raises(ConfigError, match=shown):
        mm.ExponentiatedGradient([nn.Parameter(torch.tensor(values))])


@pytest.mark.parametrize('shape', [(), (0,)])
def test_a_shape_without_choices_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=rf'a parameter of shape \({shape and "0,"}\)'):
        mm.ExponentiatedGradient([nn.Parameter(torch.ones(shape))])


def test_what_is_nearly_on_the_simplex_is_taken() -> None:
    for count in (3, 5, 7, 8):
        parameter = nn.Parameter(torch.full((count,), 1 / count, dtype=torch.bfloat16))
        mm.ExponentiatedGradient([parameter])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'lr': 0}, '`lr` to be above 0, but got 0'),
        ({'lr': -0.5}, '`lr` to be above 0, but got -0.5'),
        ({'lr': float('nan')}, '`lr` to be above 0, but got nan'),
        ({'min_prob': 0}, '`min_prob` to be above 0 and below 1/4.* but got 0'),
        ({'min_prob': 0.25}, '`min_prob` to be above 0 and below 1/4.* but got 0.25'),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mm.ExponentiatedGradient([nn.Parameter(point(4))], **options)
