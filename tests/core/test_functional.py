"""Pure functions against closed forms and sampling theory."""

from __future__ import annotations

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.testing import assert_close

from mmrazor_mutators.functional import (
    exponential_schedule,
    gumbel_noise,
    gumbel_softmax,
    linear_schedule,
    one_hot_argmax,
    relaxations,
    straight_through,
    top_names,
)

FLOATS = pytest.mark.parametrize(
    'dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16]
)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_gumbel_noise_has_the_moments_of_its_law(dtype: torch.dtype) -> None:
    draws = 200_000
    noise = gumbel_noise(torch.empty(draws, dtype=dtype)).double()
    variance = math.pi**2 / 6
    mean_error = math.sqrt(variance / draws)
    variance_error = variance * math.sqrt((2 + 12 / 5) / draws)  # Excess kurtosis 12/5.
    assert abs(noise.mean().item() - 0.5772156649015329) < 4 * mean_error
    assert abs(noise.var().item() - variance) < 4 * variance_error
    for point in (-1.0, 0.0, 2.0):
        p = math.exp(-math.exp(-point))
        share = (noise <= point).double().mean().item()
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / draws)


@FLOATS
def test_gumbel_noise_is_finite_even_for_a_draw_of_zero(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = torch.randn(50_000).to(dtype)
    noise = gumbel_noise(like)
    assert noise.dtype == dtype
    assert noise.shape == like.shape
    assert noise.isfinite().all()
    monkeypatch.setattr(torch.Tensor, 'exponential_', torch.Tensor.zero_)
    worst = gumbel_noise(like)
    assert worst.isfinite().all()
    weights = gumbel_softmax(torch.zeros(3, dtype=dtype), 0.03, hard=True)
    assert weights.float().sum() == 1


def test_gumbel_noise_has_no_graph() -> None:
    like = torch.nn.Parameter(torch.zeros(3))
    noise = gumbel_noise(like)
    assert not noise.requires_grad
    assert type(noise) is torch.Tensor
    assert not torch.equal(noise, gumbel_noise(like))


@FLOATS
def test_one_hot_argmax(dtype: torch.dtype) -> None:
    weights = torch.tensor([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1], [0.4, 0.2, 0.4]]).to(dtype)
    expected = torch.eye(3, dtype=dtype)[[1, 0, 0]]
    assert_close(one_hot_argmax(weights), expected)
    assert not one_hot_argmax(weights.requires_grad_()).requires_grad


@FLOATS
def test_straight_through_is_exact_forward_and_soft_backward(dtype: torch.dtype) -> None:
    logits = torch.randn(500, 3).to(dtype).requires_grad_()
    soft = logits.softmax(-1)
    hard = one_hot_argmax(soft)
    out = straight_through(hard, soft)
    assert torch.equal(out, hard)
    anything = torch.randn_like(soft)
    assert torch.equal(straight_through(anything, soft), anything)  # Nothing is rounded.
    slope = torch.randn_like(logits)
    mine, plain = (
        torch.autograd.grad((y * slope).sum(), logits)[0] for y in (out, logits.softmax(-1))
    )
    assert_close(mine, plain)


@pytest.mark.parametrize('hard', [False, True])
@pytest.mark.parametrize('tau', [0.1, 1.0, 5.0])
def test_gumbel_softmax_in_closed_form(
    hard: bool, tau: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(5, 4, dtype=torch.float64)
    monkeypatch.setattr(relaxations, 'gumbel_noise', lambda like: noise)
    powers = ((logits + noise) / tau).exp()
    soft = powers / powers.sum(-1, keepdim=True)
    out = gumbel_softmax(logits, tau, hard=hard)
    expected = torch.eye(4, dtype=torch.float64)[(logits + noise).argmax(-1)] if hard else soft
    assert_close(out, expected, rtol=0, atol=0 if hard else 1e-12)
    slope = torch.randn(5, 4, dtype=torch.float64)
    mine, other = (torch.autograd.grad((y * slope).sum(), logits)[0] for y in (out, soft))
    assert_close(mine, other)
    assert_close(gumbel_softmax(logits.log_softmax(-1), tau, hard=hard), out)


def test_linear_schedule() -> None:
    taus = [linear_schedule(10.0, 0.1, epoch, 250) for epoch in range(250)]
    steps = [a - b for a, b in itertools.pairwise(taus)]
    assert taus[0] == 10.0
    assert taus[-1] == pytest.approx(0.1)
    assert steps == pytest.approx([9.9 / 249] * 249)


def test_exponential_schedule() -> None:
    taus = [exponential_schedule(1.0, 0.03, epoch, 50) for epoch in range(50)]
    ratios = [b / a for a, b in itertools.pairwise(taus)]
    assert taus[0] == 1.0
    assert taus[-1] == pytest.approx(0.03)
    assert ratios == pytest.approx([0.03 ** (1 / 49)] * 49)


@pytest.mark.parametrize('schedule', [linear_schedule, exponential_schedule])
def test_schedules_stay_between_their_ends(schedule: object) -> None:
    assert schedule(4.0, 2.0, 0, 1) == 4.0
    assert schedule(4.0, 2.0, -3, 10) == 4.0
    assert schedule(4.0, 2.0, 30, 10) == 2.0
    assert 2.0 < schedule(4.0, 2.0, 4.5, 10) < 4.0


@settings(deadline=None, derandomize=True)
@given(
    scores=st.dictionaries(st.text(max_size=3), st.integers(-3, 3), min_size=1, max_size=8),
    data=st.data(),
)
def test_top_names(scores: dict[str, int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(scores)))
    chosen = top_names(scores, count)
    assert len(set(chosen)) == len(chosen) == count
    order = list(scores)
    keys = [(-scores[name], order.index(name)) for name in chosen]
    assert keys == sorted(keys)  # Best first, ties in the order of the scores.
    rest = [(-scores[name], order.index(name)) for name in order if name not in chosen]
    assert not rest or max(keys) < min(rest)
