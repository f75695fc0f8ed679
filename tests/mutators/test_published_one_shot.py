"""One-shot mutators and mutables of which every method is written as in v0.2.0's source."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import published
import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm

ONE_SHOT = [published.WholeOneShot, published.OneMask]
SUBNET: Any = {'a': {'chosen': ['deep']}, 'b': {'chosen': ['norm']}}


def two_spaces(op: type) -> nn.Sequential:
    return nn.Sequential(*[op(space_id=i, choices=toys.candidates()) for i in 'ab']).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 4, dtype=torch.float64)


@pytest.mark.parametrize('kind', ONE_SHOT)
@pytest.mark.parametrize('op', [mm.OneShotOP, published.OwnMask])
def test_one_shot_paths(kind: Any, op: Any, x: Tensor) -> None:
    supernet, mutator = two_spaces(op), kind()
    mutator.prepare_from_supernet(supernet)
    # Its own `get_random_mask` draws the last choice, 'deep', always.
    last = torch.tensor([0.0, 0.0, 0.0, 1.0])
    path = mutator.sample_subnet()
    assert_close(path, {'a': last, 'b': last})
    assert_close(mutator.mutation(path, 1.0), path)
    assert_close(mutator.crossover(path, path), path)
    mutator.set_subnet(path)
    expected = supernet[1].choices['deep'](supernet[0].choices['deep'](x))
    assert_close(supernet(x), expected, rtol=0, atol=0)
    flags = [
        m.__in_subnet__ for op in supernet for c in op.choices.values() for m in c.modules()
    ]
    assert flags == 2 * [*[False] * 6, *[True] * 4]
    mutator.set_chosen_subnet(path)
    assert mutator.search_subnet() == {'a': {'chosen': ['deep']}, 'b': {'chosen': ['deep']}}
    twin, its_mutator = pickle.loads(pickle.dumps((supernet, mutator)))
    its_mutator.set_subnet(its_mutator.sample_subnet())
    assert_close(twin(x), expected, rtol=0, atol=0)
    mutator.release(supernet)
    mutator.prepare_from_supernet(supernet)
    mutator.deploy_subnet(supernet.eval(), SUBNET)
    assert [op.choice_names for op in supernet] == [('deep',), ('norm',)]
    kept = supernet[0].choices['deep'], supernet[1].choices['norm']
    assert_close(supernet(x), kept[1](kept[0](x)), rtol=0, atol=0)


def test_a_draw_looks_at_the_entry_that_it_is_given() -> None:
    supernet, mutator = two_spaces(mm.OneShotOP), mm.OneShotMutator()
    mutator.prepare_from_supernet(supernet)
    entry = {**mutator.search_spaces['a'], 'space_mask': torch.tensor([0.0, 0.0, 1.0, 0.0])}
    assert mutator.get_random_mask(entry, False).tolist() == [0.0, 0.0, 1.0, 0.0]


class Paths(nn.Module):
    """A classifier of images with two places to choose a kernel."""

    def __init__(self) -> None:
        super().__init__()
        convs = {f'c{k}': nn.Conv2d(3, 3, k, padding=k // 2) for k in (1, 3, 5)}
        ops = [mm.OneShotOP(space_id=f'x.{i}', choices=copy.deepcopy(convs)) for i in (0, 1)]
        self.ops, self.head = nn.Sequential(*ops), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.ops(x).mean((2, 3)))


class Uniform(published.WholeOneShot):
    """Draws each choice with equal chances, from the global generator."""

    @staticmethod
    def get_random_mask(space_info: Any, searching: bool) -> Tensor:  # type: ignore[override]
        space_mask = space_info['space_mask']
        return torch.zeros_like(space_mask).index_fill_(0, torch.multinomial(space_mask, 1), 1)


@pytest.mark.parametrize('kind', [Uniform, *ONE_SHOT])
def test_spos_and_its_evolution_drive_them(kind: Any) -> None:
    pytest.importorskip('mmengine', reason='an evolution counts by mmengine')
    algorithm = mm.build_algorithm(
        {'type': 'SPOS', 'architecture': Paths(), 'mutator': kind(), 'input_shape': (3, 6, 6)}
    )
    batch = {'img': torch.rand(4, 3, 6, 6), 'gt_label': torch.tensor([0, 1, 0, 1])}
    outputs = algorithm.train_step(batch, torch.optim.SGD(algorithm.parameters(), lr=0.1))
    assert outputs['num_samples'] == 4

    def evolve() -> Any:
        torch.rand(1)  # What was drawn before does not count.
        options = {'candidate_pool_size': 3, 'max_epoch': 2, 'num_mutation': 1, 'max_draws': 50}
        evolution = algorithm.build_evolution(seed=5, num_crossover=1, **options)
        return evolution.run(lambda subnet: -algorithm.get_subnet_costs(subnet)['flops'])

    state = torch.get_rng_state()
    best = evolve()
    assert best == evolve()
    torch.set_rng_state(state)
    if kind is not Uniform:
        assert best.candidate == {f'x.{i}': {'chosen': ['c5']} for i in (0, 1)}
    assert algorithm.score(best.candidate, [batch]) in (0.0, 25.0, 50.0, 75.0, 100.0)
    masks = algorithm.mutator.subnet_to_masks(best.candidate)
    algorithm.mutator.set_chosen_subnet(masks)
    assert algorithm.mutator.search_subnet() == best.candidate
