"""ProxylessNAS: draws, gradients of the gates, and the offset after a step."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.functional import draw_one_hot, draw_pair, keep_mass, pair_gates
from mmrazor_mutators.mutators import differentiable

LOGITS = torch.tensor([0.5, 0.2, -0.9, 1.0], dtype=torch.float64)
P = [math.exp(x) / sum(map(math.exp, LOGITS.tolist())) for x in LOGITS.tolist()]
DRAWS = 40_000


def pair_probability(i: int, j: int) -> float:
    """Probability that i and j are drawn without replacement, in any order."""
    return P[i] * P[j] / (1 - P[i]) + P[j] * P[i] / (1 - P[j])


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, dtype=torch.float64)


def one_op(gates: str = 'two', **kwargs: Any) -> tuple[Any, Any]:
    op = mm.DifferentiableOP(space_id='a', choices=toys.candidates())
    supernet, mutator = toys.prepared('ProxylessMutator', op, gates=gates, **kwargs)
    with torch.no_grad():
        mutator.arch_params['a'].copy_(LOGITS)
    return supernet, mutator


def test_pairs_are_drawn_as_often_as_they_should_be() -> None:
    pairs = draw_pair(LOGITS.expand(DRAWS, 4))
    assert (pairs[:, 0] != pairs[:, 1]).all()
    for active, other in itertools.permutations(range(4), 2):
        expected = pair_probability(active, other) * P[active] / (P[active] + P[other])
        share = float((pairs == torch.tensor([active, other])).all(-1).double().mean())
        assert abs(share - expected) < 4.5 * (expected * (1 - expected) / DRAWS) ** 0.5


def test_one_hot_draws() -> None:
    drawn = draw_one_hot(LOGITS.expand(DRAWS, 4).requires_grad_())
    assert not drawn.requires_grad
    assert_close(drawn.sum(-1), torch.ones(DRAWS, dtype=torch.float64), rtol=0, atol=0)
    for share, p in zip(drawn.mean(0).tolist(), P, strict=True):
        assert abs(share - p) < 4.5 * (p * (1 - p) / DRAWS) ** 0.5


def naive_pair_gradient(upstream: Tensor, active: int, other: int) -> Tensor:
    """Write the double sum of the authors' code out."""
    gradient, pair = torch.zeros(4, dtype=torch.float64), (active, other)
    total = sum(math.exp(LOGITS[k]) for k in pair)
    q = {k: math.exp(LOGITS[k]) / total for k in pair}
    for i in pair:
        for j in pair:
            gradient[i] += upstream[j] * q[j] * (float(i == j) - q[i])
    return gradient


@pytest.mark.parametrize('pair', list(itertools.permutations(range(4), 2)))
def test_pair_gates(pair: tuple[int, int]) -> None:
    logits = LOGITS.clone().requires_grad_()
    gates = pair_gates(logits, torch.tensor(pair))
    assert gates.tolist() == [float(i == pair[0]) for i in range(4)]
    upstream = torch.randn(4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(gates, logits, upstream)
    assert_close(gradient, naive_pair_gradient(upstream, *pair))
    assert all(gradient[i] == 0 for i in range(4) if i not in pair)


def test_pair_gradient_on_average() -> None:
    costs = torch.randn(4, dtype=torch.float64)
    logits = LOGITS.expand(DRAWS, 4).clone().requires_grad_()
    gates = pair_gates(logits, draw_pair(logits))
    (gradients,) = torch.autograd.grad((gates * costs).sum(), logits)
    expected = sum(
        pair_probability(i, j) * naive_pair_gradient(costs, i, j)
        for i, j in itertools.combinations(range(4), 2)
    )
    error = gradients.std(0) / DRAWS**0.5
    assert ((gradients.mean(0) - expected).abs() < 4.5 * error).all()
    # It is not the gradient of the expectation over all paths.
    p = torch.tensor(P, dtype=torch.float64)
    exact = p * (costs - (p * costs).sum())
    assert ((gradients.mean(0) - exact).abs() > 10 * error).any()


def test_keep_mass() -> None:
    before, after = torch.randn(2, 3, 5, dtype=torch.float64)
    involved = torch.tensor([1, 0, 1, 0, 0], dtype=torch.bool).expand(3, 5)
    kept = keep_mass(after, before, involved)
    assert_close(kept[~involved], after[~involved], rtol=0, atol=0)
    for row in range(3):
        mass = [sum(math.exp(v[row][i]) for i in (0, 2)) for v in (before, after, kept)]
        assert mass[2] == pytest.approx(mass[0], rel=1e-12)
        assert mass[1] != pytest.approx(mass[0], rel=1e-3)
        assert float(kept[row, 0] - after[row, 0]) == pytest.approx(math.log(mass[0] / mass[1]))


def gate_gradients(supernet: Any, x: Tensor, slope: Tensor) -> Tensor:
    return torch.stack([(slope * choice(x)).sum() for choice in supernet.choices.values()])


def test_two_gates_in_closed_form(x: Tensor) -> None:
    supernet, mutator = one_op('two')
    seen = set()
    for seed in range(40):
        slope, inputs = torch.randn_like(x), x.clone().requires_grad_()
        supernet.zero_grad()
        mutator.zero_grad()
        out = toys.run(supernet, inputs, seed=seed)
        mixture = mutator.mixtures['a']
        (active,), names = mixture.paths, list(supernet.choices)
        (other,) = mixture.silent
        seen |= {(active, other)}
        drawn = supernet.choices[names[active]]
        assert_close(out, drawn(x), rtol=0, atol=0)
        (out * slope).sum().backward()
        upstream = gate_gradients(supernet, x, slope).detach()
        gradient = mutator.arch_params['a'].grad
        assert_close(gradient, naive_pair_gradient(upstream, active, other))
        assert all(gradient[i] == 0 for i in range(4) if i not in (active, other))
        # What is compared with learns nothing, and lets nothing through to the input.
        trained = {
            n for n in names for p in supernet.choices[n].parameters() if p.grad is not None
        }
        assert trained == ({names[active]} - {'none'})
        twin = x.clone().requires_grad_()
        (drawn(twin) * slope + 0 * twin).sum().backward()
        through = torch.zeros_like(x) if inputs.grad is None else inputs.grad
        assert_close(through, twin.grad)
    assert len(seen) > 8


def test_one_gate_in_closed_form(x: Tensor) -> None:
    supernet, mutator = one_op('one')
    seen = set()
    for seed in range(20):
        slope = torch.randn_like(x)
        mutator.zero_grad()
        out = toys.run(supernet, x, seed=seed)
        mixture = mutator.mixtures['a']
        seen |= {*mixture.paths}
        assert {*mixture.paths, *mixture.silent} == {0, 1, 2, 3}
        (out * slope).sum().backward()
        upstream = gate_gradients(supernet, x, slope).detach()
        gradient = torch.zeros(4, dtype=torch.float64)
        for i in range(4):
            for j in range(4):
                gradient[i] += upstream[j] * P[j] * (float(i == j) - P[i])
        assert_close(mutator.arch_params['a'].grad, gradient)
        if mixture.paths != (0,):
            continue
        # A zero that is drawn does not take the others' gradients away.
        assert gradient.abs().min() > 1e-4
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize('gates', ['one', 'two'])
def test_a_step_of_the_weights_runs_one_path(gates: str, x: Tensor) -> None:
    supernet, mutator = one_op(gates)
    mutator.arch_params['a'].requires_grad_(False)
    ran: list[str] = []
    for name, choice in supernet.choices.items():
        choice.register_forward_hook(lambda *_, name=name: ran.append(name))
    seen = {}
    for seed in range(30):
        ran.clear()
        out = toys.run(supernet, x, seed=seed)
        mixture = mutator.mixtures['a']
        assert mixture.weights.tolist() == [float(i in mixture.paths) for i in range(4)]
        assert not mixture.weights.requires_grad
        assert mixture.silent == ()
        (name,) = ran
        assert name == list(supernet.choices)[mixture.paths[0]]
        seen[name] = out
    assert len(seen) == 4
    assert seen['linear'].requires_grad
    assert mutator._drawn == {}


def softmax(logits: Tensor) -> list[float]:
    powers = [math.exp(v) for v in logits.tolist()]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize('interval', [1, 2])
def test_a_search_step_leaves_the_other_paths_alone(interval: int) -> None:
    supernet, mutator = toys.prepared('ProxylessMutator')
    search = mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.mse_loss,
        torch.optim.SGD(supernet.parameters(), lr=0.1),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.1, betas=(0.0, 0.999)),
        arch_interval=interval,
    )
    pairs: dict[str, tuple[int, ...]] = {}
    take_arch_step = mutator.after_arch_step

    def after_arch_step() -> None:
        pairs.update({s: (*m.paths, *m.silent) for s, m in mutator.mixtures.items()})
        take_arch_step()

    mutator.after_arch_step = after_arch_step
    moved = 0
    for step in range(6):
        pairs.clear()
        before = {s: softmax(a) for s, a in mutator.arch_params.items()}
        batch = (
            torch.randn(6, 3, dtype=torch.float64),
            torch.randn(6, 2, dtype=torch.float64),
        )
        search.step(batch, batch)
        assert bool(pairs) == (step % interval == 0)
        for space_id, logits in mutator.arch_params.items():
            now, pair = softmax(logits), pairs.get(space_id, ())
            for i in range(4):
                if i not in pair:
                    assert now[i] == pytest.approx(before[space_id][i], rel=1e-12)
                elif abs(now[i] - before[space_id][i]) > 1e-3:
                    moved += 1
    assert moved > 10


def test_several_passes_of_one_step_are_kept_together(x: Tensor) -> None:
    supernet, mutator = one_op('two')
    logits, drawn = mutator.arch_params['a'], set()
    for seed in range(2):
        toys.run(supernet, x, seed=seed + 9)
        drawn |= {*mutator.mixtures['a'].paths, *mutator.mixtures['a'].silent}
    assert len(drawn) == 3
    with torch.no_grad():
        logits[list(drawn)] += torch.tensor([0.3, -0.2, 0.7], dtype=torch.float64)
    mutator.after_arch_step()
    (left,) = {0, 1, 2, 3} - drawn
    assert softmax(logits.detach())[left] == pytest.approx(P[left], rel=1e-12)
    # A second call has nothing to mend.
    with torch.no_grad():
        logits += 1.0
    values = logits.detach().clone()
    mutator.after_arch_step()
    assert_close(logits.detach(), values, rtol=0, atol=0)


def test_a_pass_without_a_step_is_forgotten(x: Tensor) -> None:
    supernet, mutator = one_op('two')
    supernet(x)  # Somebody looks at the network.
    assert set(mutator._drawn) == {'a'}
    with torch.no_grad():
        supernet(x)
    assert mutator._drawn == {}


def test_after_single_precision_too_the_other_logits_have_no_gradient() -> None:
    op = mm.DifferentiableOP(space_id='a', choices=toys.candidates())
    mutator = mm.ProxylessMutator()
    mutator.prepare_from_supernet(op)
    for seed in range(20):
        mutator.zero_grad()
        toys.run(op, torch.randn(6, 4), seed=seed).square().sum().backward()
        mixture = mutator.mixtures['a']
        others = {0, 1, 2, 3} - {*mixture.paths, *mixture.silent}
        assert all(mutator.arch_params['a'].grad[i] == 0 for i in others)


def test_other_logits_are_followed(x: Tensor) -> None:
    supernet, mutator = one_op('two')
    other = torch.randn(4, dtype=torch.float64).requires_grad_()
    for path in ([other], []):
        out = supernet(x, **({'arch_param': path[0]} if path else {}))
        grads = torch.autograd.grad(
            out.square().sum(), [other, mutator.arch_params['a']], allow_unused=True
        )
        assert [g is not None for g in grads] == [bool(path), not path]
    # Probabilities alone say the same, as far as rounding goes.
    drawn = toys.run(mutator.sample_paths, {'a': other.softmax(-1)})['a']
    same = toys.run(mutator._relax_space, 'a', other)
    assert drawn.paths == same.paths
    upstream = torch.randn(4, dtype=torch.float64)
    gradients = [torch.autograd.grad(m.weights, other, upstream)[0] for m in (drawn, same)]
    assert_close(*gradients)


@pytest.mark.parametrize('gates', ['one', 'two'])
@pytest.mark.parametrize('kept', [(1, 3), (2,), (0, 1, 3)])
def test_dropped_choices_are_never_drawn(gates: str, kept: tuple[int, ...], x: Tensor) -> None:
    supernet, mutator = one_op(gates, ignore_choices=())
    names = list(supernet.choices)
    mutator.drop_choices('a', [n for i, n in enumerate(names) if i not in kept])
    for learning in (True, False):
        mutator.arch_params['a'].requires_grad_(learning)
        for seed in range(10):
            mutator.zero_grad()
            out = toys.run(supernet, x, seed=seed)
            mixture = mutator.mixtures['a']
            assert {*mixture.paths, *mixture.silent} <= {*kept}
            assert mixture.weights[mixture.paths[0]] == 1
            compared = len(kept) - 1 if gates == 'one' else min(len(kept) - 1, 1)
            assert len(mixture.silent) == (compared if learning else 0)
            if learning:
                out.square().sum().backward()
                gradient = mutator.arch_params['a'].grad
                assert gradient.isfinite().all()
                assert all(gradient[i] == 0 for i in range(4) if i not in kept)
                if len(kept) == 1:
                    assert not gradient.any()
        values = mutator.arch_params['a'].detach().clone()
        mutator.after_arch_step()
        assert_close(mutator.arch_params['a'].detach(), values)


def test_certain_logits_are_no_trouble(x: Tensor) -> None:
    supernet, mutator = one_op('two')
    with torch.no_grad():
        mutator.arch_params['a'].copy_(torch.tensor([-2000.0, 900.0, -3000.0, -2000.0]))
    for seed in range(5):
        mutator.zero_grad()
        toys.run(supernet, x, seed=seed).square().sum().backward()
        assert mutator.mixtures['a'].paths == (1,)
        assert mutator.arch_params['a'].grad.isfinite().all()
        mutator.after_arch_step()
        assert mutator.arch_params['a'].isfinite().all()


def test_the_device_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, mutator = toys.prepared('ProxylessMutator')
    looks: list[Tensor] = []
    tolist, item = Tensor.tolist, Tensor.item
    monkeypatch.setattr(Tensor, 'tolist', lambda t: looks.append(t) or tolist(t))
    monkeypatch.setattr(Tensor, 'item', lambda t: looks.append(t) or item(t))
    mutator.relax_spaces()
    assert len(looks) == 1


def test_ranks_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def seeded(device: Any) -> Iterator[None]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            yield

    _, mutator = toys.prepared('ProxylessMutator')
    plain = [toys.run(mutator.relax_spaces, seed=s) for s in range(2)]
    monkeypatch.setattr(differentiable, 'same_draws', seeded)
    together = [toys.run(mutator.relax_spaces, seed=s) for s in range(2)]
    paths = [{k: (m.paths, m.silent) for k, m in run.items()} for run in plain + together]
    assert paths[0] != paths[1]
    assert paths[2] == paths[3]


def test_relaxing_draws_nothing_and_reads_off_by_probability() -> None:
    _, mutator = one_op()
    state = torch.get_rng_state()
    expected = torch.tensor(P, dtype=torch.float64)
    assert_close(mutator.relax(LOGITS), expected)
    assert_close(mutator.choice_probs(LOGITS), expected)
    found = mutator.search_subnet()['a']
    assert (found['chosen'], found['chosen_probs']) == (['deep'], [pytest.approx(P[3])])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_search_goes_on_where_it_was_saved() -> None:
    def build() -> mm.BilevelSearch:
        torch.manual_seed(4)
        supernet, mutator = toys.prepared('ProxylessMutator')
        return mm.BilevelSearch(
            supernet,
            mutator,
            nn.functional.mse_loss,
            torch.optim.SGD(supernet.parameters(), lr=0.1),
            torch.optim.Adam(mutator.arch_params.values(), lr=0.1, betas=(0.0, 0.999)),
        )

    batch = torch.ones(6, 3, dtype=torch.float64), torch.ones(6, 2, dtype=torch.float64)
    search = build()
    search.mutator.drop_choices('widen', ['deep'])
    search.step(batch, batch)
    state = copy.deepcopy(search.state_dict())
    expected = [search.step(batch, batch) for _ in range(3)]
    resumed = build()
    resumed.load_state_dict(state)
    assert resumed.mutator.kept_indices('widen') == (0, 1, 2)
    assert_close([resumed.step(batch, batch) for _ in range(3)], expected, rtol=0, atol=0)
    arch_params = [dict(s.mutator.arch_params) for s in (resumed, search)]
    assert_close(*arch_params, rtol=0, atol=0)


def test_a_pass_that_is_recomputed_draws_the_same() -> None:
    supernet, mutator = toys.prepared('ProxylessMutator')
    x, grads = torch.randn(6, 3, dtype=torch.float64), []
    supernet.eval()
    for whole in (supernet, partial(checkpoint, supernet, use_reentrant=False)):
        mutator.zero_grad()
        toys.run(whole, x, seed=6).square().sum().backward()
        grads.append({k: p.grad.clone() for k, p in mutator.arch_params.items()})
    assert_close(*grads, rtol=0, atol=0)
    assert all(len(involved.nonzero()) == 2 for _, involved in mutator._drawn.values())


@pytest.mark.parametrize('hypergradient', sorted(mm.HYPERGRADIENTS.module_dict))
def test_hypergradients(hypergradient: str) -> None:
    supernet, mutator = toys.prepared('ProxylessMutator')
    search = mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.mse_loss,
        torch.optim.SGD(supernet.parameters(), lr=0.1),
        torch.optim.SGD(mutator.arch_params.values(), lr=0.1),
        hypergradient,
    )
    batch = torch.ones(6, 3, dtype=torch.float64), torch.ones(6, 2, dtype=torch.float64)
    assert search.step(batch, batch)['arch_loss'].isfinite()
    assert mutator._drawn == {}


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"`gates` to be one of .* but got 'tow'; .*'two'"):
        mm.ProxylessMutator(gates='tow')
