"""A search that is saved and loaded goes on as if nothing had happened."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from toy_searches import (
    HYPERGRADIENTS,
    ToySupernet,
    assert_same_state,
    state_of,
    toy_batches,
    toy_search,
)

from mmrazor_mutators.errors import ConfigError

MAX_EPOCHS = 6


def dropout_search(seed: int, **kwargs: Any) -> Any:
    """Return a search in which every pass draws random numbers."""
    torch.manual_seed(seed)
    return toy_search(supernet=ToySupernet(dropout=0.3), seed=seed, grad_clip=1.0, **kwargs)


def run_epochs(search: Any, epochs: range) -> list[dict[str, Any]]:
    """Search on batches that are the same for each epoch, whatever was drawn before."""
    logs = []
    for epoch in epochs:
        search.on_epoch(epoch, MAX_EPOCHS)
        draws = torch.get_rng_state()
        torch.manual_seed(100 + epoch)
        batches = toy_batches(4)
        torch.set_rng_state(draws)
        logs += [search.step(*batches[:2]), search.step(*batches[2:])]
    return logs


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


CASES = [
    *(('DartsMutator', name, torch.optim.SGD) for name in HYPERGRADIENTS),
    ('SNASMutator', 'first_order', torch.optim.AdamW),
    ('SNASMutator', 'exact', torch.optim.SGD),
    ('GDASMutator', 'first_order', torch.optim.SGD),
    ('GDASMutator', 'finite_difference', torch.optim.Adam),
]


@pytest.mark.parametrize(('mutator', 'name', 'optimizer'), CASES)
def test_going_on_is_bit_for_bit_the_same(mutator: str, name: str, optimizer: Any) -> None:
    """Trap: a resume without temperature, random state or optimizer state."""
    options = {'mutator': mutator, 'hypergradient': name, 'weight_optimizer': optimizer}
    search = dropout_search(0, **options)
    run_epochs(search, range(3))
    saved = through_a_file(search.state_dict())
    expected = run_epochs(search, range(3, MAX_EPOCHS))

    # Other numbers everywhere, and as many draws as it likes.
    other = dropout_search(1, **options)
    run_epochs(other, range(1))
    other.load_state_dict(saved)
    assert (other.epoch, other.iteration, other.mutator.epoch) == (2, 6, 2)
    assert_same_state(run_epochs(other, range(3, MAX_EPOCHS)), expected, 'logs')
    assert_same_state(state_of(other), state_of(search))
    assert_same_state(other.state_dict(), search.state_dict())
    assert getattr(other.mutator, 'tau', None) == getattr(search.mutator, 'tau', None)


@pytest.mark.parametrize('mutator', ['SNASMutator', 'GDASMutator'])
def test_going_on_in_the_middle_of_an_epoch(mutator: str) -> None:
    """The temperature is there without another ``on_epoch``, and so is the interval."""
    search = dropout_search(0, mutator=mutator, arch_interval=2)
    run_epochs(search, range(2))
    batches = toy_batches()
    search.step(*batches)
    saved = through_a_file(search.state_dict())
    expected = [search.step(*batches) for _ in range(3)]
    assert ['arch_loss' in logs for logs in expected] == [False, True, False]

    other = dropout_search(1, mutator=mutator, arch_interval=2)
    other.load_state_dict(saved)
    assert other.mutator.tau == search.mutator.tau != search.mutator.tau_max
    assert_same_state([other.step(*batches) for _ in range(3)], expected, 'logs')
    assert_same_state(state_of(other), state_of(search))


def test_the_state_is_a_copy() -> None:
    search = dropout_search(0, mutator='GDASMutator')
    run_epochs(search, range(2))
    state = search.state_dict()
    before = copy.deepcopy(state)
    run_epochs(search, range(2, 4))
    assert_same_state(state, before)
    search.load_state_dict(state)
    run_epochs(search, range(2, 4))
    assert_same_state(state, before)


def test_loading_keeps_every_parameter_the_same_object() -> None:
    """So that optimizers and bound mutables still mean the tensors that are searched."""
    search = dropout_search(0)
    params = [*search.weights, *search.arch_params]
    run_epochs(search, range(1))
    state = search.state_dict()
    run_epochs(search, range(1, 2))
    search.load_state_dict(state)
    after = [*search.supernet.parameters(), *search.mutator.arch_params.values()]
    assert all(a is b for a, b in zip(after, params, strict=True))
    held = [
        param
        for optimizer in (search.weight_optimizer, search.arch_optimizer)
        for group in optimizer.param_groups
        for param in group['params']
    ]
    assert all(a is b for a, b in zip(held, params, strict=True))


def test_optimizer_state_goes_to_the_tensor_it_came_from() -> None:
    """Trap: ``list(set(params))``, an order of parameters that no second run repeats."""
    search, other = dropout_search(0), dropout_search(1)
    run_epochs(search, range(2))
    other.load_state_dict(through_a_file(search.state_dict()))
    pairs = [
        *zip(search.supernet.parameters(), other.supernet.parameters(), strict=True),
        *zip(
            search.mutator.arch_params.values(),
            other.mutator.arch_params.values(),
            strict=True,
        ),
    ]
    for ours, theirs in pairs:
        optimizers = ('weight_optimizer', 'arch_optimizer')
        states = [
            {**getattr(s, o).state.get(param, {})}
            for s, param in ((search, ours), (other, theirs))
            for o in optimizers
        ]
        assert states[0] or states[1]
        assert_same_state(states[2:], states[:2])


@pytest.mark.parametrize('key', ['supernet', 'mutator', 'arch_optimizer', 'rng', 'iteration'])
def test_a_state_that_lacks_something(key: str) -> None:
    search = dropout_search(0)
    state = search.state_dict()
    run_epochs(search, range(1))
    before = state_of(search)
    del state[key]
    with pytest.raises(ConfigError, match=f'the state of a BilevelSearch, but it lacks {key}$'):
        search.load_state_dict(state)
    assert_same_state(state_of(search), before)


def test_a_checkpoint_of_something_else() -> None:
    search = dropout_search(0)
    with pytest.raises(
        ConfigError, match='lacks supernet, mutator, weight_optimizer, arch_opt'
    ):
        search.load_state_dict(search.supernet.state_dict())


def test_a_state_of_another_supernet() -> None:
    """What fits is not loaded either: a half-loaded search is no search."""
    search = dropout_search(0)
    run_epochs(search, range(1))
    wider = ToySupernet()
    wider.head = torch.nn.Linear(4, 5)
    state = toy_search(supernet=wider, seed=1).state_dict()
    before = state_of(search)
    with pytest.raises(ConfigError, match=r'head\.weight'):
        search.load_state_dict(state)
    assert_same_state(state_of(search), before)


def test_a_state_of_optimizers_with_other_groups() -> None:
    """As when the config was changed in between; nothing is loaded then."""
    state = dropout_search(0).state_dict()
    search = dropout_search(1)
    params = list(search.supernet.parameters())
    search.weight_optimizer = torch.optim.SGD(
        [{'params': params[:3]}, {'params': params[3:]}], lr=0.1
    )
    before = state_of(search)
    with pytest.raises(ConfigError, match='weight_optimizer'):
        search.load_state_dict(state)
    assert_same_state(state_of(search), before)
