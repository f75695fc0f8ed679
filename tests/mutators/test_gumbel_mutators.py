"""SNAS and GDAS against closed forms, with noise that is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.functional import relaxations

NOISE = torch.tensor([0.3, -1.1, 2.4, 0.2], dtype=torch.float64)
LOGITS = torch.tensor([0.5, 0.2, -0.4, 1.0], dtype=torch.float64)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, dtype=torch.float64)


@pytest.fixture
def known_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaxations, 'gumbel_noise', lambda like: NOISE.to(like))


def one_op(mutator_type: str, epoch: int = 0) -> tuple[Any, Any]:
    op = mm.DifferentiableOP(space_id='a', choices=toys.candidates())
    supernet, mutator = toys.prepared(mutator_type, op)
    with torch.no_grad():
        mutator.arch_params['a'].copy_(LOGITS)
    mutator.on_epoch(epoch, max_epochs=3)
    return supernet, mutator


def softmax(values: Tensor) -> Tensor:
    powers = [math.exp(v) for v in values.tolist()]
    return torch.tensor(powers, dtype=torch.float64) / sum(powers)


def through_softmax(upstream: Tensor, soft: Tensor, tau: float) -> Tensor:
    """d/d alpha of sum_i upstream_i softmax_i(alpha / tau), entry by entry."""
    gradient = torch.zeros_like(soft)
    for j in range(len(soft)):
        for i in range(len(soft)):
            gradient[j] += upstream[i] * soft[i] * (float(i == j) - soft[j]) / tau
    return gradient


@pytest.mark.parametrize('epoch', [0, 1, 2])
def test_gdas_gradient_in_closed_form(known_noise: None, epoch: int, x: Tensor) -> None:
    supernet, mutator = one_op('GDASMutator', epoch)
    chosen = int((LOGITS + NOISE).argmax())
    assert chosen == 2
    slope = torch.randn(6, 4, dtype=torch.float64)
    out = supernet(x)
    norm = supernet.choices['norm']
    result = norm(x)
    assert_close(out, result, rtol=0, atol=0)  # The weight is exactly 1, the others exactly 0.
    (out * slope).sum().backward()
    of_weights = torch.full((4,), slope.sum().item(), dtype=torch.float64)
    of_weights[chosen] = (slope * result.detach()).sum()
    soft = softmax((LOGITS + NOISE) / mutator.tau)
    expected = through_softmax(of_weights, soft, mutator.tau)
    assert_close(mutator.arch_params['a'].grad, expected)
    direct = torch.autograd.grad((result * slope).sum(), list(norm.parameters()))
    assert_close([p.grad for p in norm.parameters()], list(direct))
    assert all(p.grad is None for p in supernet.choices['linear'].parameters())


@pytest.mark.parametrize('epoch', [0, 1, 2])
def test_snas_in_closed_form(known_noise: None, epoch: int, x: Tensor) -> None:
    supernet, mutator = one_op('SNASMutator', epoch)
    log_p = softmax(LOGITS).log()
    soft = softmax((log_p + NOISE) / mutator.tau)
    assert_close(mutator.relax(mutator.arch_params['a']), soft)
    results = [choice(x) for choice in supernet.choices.values()]
    slope = torch.randn(6, 4, dtype=torch.float64)
    out = supernet(x)
    assert_close(out, sum(w * result for w, result in zip(soft, results, strict=True)))
    (out * slope).sum().backward()
    of_weights = torch.stack([(slope * result).sum().detach() for result in results])
    expected = through_softmax(of_weights, soft, mutator.tau)
    assert_close(mutator.arch_params['a'].grad, expected)


def test_gdas_runs_only_what_was_drawn() -> None:
    supernet, mutator = toys.prepared('GDASMutator')
    x = torch.randn(6, 3, dtype=torch.float64)
    ran: list[tuple[str, str]] = []
    for mutable in mm.mutables.find_mutables(supernet):
        if isinstance(mutable, mm.DifferentiableOP):
            for name, choice in mutable.choices.items():
                key = (mutable.space_id, name)
                choice.register_forward_hook(lambda *_, key=key: ran.append(key))
    norms = {
        name: module
        for name, module in supernet.named_modules()
        if isinstance(module, nn.BatchNorm1d)
    }
    used = set()
    for seed in range(5):
        ran.clear()
        before = {name: int(norm.num_batches_tracked) for name, norm in norms.items()}
        toys.run(supernet, x, seed=seed)
        drawn = {
            space_id: mutator.search_spaces[space_id]['choice_names'][int(mix.weights.argmax())]
            for space_id, mix in toys.run(mutator.relax_spaces, seed=seed).items()
        }
        assert sorted(ran) == sorted([*drawn.items(), ('shared', drawn['shared'])])
        for name, norm in norms.items():
            owner = supernet.get_submodule(name.split('.choices.norm')[0])
            expected = int(drawn[owner.space_id] == 'norm')
            assert int(norm.num_batches_tracked) - before[name] == expected
            used |= {name} if expected else set()
    assert 0 < len(used) < len(norms)
    for name in set(norms) - used:
        assert not norms[name].running_mean.any()


def test_gdas_draws_a_zero_as_well(known_noise: None, x: Tensor) -> None:
    supernet, mutator = one_op('GDASMutator')
    with torch.no_grad():
        mutator.arch_params['a'][0] = 9.0
    out = supernet(x)
    assert_close(out, torch.zeros_like(x), rtol=0, atol=0)
    out.sum().backward()
    of_weights = torch.tensor([0.0, 24.0, 24.0, 24.0], dtype=torch.float64)
    alpha = mutator.arch_params['a']
    soft = softmax((alpha.detach() + NOISE) / mutator.tau)
    assert_close(alpha.grad, through_softmax(of_weights, soft, mutator.tau))


@pytest.mark.parametrize('tau', [0.1, 1.0, 10.0])
def test_gdas_draws_as_often_as_softmax_says(tau: float) -> None:
    mutator, draws = mm.GDASMutator(tau_max=tau), 20_000
    weights = mutator.relax(LOGITS.expand(draws, 4))
    assert set(weights.unique().tolist()) == {0.0, 1.0}
    p = softmax(LOGITS)
    error = (p * (1 - p) / draws).sqrt()
    assert ((weights.mean(0) - p).abs() < 4 * error).all()


def test_snas_weights_on_average() -> None:
    draws, difference = 20_000, 1.3
    logits = torch.tensor([difference, 0.0], dtype=torch.float64).expand(draws, 2)
    weights = mm.SNASMutator(tau_max=1.0).relax(logits)[:, 0]
    # sigmoid(d + logistic noise): with u uniform, the mean of k u / (1 + (k - 1) u).
    k = math.exp(difference)
    mean = k / (k - 1) * (1 - math.log(k) / (k - 1))
    assert abs(float(weights.mean()) - mean) < 4 * float(weights.std()) / draws**0.5
    assert abs(mean - k / (1 + k)) > 0.05  # Relaxed draws are not the probabilities.


@pytest.mark.parametrize(
    ('mutator', 'expected'),
    [
        (mm.GDASMutator(), [10.0, 7.525, 5.05, 2.575, 0.1]),
        (mm.GDASMutator(schedule='exponential'), [10.0, 10**0.5, 1.0, 10**-0.5, 0.1]),
        (mm.GDASMutator(tau_max=4, tau_min=2), [4.0, 3.5, 3.0, 2.5, 2.0]),
        (mm.SNASMutator(schedule='exponential'), [0.03 ** (e / 4) for e in range(5)]),
        (mm.SNASMutator(), [1.0, 0.7575, 0.515, 0.2725, 0.03]),
    ],
)
def test_temperatures(mutator: Any, expected: list[float]) -> None:
    assert mutator.tau == expected[0]
    for epoch, tau in enumerate(expected):
        mutator.on_epoch(epoch, max_epochs=5)
        assert mutator.tau == pytest.approx(tau, rel=1e-12)
    mutator.on_epoch(0, max_epochs=1)
    assert mutator.tau == pytest.approx(expected[0])


def test_the_temperature_is_used_and_resumed(known_noise: None) -> None:
    mutator = mm.SNASMutator()
    mutator.on_epoch(4, max_epochs=5)
    assert_close(mutator.relax(LOGITS), softmax((LOGITS + NOISE) / 0.03))
    resumed = mm.SNASMutator()
    resumed.load_state_dict(mutator.state_dict())
    assert resumed.tau == mutator.tau


def test_reading_off_needs_no_noise() -> None:
    for mutator_type in ('SNASMutator', 'GDASMutator'):
        _, mutator = one_op(mutator_type)
        for _ in range(5):
            found = mutator.search_subnet()['a']
            assert found['chosen'] == ['deep']
            assert found['chosen_probs'] == [pytest.approx(float(softmax(LOGITS)[3]))]


@pytest.mark.parametrize('mutator', [mm.SNASMutator, mm.GDASMutator])
def test_errors(mutator: Any) -> None:
    for name, value in [('tau_max', 0), ('tau_min', -0.5), ('tau_min', float('nan'))]:
        with pytest.raises(ConfigError, match=f'`{name}` to be above 0, but got {value}'):
            mutator(**{name: value})
    with pytest.raises(ConfigError, match=r"'linaer' is not a temperature .*mean 'linear'"):
        mutator(schedule='linaer')


@pytest.mark.parametrize('lend_unchosen', [True, False])
def test_gradients_of_gdas_on_both_spaces_of_its_authors(lend_unchosen: bool) -> None:
    """w[drawn] * op(x), with or without the bare weights of the others."""
    torch.manual_seed(3)
    ops = {f'o{i}': nn.Linear(3, 3).double() for i in range(4)}
    supernet = nn.Sequential(mm.DifferentiableOP(space_id='a', choices=ops))
    mutator = mm.GDASMutator(lend_unchosen=lend_unchosen)
    mutator.prepare_from_supernet(supernet)
    alpha = mutator.arch_params['a']
    x, upstream = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    torch.manual_seed(7)
    out = supernet(x)
    (found,) = torch.autograd.grad((out * upstream).sum(), alpha)
    torch.manual_seed(7)
    leaf = alpha.detach().clone().requires_grad_()
    hard = mm.functional.gumbel_softmax(leaf, mutator.tau, hard=True)
    drawn = int(hard.argmax())
    expected = hard[drawn] * ops[f'o{drawn}'](x)
    if lend_unchosen:
        expected = expected + sum(hard[i] for i in range(4) if i != drawn)
    assert_close(out, expected)
    (grad,) = torch.autograd.grad((expected * upstream).sum(), leaf)
    assert_close(found, grad)


def test_lend_unchosen_is_a_switch() -> None:
    with pytest.raises(ConfigError, match='`lend_unchosen` to be True or False, but got 1'):
        mm.GDASMutator(lend_unchosen=1)
