"""ReinMax against its formula written out, and against exact gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import toys
from torch import Tensor
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.functional import draw_one_hot, reinmax, reinmax_gates, straight_through

LOGITS = torch.tensor([0.5, 0.2, -0.9, 1.0], dtype=torch.float64)
EYE = torch.eye(4, dtype=torch.float64)
DRAWS = 40_000


def softmax(logits: Tensor) -> list[float]:
    powers = [math.exp(v) for v in logits.tolist()]
    return [power / sum(powers) for power in powers]


def through_softmax(upstream: list[float], p: list[float]) -> Tensor:
    """Multiply by the derivative of a softmax whose values are p, entry by entry."""
    mean = sum(u * q for u, q in zip(upstream, p, strict=True))
    return torch.tensor([q * (u - mean) for u, q in zip(upstream, p, strict=True)]).double()


def naive_gradient(logits: Tensor, drawn: int, upstream: Tensor, tau: float) -> Tensor:
    """Write the backward pass of the authors' ``autograd.Function`` out."""
    tempered = softmax(logits / tau)
    shifted = [0.5 * (q + float(i == drawn)) for i, q in enumerate(tempered)]
    first = through_softmax([2 * u for u in upstream.tolist()], shifted)
    second = through_softmax([-0.5 * u for u in upstream.tolist()], softmax(logits))
    total = first + second
    return total - total.mean()


@pytest.mark.parametrize('tau', [1.0, 1.7])
@pytest.mark.parametrize('drawn', range(4))
def test_gradient_is_that_of_the_authors(drawn: int, tau: float) -> None:
    logits, upstream = LOGITS.clone().requires_grad_(), torch.randn(4, dtype=torch.float64)
    gates = reinmax_gates(logits, EYE[drawn], tau)
    assert_close(gates.detach(), EYE[drawn], rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(gates, logits, upstream)
    assert_close(gradient, naive_gradient(LOGITS, drawn, upstream, tau))
    # The temperature is no scale of the logits: there is no factor 1 / tau.
    if tau > 1:
        scaled = [0.5 * (q + float(i == drawn)) for i, q in enumerate(softmax(LOGITS / tau))]
        other = through_softmax((2 * upstream / tau).tolist(), scaled)
        other += through_softmax((-upstream / 2).tolist(), softmax(LOGITS))
        assert (gradient - other).abs().max() > 1e-3


MATRIX = torch.tensor(
    [[2.0, 0.3, -1.0, 0.5], [0.3, -1.5, 0.7, 0.1], [-1.0, 0.7, 1.0, 2.0], [0.5, 0.1, 2.0, -3.0]]
).double()
SLOPE = torch.tensor([0.4, -1.0, 2.0, 0.3], dtype=torch.float64)


def quadratic(d: Tensor) -> Tensor:
    return ((d @ MATRIX) * d).sum(-1) + d @ SLOPE


def quartic(d: Tensor) -> Tensor:
    return (d @ SLOPE + 0.5) ** 4


def exact_gradient(f: Any) -> Tensor:
    """Differentiate the expectation over all outcomes."""
    logits = LOGITS.clone().requires_grad_()
    values = torch.stack([f(row) for row in EYE])
    (gradient,) = torch.autograd.grad((logits.softmax(-1) * values).sum(), logits)
    return gradient


def expected_estimate(f: Any, tau: float) -> Tensor:
    """Average the estimator over all outcomes, each as often as it is drawn."""
    total = torch.zeros(4, dtype=torch.float64)
    for drawn, p in enumerate(softmax(LOGITS)):
        logits = LOGITS.clone().requires_grad_()
        total += p * torch.autograd.grad(f(reinmax_gates(logits, EYE[drawn], tau)), logits)[0]
    return total


def test_second_order_exact() -> None:
    assert_close(expected_estimate(quadratic, 1.0), exact_gradient(quadratic))
    # Neither at another temperature nor for other functions.
    assert (expected_estimate(quadratic, 1.5) - exact_gradient(quadratic)).abs().max() > 1e-2
    assert (expected_estimate(quartic, 1.0) - exact_gradient(quartic)).abs().max() > 1e-2


def test_gradient_on_average() -> None:
    exact, means = exact_gradient(quadratic), {}
    for name, gates_of in {
        'reinmax': lambda logits: reinmax(logits, 1.0),
        'straight through': lambda logits: straight_through(
            draw_one_hot(logits), logits.softmax(-1)
        ),
    }.items():
        logits = LOGITS.expand(DRAWS, 4).clone().requires_grad_()
        gates = gates_of(logits)
        (gradients,) = torch.autograd.grad(quadratic(gates).sum(), logits)
        error = gradients.std(0) / DRAWS**0.5
        means[name] = ((gradients.mean(0) - exact) / error).abs()
    assert (means['reinmax'] < 4.5).all()
    assert (means['straight through'] > 20).any()


def test_draws() -> None:
    drawn = reinmax(LOGITS.expand(DRAWS, 4), 3.0)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    # The temperature has no say in what is drawn.
    for share, p in zip(drawn.mean(0).tolist(), softmax(LOGITS), strict=True):
        assert abs(share - p) < 4.5 * (p * (1 - p) / DRAWS) ** 0.5


def one_op(**kwargs: Any) -> tuple[Any, Any]:
    op = mm.DifferentiableOP(space_id='a', choices=toys.candidates())
    supernet, mutator = toys.prepared('ReinMaxMutator', op, **kwargs)
    with torch.no_grad():
        mutator.arch_params['a'].copy_(LOGITS)
    return supernet, mutator


@pytest.mark.parametrize('exact', [True, False])
def test_gradient_in_a_network(exact: bool) -> None:
    supernet, mutator = one_op(**({} if exact else {'exact_gates': False}), tau=1.2)
    x, seen = torch.randn(6, 4, dtype=torch.float64), set()
    for seed in range(20):
        mutator.zero_grad()
        slope = torch.randn_like(x)
        out = toys.run(supernet, x, seed=seed)
        mixture = mutator.mixtures['a']
        (drawn,) = mixture.paths
        assert mixture.silent == (tuple(i for i in range(4) if i != drawn) if exact else ())
        assert_close(out, list(supernet.choices.values())[drawn](x), rtol=0, atol=0)
        (out * slope).sum().backward()
        upstream = torch.stack([(slope * c(x)).sum() for c in supernet.choices.values()])
        gradient = naive_gradient(LOGITS, drawn, upstream.detach(), 1.2)
        close = torch.allclose(mutator.arch_params['a'].grad, gradient)
        assert close == exact
        seen |= {drawn}
    assert seen == {0, 1, 2, 3}


def test_a_step_of_the_weights_runs_one_path() -> None:
    supernet, mutator = one_op()
    mutator.arch_params['a'].requires_grad_(False)
    for seed in range(5):
        toys.run(supernet, torch.randn(6, 4, dtype=torch.float64), seed=seed)
        mixture = mutator.mixtures['a']
        assert mixture.silent == ()
        assert mixture.weights.tolist() == EYE[mixture.paths[0]].tolist()


def test_dropped_choices_and_certain_logits() -> None:
    supernet, mutator = one_op(ignore_choices=())
    x = torch.randn(6, 4, dtype=torch.float64)
    with torch.no_grad():
        mutator.arch_params['a'].copy_(torch.tensor([900.0, -2000.0, 0.0, 905.0]))
    mutator.drop_choices('a', ['deep'])
    supernet(x).square().sum().backward()
    assert mutator.mixtures['a'].paths == (0,)
    assert mutator.mixtures['a'].silent == (1, 2)
    assert mutator.arch_params['a'].grad.tolist() == [0.0, 0.0, 0.0, 0.0]


def test_reading_off_and_state() -> None:
    _, mutator = one_op(tau=1.3)
    found = mutator.search_subnet()['a']
    assert found['chosen'] == ['deep']
    assert found['chosen_probs'] == [pytest.approx(softmax(LOGITS)[3])]
    mutator.on_epoch(2, max_epochs=5)
    _, other = one_op(tau=1.3)
    other.load_state_dict(mutator.state_dict())
    assert (other.epoch, other.tau) == (2, 1.3)
    drawn = [toys.run(m.relax_spaces)['a'] for m in (mutator, other)]
    assert drawn[0].paths == drawn[1].paths
    assert_close(drawn[0].weights, drawn[1].weights)


@pytest.mark.parametrize('tau', [0.99, 0.0, -1.0, float('nan'), float('inf')])
def test_errors(tau: float) -> None:
    with pytest.raises(ConfigError, match=f'`tau` to be at least 1 and finite, but got {tau}'):
        mm.ReinMaxMutator(tau=tau)
