"""Copies, moves, saved states and releases leave supernet and mutator consistent.

These checks run over every mutator: see tests/test_contract.py.
"""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
import toys
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError
from mmrazor_mutators.mutables import find_mutables

every = pytest.fixture(toys.mutator_of, params=toys.EVERY_MUTATOR, name='every')
learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, 3, dtype=torch.float64)


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize('mutator_first', [False, True])
def test_copies_of_the_pair(
    learning: str, duplicate: Any, mutator_first: bool, x: torch.Tensor
) -> None:
    pair = toys.prepared(learning)
    supernet = pair[0]
    supernet(x).sum().backward()  # What a forward pass leaves behind is not copied.
    copies = duplicate(pair[::-1])[::-1] if mutator_first else duplicate(pair)
    expected = toys.run(supernet, x)
    assert_close(toys.run(copies[0], x), expected, rtol=0, atol=0)
    for mutable in find_mutables(copies[0]):
        if mutable.with_arch_param:
            assert mutable.forward.func.__self__ is mutable
            lent = mutable.forward.keywords['arch_param']
            assert lent is copies[1].arch_params[mutable.space_id]
    with torch.no_grad():
        for logits in copies[1].arch_params.values():
            logits.copy_(torch.randn_like(logits))
    assert not torch.equal(toys.run(copies[0], x), expected)
    assert_close(toys.run(supernet, x), expected, rtol=0, atol=0)
    copies[1].release(copies[0])
    assert_close(toys.run(supernet, x), expected, rtol=0, atol=0)


def test_a_copied_supernet_has_logits_of_its_own(learning: str, x: torch.Tensor) -> None:
    supernet, mutator = toys.prepared(learning)
    twin = copy.deepcopy(supernet)
    expected = toys.run(supernet, x)
    assert_close(toys.run(twin, x), expected, rtol=0, atol=0)
    with torch.no_grad():
        for logits in mutator.arch_params.values():
            logits.zero_()
    assert not torch.equal(toys.run(supernet, x), expected)
    assert_close(toys.run(twin, x), expected, rtol=0, atol=0)
    with pytest.raises(BindingError, match=r'ToySupernet.*deepcopy\(\(supernet, mutator\)\)'):
        mutator.search_subnet() and mutator.export_subnet(twin, mutator.search_subnet())


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
def test_moving_to_a_dtype(learning: str, dtype: torch.dtype, x: torch.Tensor) -> None:
    supernet, mutator = toys.prepared(learning)
    logits = list(mutator.arch_params.values())
    assert {parameter.dtype for parameter in logits} == {torch.float64}
    supernet.to(dtype), mutator.to(dtype)
    out = supernet(x.to(dtype))
    assert out.dtype == dtype
    out.float().square().sum().backward()
    for before, after in zip(logits, mutator.arch_params.values(), strict=True):
        assert after is before
        assert after.dtype == after.grad.dtype == dtype


@pytest.mark.parametrize('device', ['meta', pytest.param('cuda', marks=pytest.mark.cuda)])
def test_moving_to_a_device(learning: str, device: str, x: torch.Tensor) -> None:
    supernet, mutator = toys.prepared(learning)
    if device == 'meta' and getattr(mutator, 'hard', False):
        pytest.skip('a drawn path cannot be read from the meta device')
    supernet.to(device), mutator.to(device)
    out = supernet(x.to(device))
    assert out.device.type == device
    # An op that is called by itself is bound to where the parameters are now as well.
    out.sum().backward()
    supernet.backbone.widen(x.to(device)).sum().backward()
    assert (
        supernet.backbone.widen.forward.keywords['arch_param'] is mutator.arch_params['widen']
    )
    assert all(p.grad.device.type == device for p in mutator.arch_params.values())


def test_assigned_logits_are_those_that_are_used(learning: str, x: torch.Tensor) -> None:
    supernet, mutator = toys.prepared(learning)
    other = toys.prepared(learning)[1].state_dict()
    twin, its_mutator = copy.deepcopy((supernet, mutator))
    its_mutator.load_state_dict(other)
    mutator.load_state_dict(other, assign=True)
    for part in ('', 'backbone.widen'):
        expected = toys.run(twin.get_submodule(part), x)
        assert_close(toys.run(supernet.get_submodule(part), x), expected, rtol=0, atol=0)


class OldMutator(mm.DartsMutator):
    """Overrides a method with the signature of version 0.2.0."""

    def modify_supernet_forward(self, supernet: Any) -> None:
        super().modify_supernet_forward(supernet)


def test_a_mutator_that_binds_in_its_own_way_can_move() -> None:
    supernet, mutator = toys.prepared(OldMutator)
    mutator.float()
    mutator.load_state_dict(mutator.state_dict(), assign=True)
    lent = supernet.backbone.widen.forward.keywords['arch_param']
    assert lent is mutator.arch_params['widen']
    assert lent.dtype == torch.float32


def test_state_dict(learning: str, x: torch.Tensor) -> None:
    supernet, mutator = toys.prepared(learning)
    mutator.on_epoch(3, max_epochs=5)
    file = io.BytesIO()
    torch.save((supernet.state_dict(), mutator.state_dict()), file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    fresh = toys.prepared(learning)
    for part, state in zip(fresh, states, strict=True):
        assert part.load_state_dict(state, strict=True).missing_keys == []
    assert (fresh[1].epoch, fresh[1].max_epochs) == (3, 5)
    assert_close(toys.run(fresh[0], x), toys.run(supernet, x), rtol=0, atol=0)


def test_state_dict_of_version_0_2_0(learning: str) -> None:
    _, mutator = toys.prepared(learning)
    old = {f'arch_params.{sid}': torch.randn(4) for sid in mutator.arch_params}
    mutator.load_state_dict(old, strict=True)
    for space_id, logits in mutator.arch_params.items():
        assert_close(logits.data, old[f'arch_params.{space_id}'].double())
    with pytest.raises(RuntimeError, match=r'Missing key.*arch_params\.widen'):
        mutator.load_state_dict({k: v for k, v in old.items() if 'widen' not in k})


def test_release_leaves_nothing_and_a_second_prepare_keeps_the_parameters(
    learning: str, x: torch.Tensor
) -> None:
    supernet = toys.ToySupernet().double()
    before = [dict(module.__dict__) for module in supernet.modules()]
    supernet, mutator = toys.prepared(learning, supernet)
    logits = list(mutator.arch_params.values())
    optimizer = torch.optim.SGD(logits, lr=0.1)
    expected = toys.run(supernet, x)
    mutator.release(supernet)
    for module, attributes in zip(supernet.modules(), before, strict=True):
        assert dict(module.__dict__) == attributes
    assert supernet.backbone.first.forward.__func__ is mm.DifferentiableOP.forward
    with pytest.raises(BindingError, match=r"'widen'.*prepare_from_supernet"):
        supernet(x)
    mutator.prepare_from_supernet(supernet)
    assert all(a is b for a, b in zip(mutator.arch_params.values(), logits, strict=True))
    assert_close(toys.run(supernet, x), expected, rtol=0, atol=0)
    values = [parameter.detach().clone() for parameter in logits]
    supernet(x).square().sum().backward()
    optimizer.step()
    moved = [p for p in mutator.arch_params.values() if p.grad is not None]
    assert moved
    for old, parameter in zip(values, mutator.arch_params.values(), strict=True):
        gradient = torch.zeros_like(old) if parameter.grad is None else parameter.grad
        assert_close(parameter.detach(), old - 0.1 * gradient)


def test_binding_errors(every: str) -> None:
    supernet, mutator = toys.prepared(every)
    with pytest.raises(BindingError, match=r'call release\(supernet\)'):
        mutator.prepare_from_supernet(supernet)
    stranger = toys.ToySupernet()
    for act in (mutator.release, lambda net: mutator.export_subnet(net, {})):
        with pytest.raises(BindingError, match=f'{every} was not prepared from .*ToySupernet'):
            act(stranger)
    mutator.release(supernet)
    with pytest.raises(BindingError, match='was not prepared'):
        mutator.release(supernet)
