"""Layers that stand or run in several places, weights that are tied, and frozen ones."""

from __future__ import annotations

import copy
from typing import Any

import attending
import networks
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import InputError, SearchSpaceError


class Recurrent(nn.Module):
    """Runs one convolution several times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = (nn.Conv2d(ins, 4, 3, padding=1) for ins in (3, 4))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = x + self.block(x).relu()
        return self.head(x)


class Pyramid(nn.Module):
    """One head for maps of two sizes, as detectors have it."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 6, 3, 1, 1), nn.Conv2d(6, 6, 3, 2, 1)
        self.hidden, self.out = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Any:
        fine = self.fine(x)
        return [self.out(self.hidden(y).relu()) for y in (fine, self.coarse(fine))]


def tied_characters() -> nn.Module:
    model = attending.Characters()
    model.head.weight = model.embed.weight
    return model


IMAGES, TOKENS = torch.randn(2, 3, 6, 6).double(), torch.randint(0, 11, (2, 6))
WORKING: list[tuple[Any, Any, list[Any]]] = [
    (Recurrent, IMAGES, [{'match': 'block', 'kernel_size': [1, 3, 5], 'width': [1, 2]}]),
    (Recurrent, IMAGES, [{'match': 'block', 'depth': True}]),
    (Pyramid, IMAGES, [{'match': ['fine', 'hidden'], 'width': [0.5, 1.0]}]),
    (tied_characters, TOKENS, [{'match': '*.self_attn', 'heads': [1, 2]}]),
    (tied_characters, TOKENS, [{'match': '*.linear1', 'ffn': [0.5]}]),
    (
        tied_characters,
        TOKENS,
        [{'match': 'head', 'ops': lambda m: {'new': nn.Linear(8, 11).double()}}],
    ),
]


@pytest.mark.parametrize('number', range(len(WORKING)))
def test_shared_parts_work(number: int) -> None:
    build, x, rules = WORKING[number]
    model = build().double().eval()
    expected = copy.deepcopy(model)(x)
    mutator = mm.build_mutator({'type': 'DartsMutator'})
    mutator.prepare_from_supernet(mm.make_searchable(model, rules, x))
    for seed in range(4):
        subnet = mutator.random_subnet(seed)
        weights = {}
        for space_id, choice in subnet.items():
            names = mutator.search_spaces[space_id]['choice_names']
            weights[space_id] = torch.eye(len(names)).double()[names.index(choice['chosen'][0])]
        with mutator.mixing(weights):
            assert_close(
                mutator.export_subnet(model, subnet)(x), model(x), rtol=1e-9, atol=1e-9
            )
    originals = {
        space_id: {'chosen': [space['modules'][0].original]}
        for space_id, space in mutator.search_spaces.items()
    }
    net = mutator.export_subnet(model, originals)
    assert_close(net(x), expected, rtol=0, atol=0)
    # What was tied still is.
    assert len(list(net.parameters())) == len(list(build().parameters()))
    mutator.release(model)
    mm.restore_original(model)
    assert len(list(model.parameters())) == len(list(build().parameters()))
    assert_close(model(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize('name', networks.CASES)
def test_what_is_frozen_stays_frozen(name: str) -> None:
    case = networks.CASES[name]
    model, x = case.build(), case.inputs()
    names = [key for key, _ in model.named_parameters()]
    frozen = {key for index, key in enumerate(names) if index % 2}
    for key in frozen:
        model.get_parameter(key).requires_grad_(False)
    mutator = mm.build_mutator({'type': 'DartsMutator'})
    mutator.prepare_from_supernet(mm.make_searchable(model, case.rules(), x))
    originals = {
        space_id: {'chosen': [space['modules'][0].original]}
        for space_id, space in mutator.search_spaces.items()
    }
    net = mutator.export_subnet(model, originals)
    assert {key for key, p in net.named_parameters() if not p.requires_grad} == frozen
    smallest = {
        space_id: {'chosen': [space['choice_names'][0]]}
        for space_id, space in mutator.search_spaces.items()
        if 'skip' not in space['choice_names']
    }
    small = mutator.export_subnet(model, {**originals, **smallest})
    for key, parameter in small.named_parameters():
        assert parameter.requires_grad == (key not in frozen), key
    mutator.release(model)
    mm.restore_original(model)
    assert {key for key, p in model.named_parameters() if not p.requires_grad} == frozen


def test_parallel_wrappers_come_last() -> None:
    inner = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x, rules = torch.randn(3, 4), [{'match': '0', 'width': [4]}]
    model = nn.Sequential(nn.DataParallel(inner))
    with pytest.raises(SearchSpaceError, match=r"DataParallel at '0'; make its `\.module`"):
        mm.make_searchable(model, [{'match': '*.0', 'width': [4]}], x)
    mutator = mm.build_mutator({'type': 'DartsMutator'})
    supernet = mm.make_searchable(inner, rules, x)
    mutator.prepare_from_supernet(supernet)
    assert_close(nn.DataParallel(supernet)(x), supernet(x))


@pytest.mark.filterwarnings('ignore:.torch.jit.script. is deprecated:DeprecationWarning')
def test_scripted_and_lazy_modules_are_refused() -> None:
    x, rules = torch.randn(3, 4), [{'match': '*0', 'width': [4]}]
    layers = nn.Linear(4, 8), nn.Linear(8, 2)
    scripted = nn.Sequential(torch.jit.script(nn.Sequential(*layers)))
    with pytest.raises(SearchSpaceError, match=r"'0' was made by torch\.jit\.script"):
        mm.make_searchable(scripted, rules, x)
    lazy = nn.Sequential(nn.LazyLinear(8), layers[1])
    with pytest.raises(InputError, match=r"lazy layer '0' .* call the model once"):
        mm.make_searchable(lazy, rules, x)
    lazy(x)
    assert mm.make_searchable(lazy, rules, x) is lazy


class Tied(nn.Module):
    """Two convolutions with one weight, one with its own, and parts that never run."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.own = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.second.weight = self.first.weight
        self.never = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.own(self.second(self.first(x).relu()).relu())


OWN = {'match': 'own', 'kernel_size': [1, 3]}


@pytest.mark.parametrize(
    'rule', [{'match': 'first'}, {'match': ['first', 'second'], 'space': 's'}]
)
def test_a_kernel_that_two_convolutions_have(rule: Any) -> None:
    model = Tied().double()
    rules = [{**rule, 'kernel_size': [1, 3]}]
    with pytest.raises(SearchSpaceError, match=r"'first'.* also that of 'second'.* untie"):
        mm.make_searchable(model, rules, IMAGES)
    assert model.first.weight is model.second.weight
    assert type(model.first) is nn.Conv2d
    mm.make_searchable(model, [OWN], IMAGES)


@pytest.mark.parametrize(
    'rule',
    [
        {'match': 'never.0', 'ops': {'other': nn.Identity()}},
        {'match': 'never.1', 'activation': ['silu']},
        {'match': 'never.0', 'kernel_size': [1, 3]},
        {'match': 'never', 'depth': True},
    ],
)
def test_what_never_runs_is_named(rule: Any) -> None:
    model = Tied().double()
    message = rf"'{rule['match']}'.*: it does not run with the example inputs"
    with pytest.raises(SearchSpaceError, match=message):
        mm.make_searchable(model, [rule, OWN], IMAGES)
    assert type(model.own) is nn.Conv2d
    assert not any(module._forward_hooks for module in model.modules())
    ran = {'match': 'own', 'ops': {'other': nn.Conv2d(3, 3, 1).double()}}
    mm.make_searchable(model, [ran], IMAGES)
