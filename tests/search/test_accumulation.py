"""Micro-batches in a step are worth the batch that they make up together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from looks import counted
from test_search_distributed import batches, outcome, small_search
from torch import nn
from torch.testing import assert_close
from toy_searches import HYPERGRADIENTS, assert_same_state

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, InputError
from mmrazor_mutators.search.hypergradients.micro_batches import grouped

SIZES = {2: [5, 3], 3: [1, 4, 3]}


def in_parts(count: int) -> list[Any]:
    """Return the same batches in parts of unequal sizes."""
    return [
        [*zip(*(tensor.split(SIZES[count]) for tensor in batch), strict=True)]
        for batch in batches()
    ]


def assert_worth_the_whole(count: int, *args: Any, seed: int = 0, **kwargs: Any) -> None:
    whole = small_search(*args, grad_clip=0.1, **kwargs)
    parts = small_search(*args, grad_clip=0.1, accumulate=count, **kwargs)
    for _ in range(2):
        logs = []
        for search, pair in ((whole, batches()), (parts, in_parts(count))):
            torch.manual_seed(seed)
            logs.append(search.step(*pair))
        assert_close(logs[1], logs[0], rtol=1e-9, atol=1e-10)
        seed += 1
    # The finite difference divides rounding errors by its radius.
    assert_same_state(outcome(parts), outcome(whole), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize('name', HYPERGRADIENTS)
@pytest.mark.parametrize('count', SIZES)
def test_each_hypergradient(name: str, count: int) -> None:
    assert_worth_the_whole(count, hypergradient=name)


def test_it_is_not_the_mean_of_unequal_parts() -> None:
    """The neighbour that would pass if sizes were left out: each part counts alike."""
    whole = small_search()
    whole.step(*batches())
    wrong = small_search(accumulate=2)
    wrong.size_of = lambda batch: 1  # type: ignore[method-assign]
    wrong.step(*in_parts(2))
    ours, expected = outcome(wrong)['grads'][0], outcome(whole)['grads'][0]
    assert (ours - expected).abs().max() > 1e-4


@pytest.mark.parametrize('name', HYPERGRADIENTS)
@pytest.mark.parametrize('seed', [0, 3])
def test_all_parts_draw_one_path(name: str, seed: int) -> None:
    assert_worth_the_whole(2, 'GDASMutator', name, seed=seed)


def test_single_level() -> None:
    assert_worth_the_whole(2, 'SNASMutator', single_level=True)


def test_a_step_without_the_architecture() -> None:
    search, whole = small_search(arch_interval=2, accumulate=2), small_search(arch_interval=2)
    search.step(*in_parts(2))
    whole.step(*batches())
    assert 'arch_loss' not in search.step(in_parts(2)[0])
    whole.step(batches()[0])
    assert_same_state(outcome(search), outcome(whole), rtol=1e-9, atol=1e-10)


def test_it_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    search = small_search(accumulate=2)
    pair = in_parts(2)
    search.step(*pair)
    with counted(monkeypatch) as seen:
        search.step(*pair)
    assert seen == ['tolist']


@pytest.mark.parametrize('adversarial', ['random', 'adversarial'])
def test_with_perturbed_weights(adversarial: str) -> None:
    def built(**kwargs: Any) -> Any:
        torch.manual_seed(0)
        choices = {'linear': nn.Linear(3, 2), 'tanh': nn.Sequential(nn.Linear(3, 2), nn.Tanh())}
        supernet = mm.DifferentiableOP(space_id='s', choices=choices)
        kind = {'random': 'RandomPerturbation', 'adversarial': 'AdversarialPerturbation'}
        mutator = mm.build_mutator(
            {'type': 'DartsMutator', 'extensions': [{'type': kind[adversarial]}]}
        )
        mutator.prepare_from_supernet(supernet)
        mutator.on_epoch(5, 10)
        return mm.BilevelSearch(
            supernet.double(),
            mutator.double(),
            nn.functional.cross_entropy,
            torch.optim.SGD(supernet.parameters(), lr=0.1),
            torch.optim.Adam(mutator.arch_params.values(), lr=0.1),
            **kwargs,
        )

    whole, parts = built(), built(accumulate=2)
    for search, pair in ((whole, batches()), (parts, in_parts(2))):
        torch.manual_seed(1)
        search.step(*pair)
    assert_same_state(outcome(parts), outcome(whole), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ('given', 'came'),
    [
        (batches()[0], '2 of Tensor'),
        ([batches()[0]], '1 of tuple'),
        (torch.zeros(2, 3), 'Tensor'),
    ],
)
def test_batches_that_do_not_fit(given: Any, came: str) -> None:
    search = small_search(accumulate=2)
    before = outcome(search)['weights']
    with pytest.raises(InputError, match=f'`train_batch` to be a list of 2 .* got {came}'):
        search.step(given, in_parts(2)[1])
    with pytest.raises(InputError, match=f'`arch_batch` to be a list of 2 .* got {came}'):
        search.step(in_parts(2)[0], given)
    assert_same_state(outcome(search)['weights'], before)


def test_parts_without_samples() -> None:
    empty = [batch[:0] for batch in batches()[0]]
    with pytest.raises(InputError, match='`train_batch` to have samples'):
        small_search(accumulate=2).step([empty, empty], in_parts(2)[1])


@pytest.mark.parametrize('wrong', [0, 1.5, '2'])
def test_counts_that_are_none(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=f'`accumulate` .*{wrong!r}'):
        small_search(accumulate=wrong)


def test_groups() -> None:
    assert [*grouped(range(7), 3)] == [[0, 1, 2], [3, 4, 5]]
    assert [*grouped(range(3), 1)] == [0, 1, 2]
    assert [*grouped([], 2)] == []
