"""Evolution: who is asked for, with which parents, and the same after a stop."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest
import torch

from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.search import Evolution

LENGTH = 8


def draw(generator: torch.Generator) -> list[int]:
    return torch.randint(4, (LENGTH,), generator=generator).tolist()


def mutate(parent: list[int], prob: float, generator: torch.Generator) -> list[int]:
    hits = torch.rand(LENGTH, generator=generator) < prob
    return [
        new if hit else old for old, new, hit in zip(parent, draw(generator), hits, strict=True)
    ]


def cross(first: list[int], second: list[int], generator: torch.Generator) -> list[int]:
    sides = torch.rand(LENGTH, generator=generator) < 0.5
    return [a if side else b for a, b, side in zip(first, second, sides, strict=True)]


def cost(candidate: list[int]) -> dict[str, float]:
    return {'flops': sum(candidate), 'params': max(candidate)}


def score(candidate: list[int]) -> float:
    """Return the largest score for 3, 2, 1, 0, 3, 2, 1, 0."""
    return -sum(abs(value - 3 + place % 4) for place, value in enumerate(candidate))


SMALL = {'candidate_pool_size': 12, 'candidate_top_k': 4, 'num_mutation': 5, 'num_crossover': 5}


def evolution(**options: Any) -> Evolution:
    return Evolution(draw, mutate, cross, cost, **{**SMALL, 'max_epoch': 8, **options})


def test_defaults_are_those_of_the_paper() -> None:
    ours = Evolution(draw, mutate, cross)
    assert (ours.candidate_pool_size, ours.candidate_top_k, ours.max_epoch) == (50, 10, 20)
    assert (ours.num_mutation, ours.num_crossover, ours.mutate_prob) == (25, 25, 0.1)


@pytest.mark.parametrize('seed', [0, 1])
def test_it_finds_more_than_as_many_draws(seed: int) -> None:
    ours = evolution(seed=seed, max_epoch=20, mutate_prob=0.2)
    best = ours.run(score)
    generator = torch.Generator().manual_seed(seed)
    drawn = max(score(draw(generator)) for _ in range(len(ours.evaluated)))
    assert best.score > drawn
    assert best.score == max(entry.score for entry in ours.evaluated) == score(best.candidate)


def test_no_candidate_is_asked_for_twice_or_against_the_constraints() -> None:
    ours = evolution(constraints={'flops': (6, 11), 'params': (None, 2)})
    asked = []
    while not ours.finished:
        for candidate in ours.ask():
            asked.append(tuple(candidate))
            ours.tell(candidate, score(candidate))
    assert len(asked) == len({*asked}) == len(ours.evaluated)
    assert {sum(c) for c in asked} == {*range(6, 12)}
    assert max(map(max, asked)) == 2
    assert Counter(entry.epoch for entry in ours.evaluated) == dict.fromkeys(range(8), 12)
    assert all(entry.costs == cost(entry.candidate) for entry in ours.evaluated)


def test_parents_are_the_best_of_all_generations() -> None:
    parents: list[tuple[Any, ...]] = []

    def mutating(parent: Any, prob: float, generator: torch.Generator) -> Any:
        parents.append((ours.epoch, 'mutation', tuple(parent), prob))
        return mutate(parent, 0.5, generator)

    def crossing(first: Any, second: Any, generator: torch.Generator) -> Any:
        assert first != second
        parents.extend((ours.epoch, 'crossover', tuple(p), None) for p in (first, second))
        return cross(first, second, generator)

    ours = Evolution(draw, mutating, crossing, **{**SMALL, 'max_epoch': 6, 'mutate_prob': 0.3})
    ours.run(score)
    for epoch in range(1, 6):
        before = [entry for entry in ours.evaluated if entry.epoch < epoch]
        before.sort(key=lambda entry: -entry.score)
        top = {tuple(entry.candidate) for entry in before[:4]}
        seen = {p for at, _, p, _ in parents if at == epoch}
        assert seen <= top
        assert {kind for at, kind, *_ in parents if at == epoch} == {'mutation', 'crossover'}
    assert {p for *_, p in parents} == {0.3, None}
    assert min(at for at, *_ in parents) == 1


def test_equal_scores_do_not_replace_each_other() -> None:
    ours = evolution(max_epoch=2)
    ours.run(lambda candidate: 1.0)
    assert len(ours.evaluated) == 24
    assert [entry.candidate for entry in ours.top()] == [
        entry.candidate for entry in ours.evaluated[:4]
    ]


def test_a_space_that_is_used_up_ends_it() -> None:
    asked = []
    ours = Evolution(
        lambda g: int(torch.randint(5, (1,), generator=g)),
        lambda parent, prob, g: parent,
        lambda a, b, g: max(a, b),
        lambda c: {'size': c},
        constraints={'size': (1, None)},
        max_draws=100,
        **SMALL,
    )
    best = ours.run(lambda c: asked.append(c) or float(c))
    assert sorted(asked) == [1, 2, 3, 4]
    assert best.candidate == 4
    assert ours.finished
    assert ours.epoch == 1
    assert ours.ask() == []


def test_nothing_feasible_names_what_was_seen() -> None:
    ours = evolution(constraints={'flops': (None, 0.5), 'params': 7}, max_draws=300)
    costs = [cost(draw(torch.Generator().manual_seed(s)))['flops'] for s in range(50)]
    with pytest.raises(ConfigError) as error:
        ours.ask()
    found = re.search(
        r'^None of the (\d+) different candidates in 300 draws meets the constraints: flops '
        r'from 0 to 0.5 are allowed, and those seen go from (\d+) to (\d+); params from 0 to 7',
        str(error.value),
    )
    assert found is not None, error.value
    number, low, high = map(int, found.groups())
    assert 250 < number <= 300
    assert 0 < low <= min(costs) + 3
    assert 3 * LENGTH >= high >= max(costs) - 3


@pytest.mark.parametrize('stop', [0, 1, 12, 17, 24, 60, 95])
def test_a_stopped_evolution_goes_on_bit_for_bit(stop: int) -> None:
    whole = evolution()
    whole.run(score)
    first = evolution()
    told = 0
    while told < stop:
        candidate = first.ask()[0]
        first.tell(candidate, score(candidate))
        told += 1
    state = json.loads(json.dumps(first.state_dict(), allow_nan=False))
    second, asked = evolution(), []
    second.load_state_dict(state)
    assert second.state_dict() == first.state_dict()
    second.run(lambda candidate: asked.append(candidate) or score(candidate))
    assert second.state_dict() == whole.state_dict()
    assert asked == [entry.candidate for entry in whole.evaluated[stop:]]
    longer = evolution(max_epoch=9)
    longer.load_state_dict(second.state_dict())
    longer.run(score)
    assert longer.evaluated[:96] == whole.evaluated
    assert len(longer.evaluated) == 108


def test_the_seed_decides() -> None:
    runs = [evolution(seed=seed) for seed in (1, 1, 2)]
    best = [run.run(score) for run in runs]
    assert runs[0].evaluated == runs[1].evaluated
    assert runs[0].evaluated[:12] != runs[2].evaluated[:12]
    assert best[0] == best[1]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'seed': 5}, 'with seed=5, as here, but got one with 0'),
        ({'num_mutation': 4}, 'with num_mutation=4, as here, but got one with 5'),
        ({'constraints': {'flops': 9}}, r"constraints=\{'flops': \[0.0, 9.0\]\}.* with \{\}"),
    ],
)
def test_a_state_of_other_options(change: dict[str, Any], message: str) -> None:
    state = evolution().state_dict()
    with pytest.raises(ConfigError, match=message):
        evolution(**change).load_state_dict(state)


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    ours = evolution()
    for candidate in ours.ask()[:3]:
        ours.tell(candidate, score(candidate))
    state = ours.state_dict()
    other = {**state, 'evaluated': [{**state['evaluated'][0], 'candidate': [9] * LENGTH}]}
    with pytest.raises(ConfigError, match=r'scored \[9, .* not asked for in its generation'):
        ours.load_state_dict(other)
    assert ours.state_dict() == state


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ([], r'state of an Evolution with `options`, but got .*list'),
        ({'options': 3}, '`options` of the state .* a dict, but got 3'),
        ({'epoch': 'x'}, "`epoch` of the saved state .* an int of at least 0, but got 'x'"),
        ({'epoch': True}, '`epoch` .* an int of at least 0, but got True'),
        ({'epoch': 2}, 'all scores of 2 generations, but 0 of them are whole'),
        ({'evaluated': {}}, r'`evaluated` .* a list, but got \{\}'),
        ({'evaluated': [3]}, r'with `evaluated\[0\].epoch`, but got .*int'),
        ({'evaluated': [{'score': 1}]}, r'with `evaluated\[0\].epoch`, but got .*one of score'),
        ({'score': 'x'}, r"`evaluated\[0\].score` .* a number, but got 'x'"),
        ({'score': float('nan')}, r'`evaluated\[0\].score` .* finite, but got nan'),
        ({'score': True}, 'a number, but got True'),
        ({'costs': [1]}, r'`evaluated\[0\].costs` .* a dict, but got \[1\]'),
        ({'costs': {'flops': 1}}, r"with the costs \{'flops': 1\}, which are"),
        ({'candidate': object}, 'none of its candidates: TypeError'),
        ({'candidate': None}, 'scored None .* not asked for in its generation'),
        ({'entry epoch': 1}, 'in generation 1, which was not asked for'),
        ({'entry epoch': -1}, r'`evaluated\[0\].epoch` .* at least 0, but got -1'),
        ('twice', 'not asked for in its generation'),
    ],
)
def test_fields_of_a_state(change: Any, message: str) -> None:
    ours = evolution()
    for candidate in ours.ask()[:3]:
        ours.tell(candidate, score(candidate))
    state = ours.state_dict()
    broken: Any = json.loads(json.dumps(state))
    first = broken['evaluated'][0]
    if change == 'twice':
        broken['evaluated'].append(first)
    elif isinstance(change, list):
        broken = change
    else:
        for key, value in change.items():
            (broken if key in state else first)[key.removeprefix('entry ')] = value
    with pytest.raises(ConfigError, match=message):
        ours.load_state_dict(broken)
    assert ours.state_dict() == state
