"""DrNAS against closed forms of the Dirichlet distribution."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.distributions import Dirichlet, kl_divergence
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.functional import (
    dirichlet_concentration,
    dirichlet_kl_to_uniform,
    dirichlet_sample,
)

LOGITS = torch.tensor([0.5, -1.2, 0.0, 1.5], dtype=torch.float64)
DRAWS = 40_000


def beta_of(logits: Tensor) -> Tensor:
    return nn.functional.elu(logits) + 1


def within_error(draws: Tensor, exact: Tensor) -> bool:
    """Whether a mean of draws is within 4.5 standard errors of what it estimates."""
    error = draws.std(0) / len(draws) ** 0.5
    return bool(((draws.mean(0) - exact).abs() < 4.5 * error).all())


def test_concentrations() -> None:
    logits = torch.linspace(-4, 4, 33, dtype=torch.float64).requires_grad_()
    assert_close(dirichlet_concentration(logits), beta_of(logits))
    slope = torch.randn(33, dtype=torch.float64)
    grads = [
        torch.autograd.grad((f(logits) * slope).sum(), logits)[0]
        for f in (dirichlet_concentration, beta_of)
    ]
    assert_close(grads[0], grads[1])
    # In single precision the sum of the formula rounds to 0 here, and the power does not.
    assert float(beta_of(torch.tensor(-18.0))) == 0


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize('others', [-1e9, -20.0, 0.0, 30.0])
def test_very_negative_logits(dtype: torch.dtype, others: float) -> None:
    logits = torch.full((500, 4), others, dtype=dtype)
    logits[:, 0] = -1e9
    logits.requires_grad_()
    beta = dirichlet_concentration(logits)
    assert beta[0, 0].item() == pytest.approx(0.01, rel=0.02)
    weights = dirichlet_sample(beta)
    assert weights.dtype == dtype
    assert weights.isfinite().all()
    assert_close(weights.sum(-1), torch.ones(500, dtype=dtype), rtol=0.02, atol=0)
    (grad,) = torch.autograd.grad((weights * torch.randn_like(weights)).sum(), logits)
    assert grad.isfinite().all()
    divergence = dirichlet_kl_to_uniform(dirichlet_concentration(logits))
    assert divergence.isfinite().all()
    (grad,) = torch.autograd.grad(divergence.sum(), logits)
    assert grad.isfinite().all()
    assert (grad[:, 0] < 0).all()  # Down the gradient it comes back into reach.


def test_draws_have_the_moments_of_the_distribution() -> None:
    beta = beta_of(LOGITS)
    weights = dirichlet_sample(beta.expand(DRAWS, 4))
    total = beta.sum()
    assert within_error(weights, beta / total)
    assert within_error(weights.square(), beta * (beta + 1) / (total * (total + 1)))
    assert_close(weights.sum(-1), torch.ones(DRAWS, dtype=torch.float64))


def test_draws_and_gradients_are_those_of_torch() -> None:
    beta = torch.rand(50, 4, dtype=torch.float64) * 3 + 0.05
    slope, found = torch.randn(50, 4, dtype=torch.float64), []
    for draw in (dirichlet_sample, lambda b: Dirichlet(b).rsample()):
        leaf = beta.clone().requires_grad_()
        weights = toys.run(draw, leaf)
        found.append([weights, torch.autograd.grad((weights * slope).sum(), leaf)[0]])
    assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize('power', [1, 2])
@pytest.mark.parametrize('shift', [0.0, -3.0])
def test_gradients_are_right_on_average(power: int, shift: float) -> None:
    """The mean gradient of draws is the gradient of the mean, which has a closed form."""
    slope = torch.tensor([0.3, -1.0, 2.0, 0.7], dtype=torch.float64)
    logits = (LOGITS + shift).expand(DRAWS, 4).clone().requires_grad_()
    weights = dirichlet_sample(dirichlet_concentration(logits))
    (draws,) = torch.autograd.grad((weights**power * slope).sum(), logits)
    leaf = (LOGITS + shift).clone().requires_grad_()
    beta, total = beta_of(leaf), beta_of(leaf).sum()
    moments = {1: beta / total, 2: beta * (beta + 1) / (total * (total + 1))}
    (exact,) = torch.autograd.grad((moments[power] * slope).sum(), leaf)
    assert within_error(draws, exact)
    assert (draws.std(0) / DRAWS**0.5).max() < 0.02 < exact.abs().max()


def test_divergence_by_hand() -> None:
    for beta in ([1.0, 1.0], [0.3, 2.0, 1.1], [4.0, 0.05, 0.05, 7.0]):
        values = torch.tensor(beta, dtype=torch.float64)
        expected = kl_divergence(Dirichlet(values), Dirichlet(torch.ones_like(values)))
        assert_close(dirichlet_kl_to_uniform(values), expected)
        assert expected >= 0
    # A Beta distribution, whose divergence is an integral over one number.
    a, b = 2.0, 3.0
    grid = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    norm = math.gamma(a) * math.gamma(b) / math.gamma(a + b)
    density = grid ** (a - 1) * (1 - grid) ** (b - 1) / norm
    assert_close(
        dirichlet_kl_to_uniform(torch.tensor([a, b], dtype=torch.float64)),
        (density * density.log()).mean(),
    )


def two_sizes(**kwargs: Any) -> Any:
    supernet = nn.Sequential(
        mm.DifferentiableOP(space_id='a', choices=toys.units(2)),
        mm.DifferentiableOP(space_id='b', choices=toys.units(5)),
        mm.DifferentiableOP(space_id='c', choices=toys.units(2)),
    )
    return toys.prepared('DrNASMutator', supernet, **kwargs)[1]


def test_the_penalty_has_one_distribution_per_space() -> None:
    """Trap: all spaces as one Dirichlet."""
    mutator = two_sizes(kl_weight=0.02)
    betas = [beta_of(p) for p in mutator.arch_params.values()]
    expected = sum(kl_divergence(Dirichlet(b), Dirichlet(torch.ones_like(b))) for b in betas)
    penalty = mutator.regularization()
    assert_close(penalty, 0.02 * expected)
    joint = torch.cat(betas)
    as_one = kl_divergence(Dirichlet(joint), Dirichlet(torch.ones_like(joint)))
    assert (expected - as_one).abs() > 0.1
    params = list(mutator.arch_params.values())
    ours = torch.autograd.grad(penalty, params)
    theirs = torch.autograd.grad(0.02 * expected, params)
    assert_close(ours, theirs)
    assert all(grad.abs().min() > 1e-6 for grad in ours)


def test_the_penalty_is_least_where_logits_are_zero() -> None:
    mutator = two_sizes()
    with torch.no_grad():
        for p in mutator.arch_params.values():
            p.zero_()
    penalty = mutator.regularization()
    assert abs(penalty.item()) < 1e-15
    penalty.backward()
    assert all(p.grad.abs().max() < 1e-12 for p in mutator.arch_params.values())


@pytest.mark.parametrize('count_dropped', [True, False])
def test_dropped_choices_leave_a_smaller_distribution(count_dropped: bool) -> None:
    mutator = two_sizes(kl_weight=1.0, count_dropped=count_dropped)
    mutator.drop_choices('b', ['u1', 'u3', 'u4'])
    betas = [beta_of(p) for p in mutator.arch_params.values()]
    if not count_dropped:  # In the authors' code, the default, their logits count still.
        betas[1] = betas[1][[0, 2]]
    expected = sum(kl_divergence(Dirichlet(b), Dirichlet(torch.ones_like(b))) for b in betas)
    assert_close(mutator.regularization(), expected)
    weights = torch.stack([mutator.relax_spaces()['b'].weights for _ in range(200)])
    assert not weights[:, [1, 3, 4]].any()
    assert_close(weights.sum(-1), torch.ones(200, dtype=torch.float64))


def test_without_a_weight_or_a_supernet_there_is_no_penalty() -> None:
    assert two_sizes(kl_weight=0).regularization().item() == 0
    assert mm.DrNASMutator().regularization().item() == 0


def test_softmax_of_the_logits_is_read_off_without_noise() -> None:
    """As in the authors' code, where the mean of the draws would be elu + 1 normalised."""
    op = mm.DifferentiableOP(space_id='a', choices=toys.candidates())
    _, mutator = toys.prepared('DrNASMutator', op)
    with torch.no_grad():
        mutator.arch_params['a'].copy_(LOGITS)
    powers = [math.exp(value) for value in LOGITS.tolist()]
    for _ in range(3):
        found = mutator.search_subnet()['a']
        assert found['chosen'] == ['deep']
        assert found['chosen_probs'] == [pytest.approx(powers[3] / sum(powers))]


def test_weights_are_drawn_anew_in_each_pass() -> None:
    mutator = two_sizes()
    first, other = (toys.run(mutator.relax_spaces, seed=s)['b'].weights for s in (1, 2))
    assert not first.equal(other)
    assert toys.run(mutator.relax_spaces, seed=1)['b'].weights.equal(first)


@pytest.mark.parametrize('value', [-1e-3, float('nan')])
def test_a_weight_out_of_range(value: float) -> None:
    with pytest.raises(ConfigError, match=f'`kl_weight` to be at least 0, but got {value}'):
        mm.DrNASMutator(kl_weight=value)


def test_the_state_in_mid_search() -> None:
    mutator, twin = two_sizes(), two_sizes()
    mutator.on_epoch(1, 3)
    mutator.drop_choices('b', ['u0'])
    twin.load_state_dict(mutator.state_dict())
    assert twin.search_subnet() == mutator.search_subnet()
    draws = [toys.run(m.relax_spaces, seed=5)['b'].weights for m in (mutator, twin)]
    assert draws[0].equal(draws[1])
    assert twin.regularization().equal(mutator.regularization())
