"""Budgets are met, and by the best network: against all networks of small spaces."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from typing import Any

import networks
import pytest
import torch
import toys
from torch import Tensor, nn
from torch.nn import functional as F

import mmrazor_mutators as mm
from mmrazor_mutators.costs import build_cost_model, scaled
from mmrazor_mutators.errors import BindingError, ConfigError, SearchSpaceError
from mmrazor_mutators.extensions import budget as budget_module


def searched(
    name: str, mutator: str = 'DartsMutator', **budget: Any
) -> tuple[Any, Any, Tensor]:
    torch.manual_seed(0)
    case = networks.CASES[name]
    x = case.inputs()
    supernet = mm.make_searchable(case.build(), case.rules(), x)
    built = toys.build_mutator(mutator, extensions=[{'type': 'Budget', **budget}])
    built.prepare_from_supernet(supernet)
    return supernet, built, x


def every_subnet(mutator: Any) -> Any:
    spaces = mutator.search_spaces
    for names in itertools.product(*(space['choice_names'] for space in spaces.values())):
        yield {sid: {'chosen': [name]} for sid, name in zip(spaces, names, strict=True)}


def log_prob(mutator: Any, subnet: Any) -> float:
    total = 0.0
    for space_id, entry in subnet.items():
        names = mutator.search_spaces[space_id]['choice_names']
        logs = mutator.arch_params[space_id].detach().double().log_softmax(-1)
        total += float(logs[names.index(entry['chosen'][0])] - logs.max())
    return total


def chosen(subnet: Any) -> dict[str, Any]:
    return {sid: entry['chosen'] for sid, entry in subnet.items()}


@pytest.mark.parametrize('metric', ['params', 'macs', 'memory'])
@pytest.mark.parametrize('share', [0.35, 0.6, 0.9])
def test_the_best_of_all_networks_within_a_budget(metric: Any, share: float) -> None:
    supernet, mutator, x = searched('unet', **{metric: share})
    toys.spread_logits(mutator)
    model = build_cost_model(supernet, metric, x)
    assert model.original is not None
    limit = share * model.of(model.original)
    found = mutator.search_subnet()
    cost = model.of(chosen(found))
    assert cost <= limit
    everything = [(model.of(chosen(s)), log_prob(mutator, s)) for s in every_subnet(mutator)]
    within = [(c, score) for c, score in everything if c <= limit]
    near = [score for c, score in within if c >= 0.97 * limit]
    best = max(score for _, score in within)
    if not near:
        assert cost == max(c for c, _ in within)
        return
    # What is best anyway may be close to the budget by itself.
    free = max(c for c, score in within if score == best)
    expected = best if free >= 0.97 * limit else max(near)
    assert log_prob(mutator, found) == pytest.approx(expected, abs=1e-9)


def test_several_budgets_at_once() -> None:
    supernet, mutator, x = searched('unet', params=0.5, macs=0.6, memory=0.9)
    toys.spread_logits(mutator)
    limits = mutator.extensions[0].limits
    found = mutator.search_subnet()
    shares = {}
    for metric, limit in limits.items():
        shares[metric] = build_cost_model(supernet, metric, x).of(chosen(found)) / limit
    assert max(shares.values()) <= 1
    assert max(shares.values()) >= 0.97


@pytest.mark.parametrize('name', networks.CASES)
@pytest.mark.parametrize('seed', range(3))
def test_exported_networks_are_within_their_budget(name: str, seed: int) -> None:
    supernet, mutator, _ = searched(name, params=0.6)
    torch.manual_seed(seed)
    toys.spread_logits(mutator)
    (limit,) = mutator.extensions[0].limits.values()
    net = mutator.export_subnet(supernet, mutator.search_subnet())
    size = sum(p.numel() for p in net.parameters())
    assert size <= limit
    # The steps of these small networks are coarse, so that few are closer than this.
    assert size >= 0.9 * limit


learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')


def test_every_mutator_meets_budgets(learning: str) -> None:
    if learning == 'RandomMutator':
        with pytest.raises(ConfigError, match='RandomMutator reads off subnets in its own way'):
            searched('series', learning, params=0.6)
        return
    supernet, mutator, x = searched('series', learning, params=0.6)
    supernet(x)
    mutator.regularization().backward()
    (limit,) = mutator.extensions[0].limits.values()
    net = mutator.export_subnet(supernet, mutator.search_subnet())
    assert 0.5 * limit <= sum(p.numel() for p in net.parameters()) <= limit


@pytest.mark.parametrize('name', ['DartsSupernet', 'NasBench201Supernet'])
def test_budgets_of_cells(name: str) -> None:
    torch.manual_seed(0)
    small = {'base_channels': 4, 'in_channels': 3, 'num_classes': 5}
    layers = {'num_layers': 3} if name == 'DartsSupernet' else {'num_cells': 1}
    supernet = mm.build_architecture({'type': name, **small, **layers})
    budget = {'type': 'Budget', 'params': 0.5, 'example_inputs': [1, 3, 8, 8]}
    mutator = mm.build_mutator({'type': 'DartsMutator', 'extensions': [budget]})
    mutator.prepare_from_supernet(supernet)
    toys.spread_logits(mutator)
    (limit,) = mutator.extensions[0].limits.values()
    subnet = mutator.search_subnet()
    net = mutator.export_subnet(supernet, subnet)
    assert 0.9 * limit <= sum(p.numel() for p in net.parameters()) <= limit
    for space_id, entry in subnet.items():
        assert len(entry['chosen']) == mutator.search_spaces[space_id]['num_chosen']
        assert 'none' not in entry['chosen']


def test_the_penalty_is_an_augmented_lagrangian() -> None:
    _, mutator, _ = searched('series', params=0.5)
    toys.spread_logits(mutator)
    budget = mutator.extensions[0]
    excess = (budget.costs(mutator)['params'] / budget.limits['params'] - 1).item()
    assert excess > 0
    for multiplier, strength in [(0.0, 1.0), (0.7, 2.0), (3.0, 0.5)]:
        budget.multipliers.fill_(multiplier)
        budget.strengths.fill_(strength)
        pressed = max(0.0, multiplier + strength * excess)
        expected = (pressed**2 - multiplier**2) / (2 * strength)
        with torch.no_grad():
            assert mutator.regularization().item() == pytest.approx(expected, rel=1e-5)


def test_multipliers_follow_the_excess() -> None:
    _, mutator, _ = searched('series', params=0.5, interval=2)
    budget = mutator.extensions[0]
    mutator.regularization()
    assert budget.multipliers.item() == 0
    mutator.regularization()
    assert 0 < budget.multipliers.item() <= 0.2 + 1e-6
    with torch.no_grad():
        for space_id, logits in mutator.arch_params.items():
            names = mutator.search_spaces[space_id]['choice_names']
            logits[names.index(min(names, key=lambda n: int(n[1:])))] = 20.0
    for _ in range(20):
        mutator.regularization()
    assert budget.multipliers.item() == 0


def test_a_search_by_one_optimizer_meets_it_in_expectation() -> None:
    torch.manual_seed(0)
    supernet, mutator, x = searched('resnet', params=0.5)
    targets = torch.randint(5, (len(x),))
    params = [*supernet.parameters(), *mutator.parameters()]
    optimizer = torch.optim.Adam(params, lr=0.03)
    for _ in range(120):
        loss = F.cross_entropy(supernet(x), targets) + mutator.regularization()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    budget = mutator.extensions[0]
    assert budget.costs(mutator)['params'].item() <= 1.1 * budget.limits['params']


@pytest.mark.parametrize(
    ('budget', 'message'),
    [
        ({}, r'a budget of at least one of params, macs, memory, latency_ms'),
        ({'params': 0}, r'`params` to be a number above 0 .* got 0'),
        ({'macs': -1.0}, r'`macs` .* got -1.0'),
        ({'macs': math.nan}, r'`macs` .* got nan'),
        ({'memory': True}, r'`memory` .* got True'),
        ({'params': '5'}, r"`params` .* got '5'"),
        ({'params': 0.5, 'tolerance': 1}, r'`tolerance` .* got 1'),
        ({'params': 0.5, 'interval': 0}, r'`interval` .* got 0'),
        ({'latency_ms': 3}, r'`latency_ms` needs `profile`'),
    ],
)
def test_illegal_options(budget: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mm.Budget(**budget)


def test_impossible_budgets_are_refused_before_the_search() -> None:
    with pytest.raises(
        SearchSpaceError, match=r'at most 10 `params`: they go from 259 to 5,797'
    ):
        searched('resnet', params=10)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    choices = {'dense': nn.Linear(8, 8), 'wide': Wide()}
    supernet = nn.Sequential(
        *net[:2], mm.DifferentiableOP(space_id='a', choices=choices), net[2]
    )
    # 48 multiply-adds and 258 parameters, or 112 and 130.
    budget = {'type': 'Budget', 'params': 200, 'macs': 100, 'example_inputs': [1, 4]}
    mutator = mm.DartsMutator(extensions=[budget])
    with pytest.raises(
        SearchSpaceError, match=r'within all budgets at once \(params=200, macs'
    ):
        mutator.prepare_from_supernet(supernet)
    assert not mutator.search_spaces


class Wide(nn.Module):
    """Many parameters, no multiply-adds."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(200))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.table.sum()


def test_before_preparing() -> None:
    mutator = mm.DartsMutator(extensions=[{'type': 'Budget', 'params': 0.5}])
    with pytest.raises(BindingError, match='Budget knows no search space yet'):
        mutator.extensions[0].costs(mutator)
    assert mutator.extensions[0].limits == {}


def test_state_copies_and_release() -> None:
    supernet, mutator, _ = searched('series', params=0.5, interval=1)
    for _ in range(3):
        mutator.regularization()
    budget = mutator.extensions[0]
    state = mutator.state_dict()
    assert all(isinstance(value, Tensor) for value in state.values())
    _, other, _ = searched('series', params=0.5, interval=1)
    other.load_state_dict(state)
    assert other.extensions[0].multipliers.equal(budget.multipliers)
    assert other.search_subnet() == mutator.search_subnet()
    for pair in (
        copy.deepcopy((supernet, mutator)),
        pickle.loads(pickle.dumps((supernet, mutator))),
    ):
        assert pair[1].search_subnet() == mutator.search_subnet()
        cost = mutator.extensions[0].costs(mutator)['params']
        assert pair[1].extensions[0].costs(pair[1])['params'].equal(cost)
    mutator.release(supernet)
    assert budget.limits == {}


def test_what_was_solved_is_not_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _, mutator, _ = searched('unet', params=0.5)
    toys.spread_logits(mutator)
    solved: list[int] = []
    solve = budget_module.choose_within
    monkeypatch.setattr(
        budget_module, 'choose_within', lambda *args: solved.append(1) or solve(*args)
    )
    found = mutator.search_subnet()
    assert mutator.search_subnet() == found
    assert len(solved) == 1
    # Another logit, another limit, and another count of the same cost.
    with torch.no_grad():
        next(iter(mutator.arch_params.values()))[0] += 1e-3
    mutator.search_subnet()
    assert len(solved) == 2
    budget = mutator.extensions[0]
    model, limit = budget.models['params'], budget.limits['params']
    budget.correct('params', model, 0.8 * limit)
    smaller = mutator.search_subnet()
    budget.correct('params', scaled(model, 2.0), 1.6 * limit)
    assert chosen(mutator.search_subnet()) == chosen(smaller)
    assert len(solved) == 4
    assert model.of(chosen(smaller)) <= 0.8 * limit
