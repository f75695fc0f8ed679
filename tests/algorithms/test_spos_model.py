"""SPOS as a model: one path a step, scores of paths, retraining."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, InputError, SubnetError
from mmrazor_mutators.mutables import find_mutables

NB201 = {
    'type': 'NasBench201Supernet',
    'in_channels': 1,
    'num_classes': 4,
    'base_channels': 4,
    'num_cells': 1,
}


def spos(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    return mm.SPOS(NB201, {'type': 'OneShotMutator'}, input_shape=(1, 8, 8), **kwargs)


def batches(count: int = 2, size: int = 12) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    return [
        [
            torch.randn(size, 1, 8, 8, generator=generator) + 1,
            torch.randint(4, (size,), generator=generator),
        ]
        for _ in range(count)
    ]


def test_a_step_is_that_of_the_drawn_path() -> None:
    model = spos()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    wrapper = OptimWrapper(optimizer)
    data = batches(3)
    drawn = set()
    for batch in data:
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        torch.manual_seed(len(drawn))
        model.train_step(batch, wrapper)
        torch.manual_seed(len(drawn))
        path = model.mutator.masks_to_subnet(model.mutator.sample_subnet())
        drawn.add(str(path))
        active = {m.space_id: m.active_names for m in find_mutables(model.architecture)}
        assert {s: list(names) for s, names in active.items()} == {
            s: entry['chosen'] for s, entry in path.items()
        }
        dead = [
            name
            for name, _ in model.named_parameters()
            for space_id, entry in path.items()
            if f'{space_id}.choices.' in name
            and name.split(f'{space_id}.choices.')[1].split('.')[0] not in entry['chosen']
        ]
        assert dead
        moved = [
            name for name, p in model.named_parameters() if not torch.equal(p, before[name])
        ]
        assert not {*moved} & {*dead}
        assert {*moved} >= {'architecture.head.classifier.weight'} or moved
    assert len(drawn) == 3


def test_the_step_equals_one_of_the_exported_network() -> None:
    model = spos()
    batch = batches(1)[0]
    torch.manual_seed(7)
    path = model.mutator.masks_to_subnet(model.mutator.sample_subnet())
    net = model.mutator.export_subnet(model.architecture, path)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    torch.manual_seed(7)
    logs = model.train_step(batch, wrapper)
    loss = nn.functional.cross_entropy(net.train()(batch[0]), batch[1])
    loss.backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert_close(logs['loss'].detach(), loss.detach())
    stepped = model.mutator.export_subnet(model.architecture, path)
    assert_close(dict(stepped.state_dict()), dict(net.state_dict()))


@pytest.mark.parametrize('by_batch', [False, True])
def test_scores_are_those_of_the_exported_network(by_batch: bool) -> None:
    model = spos(bn_training_mode=by_batch)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.2))
    for batch in batches(6):
        model.train_step(batch, wrapper)
    before = copy.deepcopy(model.state_dict())
    data, calibration = batches(3, size=31), batches(2, size=16)
    subnet = model.mutator.random_subnet(3)
    scores = []
    for used in ([], calibration):
        net = model.mutator.export_subnet(model.architecture, subnet)
        if used and not by_batch:
            torch.optim.swa_utils.update_bn([b[0] for b in used], net)
        net.train(by_batch)
        right = sum(int((net(x).argmax(1) == y).sum()) for x, y in data)
        scores.append(model.score(subnet, iter(data), iter(used)))
        assert_close(scores[-1], 100 * right / 93)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert (scores[0] == scores[1]) == by_batch
    assert model.training
    assert {m.space_id: list(m.active_names) for m in find_mutables(model)} == {
        s: e['chosen'] for s, e in subnet.items()
    }


def test_statistics_of_the_batch_are_not_remembered() -> None:
    model = spos(bn_training_mode=True).eval()
    model.mutator.set_subnet(model.mutator.random_subnet(0))
    before = copy.deepcopy(model.state_dict())
    images, labels = batches(1)[0]
    outputs = model(images)
    for other in (
        torch.stack(model(images, mode='predict')),
        torch.stack(model.val_step([images, labels])),
    ):
        assert_close(other, outputs)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    # The statistics are those of the batch: other images change the scores of the first.
    assert not torch.allclose(model(torch.cat([images, 9 * images]))[:12], outputs)
    plain = spos().eval()
    plain.mutator.set_subnet(plain.mutator.random_subnet(0))
    assert_close(plain(torch.cat([images, 9 * images]))[:12], plain(images))


def test_what_cannot_be_scored() -> None:
    model = spos()
    subnet = model.mutator.random_subnet(0)
    with pytest.raises(InputError, match='at least one batch'):
        model.score(subnet, [])
    with pytest.raises(InputError, match='images and their class indices'):
        model.score(subnet, [(torch.randn(2, 1, 8, 8), torch.randn(2, 4))])
    with pytest.raises(SubnetError, match="a space 'nope'"):
        model.score({**subnet, 'nope': {'chosen': ['a']}}, batches())


def test_the_network_found_is_trained_and_evaluated_as_any() -> None:
    subnet = spos().mutator.random_subnet(2)
    model = spos(retraining=True, mutable_cfg=subnet, bn_training_mode=True)
    assert not model.searching
    assert next(find_mutables(model), None) is None
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    logs = model.train_step(batches(1)[0], wrapper)
    assert logs['loss'] > 0
    # The statistics of a batch are for the supernet alone.
    assert not any(norm.training for norm in model.eval().modules())
    with pytest.raises(ConfigError, match='no evolution without'):
        model.build_evolution()


def test_an_evolution_over_paths_meets_its_constraints() -> None:
    model = spos()
    flops = sorted(
        model.get_subnet_costs(model.mutator.random_subnet(s))['flops'] for s in range(9)
    )
    evolution = model.build_evolution(
        seed=4,
        candidate_pool_size=6,
        num_mutation=3,
        num_crossover=2,
        candidate_top_k=3,
        max_epoch=3,
        constraints={'flops': (flops[2], flops[6])},
    )
    best = evolution.run(lambda subnet: model.get_subnet_costs(subnet)['params'])
    assert len(evolution.evaluated) == 18
    for entry in evolution.evaluated:
        model.mutator.set_subnet(entry.candidate)
        assert model.get_subnet_flops() == entry.costs['flops']
        assert flops[2] <= entry.costs['flops'] <= flops[6]
    assert best.score == max(entry.costs['params'] for entry in evolution.evaluated)
    assert len({str(entry.candidate) for entry in evolution.evaluated}) == 18


def test_paths_that_differ_in_dead_spaces_are_the_same() -> None:
    supernet = {
        'type': 'DartsSupernet',
        'in_channels': 1,
        'num_classes': 2,
        'base_channels': 4,
        'num_layers': 3,
        'num_nodes': 2,
    }
    model = mm.SPOS(supernet, {'type': 'OneShotMutator'}, input_shape=(1, 8, 8))
    evolution = model.build_evolution()
    subnet = model.mutator.masks_to_subnet(model.mutator.sample_subnet())
    live = model.mutator.live_part(subnet)
    dead = [s for s in subnet if s not in live]
    assert dead
    names = model.mutator.search_spaces[dead[0]]['choice_names']
    twins = [{**subnet, dead[0]: {'chosen': [name]}} for name in names]
    assert len({evolution.key_of(twin) for twin in twins}) == 1
    alive = next(s for s in live if model.mutator.search_spaces[s]['num_chosen'] == 1)
    others = [{**subnet, alive: {'chosen': [name]}} for name in names]
    assert len({evolution.key_of(other) for other in others}) == len(names)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (
            {'mutator': {'type': 'DartsMutator'}},
            'to be an OneShotMutator, but got DartsMutator',
        ),
        ({'input_shape': (8, 8)}, r'`input_shape` to be \(C, H, W\), but got \(8, 8\)'),
        ({'input_shape': (1, 8, 0)}, r'but got \(1, 8, 0\)'),
        ({'retraining': True}, 'needs to know the network'),
        (
            {'retraining': True, 'mutator': None, 'mutable_cfg': {'a': {'chosen': ['b']}}},
            'names a network of a search space',
        ),
        ({'pruner': 5}, '`pruner` to be None.*got 5'),
    ],
)
def test_arguments_that_contradict_each_other(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mm.SPOS(**{'architecture': NB201, 'mutator': {'type': 'OneShotMutator'}, **kwargs})


def test_a_pair_of_batches_is_no_batch() -> None:
    model = spos()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(InputError, match='a pair of list and list; use OneShotTrainLoop'):
        model.train_step(batches(2), wrapper)


def test_a_step_of_the_old_kind_leaves_the_step_to_its_caller() -> None:
    model = spos()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    outputs = model.train_step(
        {'img': batches(1)[0][0], 'gt_label': batches(1)[0][1]}, optimizer
    )
    assert outputs['num_samples'] == 12
    assert_close(outputs['log_vars']['loss'], outputs['loss'].item())
    outputs['loss'].backward()
    names = [n for n, p in model.named_parameters() if p.grad is not None]
    assert 0 < len(names) < len(list(model.parameters()))
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
