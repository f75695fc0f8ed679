"""What is compiled or exported is as safe from candidates that work in place."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import toys
from in_place_cases import (
    CASES,
    WEIGHTS,
    AddsInPlace,
    InPlaceForSomeData,
    Same,
    UsesTwice,
    data,
    hooked,
    mixed,
    patched,
    prepared,
    residual,
)
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import NASError


@pytest.mark.parametrize('case', ['switch', 'chain', 'code', 'training'])
@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
def test_compiled_supernets(case: str, backend: str) -> None:
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    compiled = torch.compile(supernet, backend=backend)
    for call in range(2):
        x = data(call)
        before = x.clone()
        with mutator.mixing({'a': WEIGHTS}):
            assert_close(compiled(x), mixed(reference, before))
        assert x.equal(before)


@pytest.mark.parametrize('case', ['switch', 'code', 'training', 'nested'])
def test_compiled_searches(case: str) -> None:
    build, _ = CASES[case]
    logits = []
    for compile in (False, {'backend': 'aot_eager'}):
        torch.manual_seed(0)
        supernet, mutator = prepared(build())
        with torch.no_grad():
            mutator.arch_params['a'].copy_(torch.tensor([0.3, -0.2]))
        search = mm.BilevelSearch(
            nn.Sequential(nn.Linear(4, 4).double(), supernet),
            mutator,
            nn.functional.cross_entropy,
            torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1),
            torch.optim.SGD(mutator.arch_params.values(), lr=0.1),
            compile=compile,
        )
        batch = data(), torch.randint(4, (6,))
        for _ in range(2):
            search.step(batch, batch)
        logits.append(mutator.arch_params['a'].detach().clone())
    assert_close(*logits)


@pytest.mark.parametrize('chosen', [['first'], ['first', 'twice']])
@pytest.mark.parametrize('ran', [True, False])
@pytest.mark.parametrize('case', [case for case in CASES if case != 'patched'])
def test_exported_networks(case: str, ran: bool, chosen: list[str]) -> None:
    supernet, mutator = residual(case)
    reference = CASES[case][1]

    def expected(x: Tensor) -> Tensor:
        out = reference(x) + x
        return out if len(chosen) == 1 else out + x.sin() + x.cos()

    for call in range(4 if ran else 0):
        supernet(data(call))
    subnet = {'a': {'chosen': chosen}}
    if case == 'nested':
        subnet['inner'] = {'chosen': ['a', 'b']}
    net = mutator.export_subnet(supernet, subnet)
    mutator.deploy_subnet(supernet, subnet)
    networks = [supernet, net]
    if case != 'traced':  # PyTorch does not copy its hooks.
        networks += [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for network in networks:
        for call in range(4):
            x = data(call)
            before = x.clone()
            assert_close(network(x), expected(before))
            assert x.equal(before)


def test_hooks_are_where_something_was_seen_to_change_its_input() -> None:
    for first, count in ((UsesTwice(), 0), (AddsInPlace(), 1), (nn.Tanh(), 0)):
        supernet, mutator = prepared(first)
        supernet(data())
        net = mutator.export_subnet(supernet, {'a': {'chosen': ['first']}})
        assert len(net[0]._forward_pre_hooks) == count


class Helper(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.go(x)

    def go(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x, inplace=True)


class Writes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x[0] = 0.0
        return x


class Inherits(Helper, mm.ops.BaseOP):
    pass


@pytest.mark.parametrize(
    ('first', 'count'),
    [
        (AddsInPlace(), 1),
        (Helper(), 1),
        (Inherits(in_channels=4, out_channels=4), 1),
        (Writes(), 1),
        (InPlaceForSomeData(), 1),
        (nn.Sequential(nn.Tanh(), nn.ReLU(inplace=True)), 1),
        (hooked(), 1),
        (patched(), 1),
        (UsesTwice(), 0),
        (Same(), 0),
        (nn.Linear(4, 4), 0),
        (toys.Zero(4), 0),
    ],
)
def test_what_never_ran_is_judged_by_its_code(first: nn.Module, count: int) -> None:
    op = mm.DifferentiableOP(space_id='a', choices={'first': first})
    supernet, mutator = nn.Sequential(op), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    net = mutator.export_subnet(supernet, {'a': {'chosen': ['first']}})
    before = len(first._forward_pre_hooks)
    assert len(net[0]._forward_pre_hooks) - before == count


@pytest.mark.parametrize('case', ['switch', 'chain', 'code'])
def test_exported_networks_that_are_compiled_and_exported_again(case: str) -> None:
    supernet, mutator = residual(case)
    net = mutator.export_subnet(supernet, {'a': {'chosen': ['first']}}).eval()
    x = data()
    expected = CASES[case][1](x) + x
    for network in (
        torch.compile(net, backend='aot_eager', fullgraph=True),
        torch.export.export(net, (x,)).module(),
    ):
        before = x.clone()
        assert_close(network(x), expected)
        assert x.equal(before)


def test_no_registered_op_of_ours_changes_its_input() -> None:
    """Their class is all that an exported network looks at."""
    ours = [cls for cls in mm.OPS.module_dict.values() if '.ops.' in cls.__module__]
    seen = 0
    for cls in ours:
        kwargs = {'in_channels': 4, 'out_channels': 4, 'stride': 1}
        for extra in ({}, {'kernel_size': 3}):
            try:
                op = cls(**kwargs, **extra)
            except (TypeError, NASError):
                continue
            x = torch.randn(2, 4, 8, 8)
            before = x.clone()
            for training in (True, False):
                op.train(training)(x)
                assert x.equal(before), cls
            seen += 1
            break
    assert seen >= 10
