"""Any network becomes a supernet, and its subnets smaller networks with the same outputs."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import networks
import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.mutables import SearchableLayer, find_mutables

FORBIDDEN = (mm.MutableModule, SearchableLayer)

case = pytest.mark.parametrize('name', networks.CASES)


def double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def converted(name: str, mutator: str = 'DartsMutator') -> tuple[nn.Module, Any, Tensor]:
    torch.manual_seed(1)
    chosen = networks.CASES[name]
    model, x = chosen.build().double(), double(chosen.inputs())
    model(x)  # Running statistics of its own.
    supernet = mm.make_searchable(model, chosen.rules(), x)
    built = toys.build_mutator(mutator)
    built.prepare_from_supernet(supernet)
    return supernet, built, x


def one_hot(mutator: Any, subnet: Any) -> dict[str, Tensor]:
    found = {}
    for space_id, space in mutator.search_spaces.items():
        names = space['choice_names']
        chosen = subnet.get(space_id, {'chosen': [names[0]]})['chosen'][0]
        found[space_id] = torch.eye(len(names), dtype=torch.float64)[names.index(chosen)]
    return found


def originals(mutator: Any) -> dict[str, Any]:
    spaces = mutator.search_spaces.items()
    return {sid: {'chosen': [space['modules'][0].original]} for sid, space in spaces}


@case
def test_the_original_is_a_choice_to_the_last_bit(name: str) -> None:
    torch.manual_seed(1)
    chosen = networks.CASES[name]
    model, x = chosen.build(), chosen.inputs()
    model(x)
    plain = copy.deepcopy(model)
    names, parameters = list(model.state_dict()), {id(p) for p in model.parameters()}
    assert mm.make_searchable(model, chosen.rules(), x) is model
    assert {id(p) for p in model.parameters()} >= parameters
    for mode in (True, False):
        torch.manual_seed(2)
        expected = plain.train(mode)(x)
        torch.manual_seed(2)
        assert model.train(mode)(x).equal(expected)
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(model)
    with mutator.mixing(one_hot(mutator, originals(mutator))):
        assert model(x).equal(plain(x))
    with torch.no_grad():  # By logits as well.
        for space_id, space in mutator.search_spaces.items():
            index = space['choice_names'].index(space['modules'][0].original)
            mutator.arch_params[space_id][index] = 1e4
    assert model(x).equal(plain(x))
    mutator.release(model)
    mm.restore_original(model)
    assert list(model.state_dict()) == names
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert not list(find_mutables(model))
    assert model(x).equal(plain(x))


@case
def test_subnets_compute_what_the_supernet_does_and_are_smaller(name: str) -> None:
    supernet, mutator, x = converted(name)
    supernet.eval()
    sizes = []
    for seed in range(6):
        subnet = mutator.random_subnet(seed)
        net = mutator.export_subnet(supernet, subnet)
        with mutator.mixing(one_hot(mutator, subnet)):
            expected = supernet(x)
        assert_close(net(x), expected, rtol=1e-9, atol=1e-9)
        assert not any(
            isinstance(m, (mm.MutableModule, SearchableLayer)) for m in net.modules()
        )
        assert not any('_search_plan' in vars(m) for m in net.modules())
        assert len(pickle.dumps(net)) < len(pickle.dumps(supernet))
        sizes.append(sum(p.numel() for p in net.parameters()))
        net.train()(x).sum().backward()
    assert len(set(sizes)) > 1


@case
def test_widths_and_kernels_are_really_cut(name: str) -> None:
    supernet, mutator, _ = converted(name)
    for space_id, space in mutator.search_spaces.items():
        subnet = originals(mutator)
        whole = mutator.export_subnet(supernet, subnet)
        first = space['choice_names'][0]
        subnet[space_id] = {'chosen': [first]}
        small = mutator.export_subnet(supernet, subnet)
        if first[0] in 'wekh' and first[1:].isdigit():
            count = sum(p.numel() for p in small.parameters())
            assert count < sum(p.numel() for p in whole.parameters()), space_id


@case
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    supernet, mutator, x = converted(name)
    supernet.eval()
    weights = {
        space_id: torch.rand(len(space['choice_names']), dtype=torch.float64)
        for space_id, space in mutator.search_spaces.items()
    }
    leaves = {space_id: w.clone().requires_grad_() for space_id, w in weights.items()}
    upstream = torch.randn_like(supernet(x))

    def loss(values: dict[str, Tensor]) -> Tensor:
        with mutator.mixing(values):
            return (supernet(x) * upstream).sum()

    grads = torch.autograd.grad(loss(leaves), list(leaves.values()))
    for (space_id, w), grad in zip(weights.items(), grads, strict=True):
        direction = torch.randn_like(w)
        step = 1e-6
        with torch.no_grad():
            ahead = loss({**weights, space_id: w + step * direction})
            behind = loss({**weights, space_id: w - step * direction})
        assert_close(
            (grad * direction).sum(), (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6
        )


@case
@pytest.mark.parametrize('way', ['deepcopy', 'pickle'])
def test_pairs_can_be_copied(name: str, way: str) -> None:
    pair = converted(name)[:2]
    twin, its_mutator = (
        copy.deepcopy(pair) if way == 'deepcopy' else pickle.loads(pickle.dumps(pair))
    )
    supernet, _ = pair
    x = double(networks.CASES[name].inputs())
    supernet.eval()
    twin.eval()
    assert twin(x).equal(supernet(x))
    with torch.no_grad():
        for alpha in its_mutator.arch_params.values():
            alpha.copy_(torch.randn_like(alpha))
    assert not twin(x).allclose(supernet(x))
    net = its_mutator.export_subnet(twin, its_mutator.search_subnet())
    assert net(x).shape == supernet(x).shape
    its_mutator.release(twin)
    mm.restore_original(twin)


@case
def test_deployed_supernets_compute_what_exported_ones_do(name: str) -> None:
    supernet, mutator, x = converted(name)
    supernet.eval()
    subnet = mutator.random_subnet(4)
    net = mutator.export_subnet(supernet, subnet)
    mutator.deploy_subnet(supernet, subnet)
    assert_close(supernet(x), net(x))


def test_a_plain_loop_with_one_optimizer_learns_both() -> None:
    supernet, mutator, x = converted('resnet')
    parameters = [*supernet.parameters(), *mutator.arch_params.values()]
    before = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.Adam(parameters, 1e-2)
    targets = torch.tensor([0, 3])
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(supernet(x), targets) + mutator.regularization()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    moved = [not p.equal(old) for p, old in zip(parameters, before, strict=True)]
    assert sum(moved) > 0.9 * len(moved)
