"""A budget of milliseconds against a clock that does not say what the table says."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import networks
import pytest
import torch
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators.costs import latency, profile_latency, settle_by_clock
from mmrazor_mutators.errors import ConfigError, SearchSpaceError
from mmrazor_mutators.extensions import clocked

Chosen = Mapping[str, Sequence[str]]


def numbers(seed: int, count: int = 400) -> tuple[list[float], list[float], list[float]]:
    """Return what a table says of networks, what they take, and how good they are."""
    rng = random.Random(seed)
    table = [rng.uniform(1, 10) for _ in range(count)]
    takes = [said * rng.uniform(0.7, 1.6) for said in table]
    return table, takes, [rng.random() + said / 10 for said in table]


@pytest.mark.parametrize('seed', range(20))
def test_it_ends_within_the_limit_and_close_to_it(seed: int) -> None:
    table, takes, good = numbers(seed)
    limit, asked = 6.0, []

    def found_with(factor: float) -> Chosen | None:
        # The best that is within the limit by the table, and near it, as a budget reads off.
        near = [k for k, said in enumerate(table) if 0.9 * limit <= factor * said <= limit]
        return {'all': [str(max(near, key=good.__getitem__))]} if near else None

    def of(numbers: list[float]) -> Any:
        return lambda chosen: numbers[int(chosen['all'][0])]

    def clock(chosen: Chosen) -> float:
        asked.append(chosen)
        return float(of(takes)(chosen))

    factor, said = settle_by_clock(found_with, of(table), clock, limit, 0.1)
    chosen = found_with(factor)
    assert chosen is not None
    assert said == of(takes)(chosen) <= limit
    # Nothing is timed twice, and nothing that was timed comes closer.
    assert len({repr(each) for each in asked}) == len(asked) <= 12
    assert said == max(takes for takes in map(of(takes), asked) if takes <= limit)


def test_with_small_steps_it_is_within_the_tolerance() -> None:
    """Times are 1.3 times what the table says: the factor is found at once."""

    def found_with(factor: float) -> Chosen:
        return {'all': [f'{int(1e4 / factor)}']}

    def said(chosen: Chosen) -> float:
        return int(chosen['all'][0]) / 1e4

    factor, takes = settle_by_clock(found_with, said, lambda c: 1.3 * said(c), 1.0, 0.03)
    assert 0.97 <= takes <= 1
    assert factor == pytest.approx(1.3 / 0.985, rel=1e-3)


def test_a_clock_that_nothing_pleases() -> None:
    with pytest.raises(SearchSpaceError, match=r'None of 12 .* at most 1 ms: .* 2 ms; raise'):
        settle_by_clock(
            lambda factor: {'all': [f'{factor}']}, lambda _: 1.0, lambda _: 2.0, 1.0, 0.03
        )


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A search under a profile that takes 5x5 kernels for free, with no clock that runs."""

    def layer(module: nn.Module, arguments: Any, seconds: float, least: int = 5) -> Any:
        free = 0.2 if getattr(module, 'kernel_size', (1,))[0] > 3 else 1.0
        parameters = sum(p.numel() for p in module.parameters())
        return [free * 1e-3 * (1 + parameters)] * 3

    monkeypatch.setattr(latency, 'time_call', layer)
    monkeypatch.setattr(latency, 'own_times', lambda *_: {})
    monkeypatch.setattr(latency, '_fit', lambda *_: {'scale': 1.0, 'offset': 0.0})
    monkeypatch.setattr(clocked, 'time_in_turns', in_turns)
    torch.manual_seed(0)
    case = networks.CASES['resnet']
    rules = [
        {'match': '*.conv2', 'kernel_size': [1, 3, 5]},
        {'match': '*.conv1', 'width': [n / 6 for n in range(1, 7)]},
    ]
    supernet = mm.make_searchable(case.build(), rules, case.inputs())
    path = tmp_path / 'latency.json'
    profile_latency(supernet, path)
    budget = {'type': 'Budget', 'latency_ms': 0.5, 'profile': str(path)}
    mutator = mm.build_mutator({'type': 'DartsMutator', 'extensions': [budget]})
    mutator.prepare_from_supernet(supernet)
    # A search has come to like what the profile takes for cheap.
    with torch.no_grad():
        for space, param in mutator.arch_params.items():
            for k, name in enumerate(mutator.search_spaces[space]['choice_names']):
                param[k] = 3.0 if name == 'k5' else 0.1 * k
    return supernet, mutator


def in_turns(nets: list[nn.Module], arguments: Any, seconds: float) -> list[list[float]]:
    return [whole(net, arguments, seconds) for net in nets]


def whole(net: nn.Module, arguments: Any, seconds: float) -> list[float]:
    """What a network takes: a microsecond for each parameter and each layer."""
    layers = [module for module in net.modules() if not list(module.children())]
    return [1e-3 * sum(1 + sum(p.numel() for p in m.parameters()) for m in layers)]


def test_a_budget_of_the_clock(searched: Any) -> None:
    supernet, mutator = searched
    budget = mutator.extensions[0]
    original = mutator.export_subnet(
        supernet,
        {
            s: {'chosen': list(names)}
            for s, names in budget.models['latency_ms'].original.items()
        },
    )
    limit = 0.5e3 * whole(original, None, 0)[0]
    before = mutator.export_subnet(supernet, mutator.search_subnet())
    assert 1e3 * whole(before, None, 0)[0] > 1.03 * limit
    lines: list[str] = []
    said = mm.agree_with_clock(mutator, supernet, report=lines.append)
    assert said is not None
    found = mutator.search_subnet()
    takes = 1e3 * whole(mutator.export_subnet(supernet, found), None, 0)[0]
    assert said.takes == pytest.approx(takes)
    assert said.limit == pytest.approx(limit) == budget.limits['latency_ms']
    assert 0.97 * limit <= takes <= limit
    assert said.factor > 1
    # What is told of it agrees with the clock; the next time there is nothing to do.
    chosen = {sid: entry['chosen'] for sid, entry in found.items()}
    assert 0.9 * limit <= budget.costs_of(chosen)['latency_ms'] <= limit
    assert lines[-1] == f'{takes:.4g} ms by the clock, of {limit:.4g} ms'
    assert mm.agree_with_clock(mutator, supernet) == said._replace(factor=1.0)


def test_a_clock_that_drifts(searched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is timed takes longer and longer: a fraction stays what it is."""
    supernet, mutator = searched
    slower = iter(1.1**k for k in range(40))

    def drifting(nets: Any, arguments: Any, seconds: float) -> list[list[float]]:
        factor = next(slower)
        return [[factor * t for t in calls] for calls in in_turns(nets, arguments, seconds)]

    monkeypatch.setattr(clocked, 'time_in_turns', drifting)
    said = mm.agree_with_clock(mutator, supernet)
    assert said is not None
    takes = 1e3 * whole(mutator.export_subnet(supernet, mutator.search_subnet()), None, 0)[0]
    assert said.takes == pytest.approx(takes)
    assert 0.97 * said.limit <= takes <= said.limit


def test_nothing_is_within(searched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    supernet, mutator = searched
    found, limits = mutator.search_subnet(), mutator.extensions[0].limits
    times = iter([[[1.0]], *([[9.0], [1.0]] for _ in range(20))])
    monkeypatch.setattr(clocked, 'time_in_turns', lambda *_: next(times))
    with pytest.raises(SearchSpaceError, match=r'at most 500 ms: the quickest takes 9000 ms'):
        mm.agree_with_clock(mutator, supernet)
    assert mutator.search_subnet() == found
    assert mutator.extensions[0].limits == limits


def test_a_profile_from_elsewhere(searched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    supernet, mutator = searched
    path = Path(mutator.extensions[0].profile)
    path.write_text(path.read_text().replace('"torch": "', '"torch": "0.'))
    found = mutator.search_subnet()
    with pytest.raises(ConfigError, match=r"measured elsewhere \(torch: '0\..* by the profile"):
        mm.agree_with_clock(mutator, supernet)
    assert mutator.search_subnet() == found
