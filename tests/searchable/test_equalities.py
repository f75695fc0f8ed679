"""What conversion promises, over every kind of choice, every network and every mutator.

A mutator that is registered joins by itself, and so does a kind of choice as soon as a
network of ``networks.py`` has a rule of it, without which the first test fails.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import networks
import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.mutables import DifferentiableMutable, SearchableLayer, find_mutables
from mmrazor_mutators.searchable.rules import KINDS

every = pytest.fixture(toys.mutator_of, params=toys.EVERY_MUTATOR, name='every')


@functools.cache
def converted(name: str) -> tuple[nn.Module, nn.Module, Tensor]:
    """Return a network, the same one with choices, and an input; for copies alone."""
    torch.manual_seed(1)
    case = networks.CASES[name]
    model, x = case.build().double(), case.inputs()
    x = x.double() if x.is_floating_point() else x
    for part in model.modules():  # Mutators that draw would move what is dropped.
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
    model(x)  # Running statistics of its own.
    return copy.deepcopy(model), mm.make_searchable(model, case.rules(), x), x


def prepared(name: str, mutator: str) -> tuple[nn.Module, Any, nn.Module, Tensor]:
    """Return a fresh supernet, its mutator, the plain network and an input."""
    plain, supernet, x = copy.deepcopy(converted(name))
    built = toys.build_mutator(mutator)
    built.prepare_from_supernet(supernet)
    if hasattr(built, 'on_epoch'):
        built.on_epoch(0, 2)
    return supernet, built.double(), plain, x


def originals(mutator: Any) -> dict[str, Any]:
    spaces = mutator.search_spaces.items()
    return {sid: {'chosen': [space['modules'][0].original]} for sid, space in spaces}


def chosen_index(mutator: Any, subnet: Any, space_id: str) -> int:
    names = mutator.search_spaces[space_id]['choice_names']
    # What stands inside of a choice that was not made may be anything.
    return names.index(subnet.get(space_id, {'chosen': names})['chosen'][0])


@contextmanager
def fixed(supernet: nn.Module, mutator: Any, subnet: Any) -> Iterator[nn.Module]:
    """Let a supernet compute what a subnet says, in the way that its mutator has."""
    if hasattr(mutator, 'mixing'):
        weights = {
            space_id: torch.eye(len(space['choice_names'])).double()[
                chosen_index(mutator, subnet, space_id)
            ]
            for space_id, space in mutator.search_spaces.items()
        }
        with mutator.mixing(weights):
            yield supernet
    elif hasattr(mutator, 'set_subnet'):
        mutator.set_subnet(subnet)
        yield supernet
    else:
        deployed, twin = copy.deepcopy((supernet, mutator))
        twin.deploy_subnet(deployed, subnet)
        yield deployed


def assert_equal(network: nn.Module, plain: nn.Module, x: Tensor, name: str) -> None:
    """Compare to the last bit; running statistics move alike."""
    for training in (True, False):
        assert network.train(training)(x).equal(plain.train(training)(x)), name


def test_there_is_a_network_for_every_kind_of_choice() -> None:
    rules = [rule for case in networks.CASES.values() for rule in case.rules()]
    assert {kind for rule in rules for kind in rule} >= {*KINDS}


def test_there_is_a_network_for_every_registered_value() -> None:
    values = {
        type(mutable)
        for name in networks.CASES
        for mutable in find_mutables(converted(name)[1])
    }
    assert values >= {mm.DifferentiableChannel, mm.DifferentiableKernel}
    assert all(issubclass(kind, DifferentiableMutable) for kind in values)


def test_the_original_is_a_choice_to_the_last_bit(every: str) -> None:
    for name in networks.CASES:
        supernet, mutator, plain, x = prepared(name, every)
        with fixed(supernet, mutator, originals(mutator)) as network:
            assert_equal(network, plain, x, name)


def test_logits_that_leave_one_choice_choose_it_to_the_last_bit(every: str) -> None:
    said = 0
    for name in networks.CASES:
        supernet, mutator, plain, x = prepared(name, every)
        if not hasattr(mutator, 'relax'):
            return  # Nothing to learn.
        subnet = originals(mutator)
        with torch.no_grad():
            for space_id, logits in mutator.arch_params.items():
                share = torch.zeros_like(logits)
                share[chosen_index(mutator, subnet, space_id)] = 1
                to_logits = getattr(mutator, 'arch_param_for', lambda w: 2e4 * w - 1e4)
                logits.copy_(to_logits(share))
        torch.manual_seed(2)
        drawn = mutator.relax_spaces()
        if not all(((m.weights == 0) | (m.weights == 1)).all() for m in drawn.values()):
            continue  # Noise that no logits drown.
        said += 1
        assert_equal(supernet, plain, x, name)
    assert said in (0, len(networks.CASES)), said


def test_exported_networks_compute_what_the_supernet_does(every: str) -> None:
    sizes = set()
    for name in networks.CASES:
        supernet, mutator, plain, x = prepared(name, every)
        supernet.eval()
        toys.spread_logits(mutator)
        found = [mutator.random_subnet(seed) for seed in (3, 4)]
        if hasattr(mutator, 'arch_params'):
            found.append(mutator.search_subnet())
        held = torch.cat([t.detach().double().flatten() for t in tensors_of(supernet)])
        for subnet in found:
            net = mutator.export_subnet(supernet, subnet)
            with fixed(supernet, mutator, subnet) as network:
                assert_close(net(x), network(x), rtol=1e-6, atol=1e-6)
            assert not net.training
            for part in net.modules():
                assert not isinstance(part, (mm.MutableModule, SearchableLayer)), name
            # Every value is one of the supernet's.
            kept = torch.cat([t.detach().double().flatten() for t in tensors_of(net)])
            assert torch.isin(kept, held).all(), name
            sizes.add(len(kept) / sum(t.numel() for t in tensors_of(plain)))
    assert min(sizes) < 0.9


def tensors_of(module: nn.Module) -> list[Tensor]:
    return list(module.state_dict().values())


def test_release_and_restore_give_the_network_back(every: str) -> None:
    for name in networks.CASES:
        supernet, mutator, plain, x = prepared(name, every)
        keys = list(plain.state_dict())
        mutator.release(supernet)
        assert_equal(supernet, plain, x, name)
        mm.restore_original(supernet)
        assert list(supernet.state_dict()) == keys
        assert [type(m) for m in supernet.modules()] == [type(m) for m in plain.modules()]
        for mine, theirs in zip(tensors_of(supernet), tensors_of(plain), strict=True):
            assert mine.equal(theirs)
        assert_equal(supernet, plain, x, name)


def test_every_space_gets_a_gradient(every: str) -> None:
    for name in networks.CASES:
        supernet, mutator, _, x = prepared(name, every)
        if not getattr(mutator, 'arch_params', None):
            return
        reached: set[str] = set()
        for _ in range(12):  # A path that is drawn may leave spaces out; not in every draw.
            supernet(x).square().sum().backward()
            reached |= {s for s, p in mutator.arch_params.items() if p.grad is not None}
        assert reached == {*mutator.arch_params}, name
