"""Mistakes in extensions that change what a search finds, and that no error would tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import skip_toys
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.extensions import perturbation, perturbation_selection


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(12, 3).double(), torch.randn(12, 2).double()


def search_of(extension: dict[str, Any], supernet: nn.Module | None = None) -> Any:
    supernet, mutator = toys.prepared('DartsMutator', supernet, extensions=[extension])
    search = mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.mse_loss,
        torch.optim.SGD(supernet.parameters(), lr=0.1),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.05),
        arch_start_epoch=1,
    )
    search.on_epoch(0, 2)
    return search


def test_the_attack_begins_at_a_random_point() -> None:
    """Trap: from the weights themselves, every attack of a batch is the same one."""
    search = search_of({'type': 'AdversarialPerturbation', 'epsilon_min': 0.1})
    mixed = []
    plain = search.compute_loss

    def compute_loss(given: Any) -> Tensor:
        loss = plain(given)
        mixed.append({k: m.weights.detach() for k, m in search.mutator.mixtures.items()})
        return loss

    search.compute_loss = compute_loss
    train_batch, draws = batch(), torch.get_rng_state()
    search.step(train_batch)
    torch.set_rng_state(draws)
    for space_id, logits in search.mutator.arch_params.items():
        noise = torch.empty_like(logits).uniform_(-0.1, 0.1)
        start = (logits.detach().softmax(0) + noise).clamp(0, 1)
        assert_close(mixed[0][space_id], start / start.sum())


class Counter(nn.Module):
    """Counts its passes, whatever the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('passes', torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return x


def test_the_attack_shows_in_no_buffer() -> None:
    counter = Counter()
    search = search_of(
        {'type': 'AdversarialPerturbation'}, nn.Sequential(toys.ToySupernet(), counter)
    )
    search.step(batch())
    assert counter.passes == 1


PUBLISHED: dict[str, dict[str, Any]] = {
    'RandomPerturbation': {'epsilon_min': 0.03, 'epsilon_max': 0.3},
    'AdversarialPerturbation': {'epsilon_min': 0.03, 'epsilon_max': 0.3, 'steps': 7},
    'AuxiliarySkip': {'start': 1.0, 'until': None, 'names': ('skip_connect',)},
    'BetaDecay': {'min_weight': 0.0, 'max_weight': 50.0},
    'L2Regularizer': {'start': 1e-3, 'end': 1e-3},
    'HessianEarlyStopping': {'window': 5, 'delta': 4, 'factor': 1.3, 'start_epoch': 10},
    'SkipEarlyStopping': {'max_skips': 2, 'names': ('skip_connect',), 'prefix': 'normal'},
    'OperationFreezing': {'threshold': 0.4, 'window': 20, 'ignore_choices': ('skip_connect',)},
    'PerturbationSelection': {
        'tune_epochs': 5,
        'metric': 'accuracy',
        'order': 'random',
        'spaces_per_round': 1,
        'lr_factor': 0.1,
        'tune_architecture': True,
    },
    'SkipDropout': {'decay': 0.2, 'names': ('skip_connect',)},
    'SkipLimit': {'max_skips': 2, 'names': ('skip_connect',), 'prefix': 'normal'},
    'ThresholdPruning': {
        'start_threshold': 0.4,
        'end_threshold': 0.4,
        'start_temperature': 1.6,
        'decay': 0.95,
        'grace': 1.0,
    },
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_defaults_are_the_published_ones(name: str) -> None:
    """An extension that is not told otherwise is the authors'."""
    built = mm.build_extension({'type': name})
    assert {key: getattr(built, key) for key in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize(
    ('form', 'options'),
    [
        ('linear', {'ref': 10.0, 'lam': 0.1}),
        ('log_product', {'ref': 10.0, 'alpha': 0.2, 'beta': 0.3}),
        ('fbnet', {'alpha': 0.2, 'beta': 0.6}),
        ('fbnet_sum', {'alpha': 0.2, 'beta': 0.6}),
    ],
)
def test_costs_count_as_in_the_papers(form: str, options: dict[str, float]) -> None:
    given = {'ref': 10.0} if 'ref' in options else {}
    built = mm.build_extension(
        {'type': 'ExpectedCost', 'costs': {'a': 2.0}, 'form': form, **given}
    )
    assert built.options == options
    assert built.expectation == 'probs'


def test_skips_of_reduction_cells_do_not_end_a_search() -> None:
    extension = {'type': 'SkipEarlyStopping', 'max_skips': 1}
    _, mutator = skip_toys.prepared(extension)
    for space_id in ('normal_s', 'normal_p0', 'normal_p1', 'normal_p2', 'reduce'):
        skip_toys.set_logits(mutator, space_id, skip_connect=-9.0, conv=9.0)
    (stopping,) = mutator.extensions
    assert stopping.count(mutator) == 0
    skip_toys.set_logits(mutator, 'reduce', skip_connect=99.0)
    assert mutator.search_subnet()['reduce']['chosen'] == ['skip_connect']
    assert stopping.count(mutator) == 0
    # Each space counts once, however many mutables share it.
    skip_toys.set_logits(mutator, 'normal_s', skip_connect=99.0)
    assert stopping.count(mutator) == 1


@pytest.mark.parametrize('metric', ['accuracy', 'loss'])
def test_the_selection_looks_at_the_half_that_is_not_trained_on(metric: str) -> None:
    """Trap: on the training half, what was learnt by heart is missed most."""
    choices = {'heart': nn.Linear(3, 3), 'reason': nn.Linear(3, 3)}
    _, mutator = toys.prepared(
        supernet=mm.DifferentiableOP(space_id='a', choices=choices),
        extensions=[{'type': 'PerturbationSelection', 'tune_epochs': 0, 'metric': metric}],
    )
    supernet = mutator.search_spaces['a']['modules'][0]
    search = mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.1),
        torch.optim.Adam(mutator.arch_params.values()),
    )
    with torch.no_grad():
        mutator.arch_params['a'].copy_(torch.tensor([0.1, 0.0]))
        x = torch.randn(40, 3).double()
        train, arch = ([(x, choice(x).argmax(1))] for choice in choices.values())
    search.finish(train, arch)
    assert mutator.search_subnet()['a']['chosen'] == ['reason']


def test_the_pruning_threshold_counts_the_choices_of_the_beginning() -> None:
    """Trap: with fewer choices the threshold rises, and drops the next ones by itself."""
    extension = {'type': 'ThresholdPruning', 'threshold': 1.0, 'temperature': 0.5}
    _, mutator = skip_toys.prepared(extension)
    probs = torch.tensor([0.1, 0.27, 0.3, 0.33], dtype=torch.float64)
    with torch.no_grad():
        mutator.arch_params['reduce'].copy_(0.5 * probs.log())
    mutator.on_epoch(0, 100)
    assert mutator.kept_choices('reduce') == skip_toys.NAMES[1:]
    # Of three they have 0.3, 0.33 and 0.37: over 1 / 4, though not all over 1 / 3.
    mutator.on_epoch(1, 100)
    assert mutator.kept_choices('reduce') == skip_toys.NAMES[1:]


def test_a_half_filled_window_of_agreements_is_saved() -> None:
    """Trap: a sum that begins anew is divided by the old count, and everything freezes."""
    extension = {'type': 'OperationFreezing', 'window': 5, 'ignore_choices': ()}
    search = search_of(extension)
    for _ in range(3):
        search.step(batch(), batch())
    state = search.mutator.extensions[0].get_extra_state()
    assert set(state['counts'].values()) == {3}
    assert state['sums'].keys() == state['counts'].keys()
    again = search_of(extension)
    again.load_state_dict(search.state_dict())
    assert again.mutator.extensions[0].get_extra_state() == state


def test_the_last_epoch_is_looked_at_and_does_not_roll_back() -> None:
    """As in the authors' code, the last epoch ends the search in any case."""
    extension = {'type': 'HessianEarlyStopping', 'window': 1, 'delta': 1, 'start_epoch': 0}
    search = search_of({**extension, 'interval': 3})
    (stopping,) = search.mutator.extensions
    values = iter([1.0, 1.0, 9.0])
    stopping.evaluate = lambda *_: next(values)
    search.arch_start_epoch = 0
    for epoch in range(6):
        search.on_epoch(epoch, 6)
        search.step(batch(), batch())
    logits = {k: p.detach().clone() for k, p in search.mutator.arch_params.items()}
    search.finish([batch()], [batch()])
    assert stopping.epochs == [0, 3, 5]
    assert stopping.eigenvalues == [1.0, 1.0, 9.0]  # Over the factor, but it is the end.
    assert not search.stopped
    assert_close(dict(search.mutator.arch_params), logits, rtol=0, atol=0)


@pytest.mark.parametrize('name', ['RandomPerturbation', 'AdversarialPerturbation'])
def test_ranks_perturb_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: each rank steps the weights under a mixture of its own."""
    asked = []

    @contextmanager
    def same_draws(device: torch.device) -> Iterator[None]:
        asked.append(device)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            yield

    averaged: list[float] = []
    monkeypatch.setattr(perturbation, 'same_draws', same_draws)
    monkeypatch.setattr(perturbation, 'average_', lambda losses: averaged.extend(losses))
    found = []
    search = search_of({'type': name})
    search.supernet.eval()  # No statistics that differ from pass to pass.
    (extension,) = search.mutator.extensions
    given = batch()
    for seed in (1, 2):
        torch.manual_seed(seed)
        with extension.around_weight_step(search, given, None), torch.no_grad():
            search.supernet(given[0])
        found.append({k: m.weights for k, m in search.mutator.mixtures.items()})
    assert_close(found[0], found[1], rtol=0, atol=0)
    assert len(asked) == 2
    # Whether the attack has raised the loss is a matter of all images.
    assert len(averaged) == (4 if name == 'AdversarialPerturbation' else 0)


@pytest.mark.parametrize('metric', ['loss', 'accuracy'])
def test_ranks_select_by_all_images(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    search = skip_toys.search_over(*skip_toys.prepared())
    selection = mm.build_extension({'type': 'PerturbationSelection', 'metric': metric})
    halves = [[skip_toys.batch(5)], [skip_toys.batch(3)]]
    bad = [selection.badness(search, half) for half in halves]

    def average(tensors: list[Tensor]) -> None:
        (ours,) = tensors
        ours.copy_((ours + torch.tensor([3 * bad[1], 3.0])) / 2)

    monkeypatch.setattr(perturbation_selection, 'average_', average)
    expected = (5 * bad[0] + 3 * bad[1]) / 8
    assert selection.badness(search, halves[0]) == pytest.approx(expected)
