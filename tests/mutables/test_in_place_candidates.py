"""Nothing that a candidate does to its input reaches anybody else."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import toys
from in_place_cases import (
    CASES,
    F64,
    WEIGHTS,
    AddsInPlace,
    InPlaceForSomeData,
    InPlaceFromTheSecondCall,
    Same,
    data,
    mixed,
    prepared,
)
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.recomputation import checkpointed

learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('case', CASES)
def test_mixtures(case: str, training: bool) -> None:
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    supernet.train(training)
    for call in range(4):
        x = data(call)
        before = x.clone()
        with mutator.mixing({'a': WEIGHTS}):
            out = supernet(x)
        assert_close(out, mixed(reference, before))
        assert x.equal(before)


def test_all_mutators(learning: str) -> None:
    for case in ('switch', 'code', 'some data', 'hook'):
        build, reference = CASES[case]
        supernet, mutator = prepared(build(), learning)
        for call in range(3):
            x = data(call)
            before = x.clone()
            supernet(x)
            assert x.equal(before)
            with mutator.mixing({'a': WEIGHTS}):
                assert_close(supernet(x), mixed(reference, before))
            assert x.equal(before)


def leaf(x: Tensor) -> Tensor:
    return x.requires_grad_()


def half(x: Tensor) -> Tensor:
    return torch.cat([x, x])[:6]


def strided(x: Tensor) -> Tensor:
    return torch.stack([x, x], -1)[..., 0]


def expanded(x: Tensor) -> Tensor:
    return x[:1].expand(6, 4)


def made(x: Tensor) -> Tensor:
    return leaf(x) * 1


@pytest.mark.parametrize('form', [leaf, half, strided, expanded, made])
@pytest.mark.parametrize('case', ['switch', 'code', 'second call'])
def test_inputs_of_all_kinds_and_their_gradients(case: str, form: Any) -> None:
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    for call in range(3):
        x = form(data(call))
        whole = x if x._base is None else x._base
        before = whole.detach().clone()
        with mutator.mixing({'a': WEIGHTS}):
            out = supernet(x)
        twin = x.detach().clone().requires_grad_()
        expected = mixed(reference, twin)
        assert_close(out, expected)
        assert whole.equal(before)
        if x.requires_grad:
            grads = torch.autograd.grad(out.square().sum(), x)
            assert_close(grads, torch.autograd.grad(expected.square().sum(), twin))


@pytest.mark.parametrize('case', CASES)
def test_inference_mode(case: str) -> None:
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    with torch.inference_mode():
        for call in range(3):
            x = data(call)
            before = x.clone()
            with mutator.mixing({'a': WEIGHTS}):
                out = supernet(x)
            assert_close(out, mixed(reference, before))
            assert x.equal(before)


@pytest.mark.parametrize('case', ['switch', 'code', 'second call', 'some data'])
def test_what_is_computed_again_for_the_backward_pass(case: str) -> None:
    build, _ = CASES[case]
    found = []
    for again in (False, True):
        supernet, mutator = prepared(build())
        for call in range(3):
            torch.manual_seed(call)
            x = data(call).requires_grad_()
            with mutator.mixing({'a': WEIGHTS}):
                if again:
                    with checkpointed(supernet[0]):
                        out = supernet(x * 1)
                else:
                    out = supernet(x * 1)
            found.append((out, *torch.autograd.grad(out.square().sum(), x)))
    assert_close(found[:3], found[3:], rtol=0, atol=0)


def test_copied_supernets() -> None:
    for copied in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        supernet, mutator = prepared(InPlaceForSomeData())
        supernet(data(0))  # It changes nothing yet.
        supernet, mutator = copied((supernet, mutator))
        x = data(1)
        before = x.clone()
        with mutator.mixing({'a': WEIGHTS}):
            assert_close(supernet(x), mixed(lambda x: 3 * x, before))
        assert x.equal(before)


def test_edges_and_one_shot_ops() -> None:
    x = torch.randn(6, 4)
    before = x.clone()
    edge = mm.DifferentiableEdge(
        space_id='n',
        choices={'p': nn.ReLU(inplace=True), 'q': AddsInPlace()},
        with_arch_param=False,
    )
    assert_close(edge([x, x]), before.relu() + 2 * (before + 1))
    out = edge([x, x], arch_param=torch.zeros(2))
    assert_close(out, before.relu() + 2 * (before + 1))
    op = mm.OneShotOP(space_id='o', choices={'relu': nn.ReLU(inplace=True), 'tanh': nn.Tanh()})
    for _ in range(2):
        op.set_choice_mask(torch.tensor([1, 0]))
        assert_close(op(x), before.relu())
    assert x.equal(before)
    part = mm.PartialChannelOP(
        {'relu': nn.ReLU(inplace=True)},
        channel_proportion=2,
        space_id='c',
        with_arch_param=False,
    )
    maps = -torch.rand(2, 4, 3, 3)
    before = maps.clone()
    part(maps)
    assert maps.equal(before)


def test_one_module_by_two_names() -> None:
    module = InPlaceFromTheSecondCall()
    op = mm.DifferentiableOP(space_id='a', choices={'one': module, 'two': module}).double()
    x = data()
    before = x.clone()
    for _ in range(2):
        assert_close(op(x, arch_param=torch.zeros(2)), 3 * before)
        assert x.equal(before)


class Fills(nn.Module):
    """Changes all of its arguments."""

    def forward(self, x: Tensor, states: list[Tensor], mask: Tensor | None = None) -> Tensor:
        states[0].mul_(2)
        states.append(x)
        if mask is not None:
            mask.logical_not_()
            return x.masked_fill_(mask, 0.0) + states[0]
        return x + states[0]


def test_further_arguments(learning: str) -> None:
    op = mm.DifferentiableOP(space_id='a', choices={'one': Fills(), 'two': Fills()})
    supernet, mutator = nn.ModuleDict({'op': op}), toys.build_mutator(learning)
    mutator.prepare_from_supernet(supernet)
    x, state, mask = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3, 4) > 0.5
    before = x.clone(), state.clone(), mask.clone()
    states = [state]
    for _ in range(2):
        with mutator.mixing({'a': torch.tensor([0.5, 0.5])}):
            assert_close(supernet['op'](x, states), x + 2 * state)
            masked = x.masked_fill(~mask, 0.0)
            assert_close(supernet['op'](x, states, mask=mask), masked + 2 * state)
        assert all(map(torch.equal, (x, state, mask), before))
        assert len(states) == 1


def test_one_tensor_given_twice_is_one() -> None:
    """Attention projects it once then."""
    op = mm.DifferentiableOP(space_id='a', choices={'a': Same(), 'b': Same()})
    x = torch.zeros(2)
    assert op(x, x, value=x, arch_param=torch.zeros(2)).equal(torch.ones(2))
    assert op(x, x, value=x.clone(), arch_param=torch.zeros(2)).equal(torch.zeros(2))


@pytest.mark.parametrize('case', ['switch', 'code'])
def test_transforms_of_torch_func(case: str) -> None:
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    x = torch.randn(5, 6, 4, dtype=F64)
    before = x.clone()
    with mutator.mixing({'a': WEIGHTS}):
        out = torch.func.vmap(supernet)(x)
        _, along = torch.func.jvp(supernet, (x[0],), (x[1],))
    assert_close(out, mixed(reference, before))
    assert x.equal(before)
    expected = torch.func.jvp(lambda x: mixed(reference, x), (before[0],), (before[1],))
    assert_close(along, expected[1])
