"""A user's own mutable whose choices are values: names alone, and no modules."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import SearchSpaceError, SubnetError

learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')
F64 = torch.float64
RATES = {'d1': 1, 'd2': 2, 'd3': 3}


class DilatedConv(nn.Module):
    """One convolution whose dilation is chosen."""

    def __init__(self, conv: nn.Conv2d, dilation: int) -> None:
        super().__init__()
        self.conv, self.dilation = conv, dilation

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.conv.weight, None, 1, self.dilation, self.dilation)


class Dilation(mm.DifferentiableMutable):
    """All rates share one weight."""

    def __init__(self, rates: dict[str, int] = RATES, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv = nn.Conv2d(2, 2, 3, bias=False)
        self.rates = rates
        self.set_choice_names(rates)

    def at(self, x: Tensor, name: str) -> Tensor:
        return DilatedConv(self.conv, self.rates[name])(x)

    def forward(self, x: Tensor, arch_param: Any = None, relax: Any = None) -> Tensor:
        mixture = self.mixture(arch_param, relax)
        if mixture is None:
            return sum(self.at(x, name) for name in self.active_names)
        return sum(
            weight * self.at(x, name)
            for weight, name in zip(mixture.weights, self.choice_names, strict=True)
        )

    def plain(self, chosen: Sequence[str], duplicate: Callable[[Any], Any]) -> nn.Module:
        return DilatedConv(duplicate(self.conv), self.rates[chosen[0]])


class OneRate(mm.MutableModule):
    """Learns nothing: a path is drawn."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv = nn.Conv2d(2, 2, 3, bias=False)
        self.set_choice_names(RATES)

    def forward(self, x: Tensor) -> Tensor:
        return DilatedConv(self.conv, RATES[self.active_names[0]])(x)

    plain = Dilation.plain
    rates = RATES


def prepared(kind: str, of: Any = Dilation) -> tuple[nn.Module, Any]:
    supernet = nn.Sequential(of(space_id='a'), nn.Tanh(), of(space_id='b')).double()
    mutator = toys.build_mutator(kind)
    mutator.prepare_from_supernet(supernet)
    return supernet, mutator


def naive(supernet: Any, x: Tensor, weights: dict[str, Sequence[float]]) -> Tensor:
    for mutable, space in zip((supernet[0], supernet[2]), 'ab', strict=True):
        outputs = [
            F.conv2d(x, mutable.conv.weight, padding=rate, dilation=rate)
            for rate in RATES.values()
        ]
        x = sum(w * out for w, out in zip(weights[space], outputs, strict=True))
        x = x.tanh() if space == 'a' else x
    return x


def test_all_mutators_search_and_export_it(learning: str) -> None:
    supernet, mutator = prepared(learning)
    assert {p.shape for p in mutator.arch_params.values()} == {(3,)}
    x = torch.randn(2, 2, 7, 7, dtype=F64)
    given = {space: torch.rand(3, dtype=F64) for space in 'ab'}
    with mutator.mixing(given):
        assert_close(supernet(x), naive(supernet, x, given))
    optimizer = mm.ExponentiatedGradient if learning == 'GAEAMutator' else torch.optim.Adam
    search = mm.BilevelSearch(
        supernet,
        mutator,
        lambda scores, target: (scores - target).square().mean(),
        torch.optim.SGD(supernet.parameters(), lr=0.1),
        optimizer(mutator.arch_params.values(), lr=0.1),
    )
    before = {space: p.detach().clone() for space, p in mutator.arch_params.items()}
    batch = x, torch.randn(2, 2, 7, 7, dtype=F64)
    for _ in range(2):
        search.step(batch, batch)
    moved = [not torch.equal(before[s], p) for s, p in mutator.arch_params.items()]
    assert any(moved)
    subnet = mutator.search_subnet()
    names = {space: subnet[space]['chosen'][0] for space in 'ab'}
    twin, its_mutator = copy.deepcopy((supernet, mutator))
    net = mutator.export_subnet(supernet, subnet)
    assert not any(isinstance(m, mm.MutableModule) for m in net.modules())
    one_hot = {s: [float(n == names[s]) for n in RATES] for s in 'ab'}
    expected = naive(supernet, x, one_hot)
    mutator.deploy_subnet(supernet, subnet)
    its_mutator.deploy_subnet(twin, subnet)
    for network in (net, supernet, twin, pickle.loads(pickle.dumps(net))):
        assert_close(network(x), expected)
    assert net[0].conv is not supernet[0].conv
    assert net[0].conv.weight.equal(supernet[0].conv.weight)


def test_dropped_values_weigh_nothing(learning: str) -> None:
    supernet, mutator = prepared(learning)
    mutator.drop_choices('a', ['d2'])
    x = torch.randn(2, 2, 7, 7, dtype=F64)
    supernet(x).sum().backward()
    assert mutator.arch_params['a'].grad[1] == 0
    assert mutator.search_subnet()['a']['chosen'] != ['d2']


@pytest.mark.parametrize('kind', ['OneShotMutator', 'RandomMutator'])
def test_one_shot_mutators_draw_them(kind: str) -> None:
    supernet, mutator = prepared(kind, OneRate)
    x = torch.randn(2, 2, 7, 7, dtype=F64)
    for seed in range(5):
        subnet = mutator.random_subnet(seed)
        net = mutator.export_subnet(supernet, subnet)
        one_hot = {s: [float([n] == subnet[s]['chosen']) for n in RATES] for s in 'ab'}
        assert_close(net(x), naive(supernet, x, one_hot))


def test_names_that_are_none() -> None:
    for rates, message in (
        ({'d1': 1, 2: 2}, r"distinct strings, but got \['d1', 2\]"),
        ({'': 1}, r"distinct strings, but got \[''\]"),
        ({}, r'at most the number of choices, 0 \(none\), but got 1'),
    ):
        with pytest.raises(SearchSpaceError, match=f"In space 'a': .*{message}"):
            Dilation(rates, space_id='a')
    with pytest.raises(SearchSpaceError, match=r"`original` to be one of .*d3, but got 'd4'"):
        Dilation(space_id='a', original='d4')


class NamesNothing(mm.DifferentiableMutable):
    def forward(self, x: Tensor, arch_param: Any = None) -> Tensor:
        return x


def test_a_mutable_that_forgets_its_names() -> None:
    supernet = nn.Sequential(NamesNothing(space_id='a'))
    with pytest.raises(SearchSpaceError, match=r"'a'.*NamesNothing.*set_choice_names"):
        mm.DartsMutator().prepare_from_supernet(supernet)


class NoExport(Dilation):
    plain = mm.MutableModule.plain


def test_one_that_does_not_say_what_stands_in_its_place() -> None:
    supernet, mutator = prepared('DartsMutator', NoExport)
    with pytest.raises(SubnetError, match=r"'b': a NoExport cannot be exported.*`plain\("):
        mutator.export_subnet(supernet, mutator.search_subnet())
