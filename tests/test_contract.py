"""What every mutator promises; one that is registered joins without a new line here.

So do the checks of copies, moves and releases in tests/mutators/test_mutator_state.py,
and those of the mutables in tests/mutables/test_mutable_contract.py.
"""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
import toys
from torch import nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import InputError, SubnetError
from mmrazor_mutators.mutables import find_mutables

every = pytest.fixture(toys.mutator_of, params=toys.EVERY_MUTATOR, name='every')
learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, 3, dtype=torch.float64)


def parameters_of(module: nn.Module) -> set[int]:
    return {parameter.data_ptr() for parameter in module.parameters()}


def assert_same_values(first: nn.Module, other: nn.Module, x: Any) -> None:
    for mode in (True, False):
        assert_close(first.train(mode)(x), other.train(mode)(x), rtol=0, atol=0)


@pytest.mark.parametrize('node_has_param', [False, True])
def test_forward_and_gradients_are_those_of_the_mixture(
    learning: str, node_has_param: bool, x: torch.Tensor
) -> None:
    supernet, mutator = toys.prepared(learning, toys.ToySupernet(node_has_param=node_has_param))
    parameters = toys.logits_and_weights(supernet, mutator)
    reached = set()
    for seed in range(16):  # A path that is drawn may leave spaces out; not in every draw.
        out = toys.run(supernet, x, seed=seed)
        expected = toys.naive_forward(supernet, x, toys.naive_mixtures(mutator, seed))
        assert_close(out, expected)
        of_out, of_expected = (
            torch.autograd.grad(y.square().sum(), parameters, allow_unused=True)
            for y in (out, expected)
        )
        for mine, naive in zip(of_out, of_expected, strict=True):
            assert (mine is None) == (naive is None)
            if mine is not None:
                assert_close(mine, naive)
        of_spaces = zip(mutator.arch_params, of_out, strict=False)
        reached |= {space_id for space_id, g in of_spaces if g is not None and g.any()}
    assert reached == set(mutator.arch_params)
    assert ('node' in reached) == node_has_param


def test_a_found_subnet_survives_a_file(learning: str, tmp_path: Any) -> None:
    supernet, mutator = toys.prepared(learning)
    subnet = mutator.search_subnet()
    mm.dump_subnet(subnet, tmp_path / 'subnet.yaml')
    assert mm.load_subnet(tmp_path / 'subnet.yaml') == subnet
    for space_id, choice in subnet.items():
        space = mutator.search_spaces[space_id]
        # A threshold may leave a node fewer inputs, but always one.
        least = 1 if hasattr(mutator, 'threshold') else space['num_chosen']
        assert least <= len(choice['chosen']) <= space['num_chosen']
        assert set(choice['chosen']) <= set(space['choice_names']) - {'none'}
    kept = set(subnet['node']['chosen'])
    assert set(subnet) == {'widen', 'shared', 'node'} | {f'node_{name}' for name in kept}
    mutator.deploy_subnet(supernet, mm.load_subnet(tmp_path / 'subnet.yaml'))
    assert {(m.space_id, m.choice_names) for m in find_mutables(supernet)} == {
        (sid, tuple(sorted(choice['chosen']))) for sid, choice in subnet.items()
    }


def test_deploy_equals_export(every: str, x: torch.Tensor) -> None:
    supernet, mutator = toys.prepared(every)
    for seed in range(3):
        subnet = mutator.random_subnet(seed)
        net = mutator.export_subnet(supernet, subnet)
        deployed, twin = copy.deepcopy((supernet, mutator))
        twin.deploy_subnet(deployed, subnet)
        assert_same_values(net, deployed, x)
        chosen = {sid: choice['chosen'][0] for sid, choice in subnet.items()}
        backbone = supernet.backbone
        a = backbone.widen.choices[chosen['widen']](x)
        b = backbone.first.choices[chosen['shared']](a)
        inputs = {'p0': a, 'p1': b, 'p2': backbone.second.choices[chosen['shared']](b)}
        branches = [
            backbone.node.choices[name][0].choices[chosen[f'node_{name}']](inputs[name])
            for name in subnet['node']['chosen']
        ]
        assert_close(net.train()(x), supernet.head(sum(branches)))


def test_an_exported_network_is_plain(every: str, x: torch.Tensor) -> None:
    supernet, mutator = toys.prepared(every)
    subnet = mutator.random_subnet(1)
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    net = mutator.export_subnet(supernet, subnet)
    forbidden = (mm.MutableModule, mm.Placeholder, mm.BaseMutator)
    assert not [type(m).__name__ for m in net.modules() if isinstance(m, forbidden)]
    assert not [m for m in net.modules() if m._forward_hooks or m._forward_pre_hooks]
    deployed, twin = copy.deepcopy((supernet, mutator))
    twin.deploy_subnet(deployed, subnet)
    weights = [p.detach() for p in net.parameters()]
    alive = [p.detach() for p in deployed.parameters()]
    assert 0 < len(weights) < len(list(supernet.parameters()))
    assert [w.sum() for w in weights] == [w.sum() for w in alive]
    assert not parameters_of(net) & parameters_of(supernet)
    size = io.BytesIO(), io.BytesIO()
    torch.save(net, size[0])
    torch.save(supernet, size[1])
    assert size[0].tell() < size[1].tell()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert_close(dict(supernet.state_dict()), before, rtol=0, atol=0)


def test_a_wrong_subnet_changes_nothing(every: str) -> None:
    supernet, mutator = toys.prepared(every)
    subnet = {**mutator.random_subnet(1), 'widen': {'chosen': ['lineal']}}
    before = [str(supernet), [list(m.__dict__) for m in supernet.modules()]]
    for act in (mutator.deploy_subnet, mutator.export_subnet):
        with pytest.raises(SubnetError, match=r"'widen'.*'lineal'.*mean 'linear'"):
            act(supernet, subnet)
        assert [str(supernet), [list(m.__dict__) for m in supernet.modules()]] == before


def test_epochs(learning: str) -> None:
    mutator = toys.build_mutator(learning)
    for epoch in range(3):
        mutator.on_epoch(epoch, max_epochs=3)
    for epoch in (-1, 3):
        with pytest.raises(InputError, match=f'from 0 to 2.*max_epochs=3, but got {epoch}'):
            mutator.on_epoch(epoch, max_epochs=3)
    assert (mutator.epoch, mutator.max_epochs) == (2, 3)


def test_regularization_is_a_scalar_and_part_of_the_objective(learning: str) -> None:
    _, mutator = toys.prepared(learning)
    penalty, loss = mutator.regularization(), torch.tensor(2.5, dtype=torch.float64)
    assert penalty.shape == ()
    assert_close(mutator.arch_objective(loss), loss + penalty)


def test_random_subnets_are_uniform(every: str) -> None:
    _, mutator = toys.prepared(every)
    draws = 1200
    counts: dict[tuple[str, str], int] = {}
    seen: dict[str, int] = {}
    state = torch.get_rng_state()
    for seed in range(draws):
        subnet = mutator.random_subnet(seed)
        for space_id, choice in subnet.items():
            seen[space_id] = seen.get(space_id, 0) + 1
            for name in choice['chosen']:
                counts[space_id, name] = counts.get((space_id, name), 0) + 1
    assert mutator.random_subnet(7) == mutator.random_subnet(7)
    assert torch.equal(torch.get_rng_state(), state)
    for space_id, space in mutator.search_spaces.items():
        names = [n for n in space['choice_names'] if n not in mutator.ignore_choices]
        p = space['num_chosen'] / len(names)
        error = (p * (1 - p) / seen[space_id]) ** 0.5
        for name in names:
            assert abs(counts[space_id, name] / seen[space_id] - p) < 4.5 * error
    assert not [key for key in counts if key[1] in mutator.ignore_choices]
