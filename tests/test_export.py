"""Export and deploy agree on whatever search space and subnet."""

from __future__ import annotations

import copy
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import toys
from hypothesis import given, settings
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.export import deploy_subnet, export_subnet
from mmrazor_mutators.mutables import find_mutables, match_subnet

SUPERNETS = {
    'toy': lambda: toys.ToySupernet(node_has_param=True),
    'DartsSupernet': {'base_channels': 2, 'num_layers': 3, 'num_nodes': 2},
    'NasBench201Supernet': {'base_channels': 2, 'num_cells': 1},
}


class Stage(nn.Module):
    """Parts one after the other; a node also reads what came before."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        # How many of the latest states a part reads as a list; 0 for the last one alone.
        self.reads = [
            part.num_choices if isinstance(part, mm.MutableEdge) else 0 for part in parts
        ]

    def forward(self, x: Tensor, call: Any = lambda part, inputs: part(inputs)) -> Tensor:
        states = [x, x.sin(), x.cos()]
        for part, count in zip(self.parts, self.reads, strict=True):
            states.append(call(part, states[-count:] if count else states[-1]))
        return states[-1]


@st.composite
def stages(draw: st.DrawFn, depth: int = 2, prefix: str = 's') -> Stage:
    """Draw a search space: ops and nodes, whose choices may hold further stages."""

    def leaf() -> nn.Module:
        return draw(
            st.sampled_from(
                [
                    nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4)),
                    nn.Identity(),
                    nn.Linear(4, 4),
                    toys.Zero(4),
                ]
            ).map(copy.deepcopy)
        )

    parts: list[nn.Module] = []
    for index in range(draw(st.integers(1, 2))):
        size = draw(st.integers(1, 3))
        space_id = f'{prefix}{index}'
        choices = {}
        for key in 'abc'[:size]:
            if depth and draw(st.booleans()):
                choices[key] = draw(stages(depth - 1, f'{space_id}{key}'))
            else:
                choices[key] = nn.Sequential(leaf())
        kwargs = {'space_id': space_id, 'num_chosen': draw(st.integers(1, size))}
        kind = draw(st.sampled_from([mm.DifferentiableOP, mm.DifferentiableEdge]))
        part = kind(choices=choices, **kwargs)
        parts.append(part)
        if depth == 2 and draw(st.booleans()):  # A second mutable of the same space.
            parts.append(copy.deepcopy(part))
    return Stage(parts)


def naive(module: Any, x: Any, subnet: Any) -> Tensor:
    """Run a stage by hand, choosing as the subnet says."""
    if isinstance(module, Stage):
        return module.forward(x, lambda part, inputs: naive(part, inputs, subnet))
    if isinstance(module, mm.MutableModule):
        inputs = x if isinstance(module, mm.MutableEdge) else [x] * len(module.choices)
        return sum(
            naive(choice, source, subnet)
            for (name, choice), source in zip(module.choices.items(), inputs, strict=True)
            if name in subnet[module.space_id]['chosen']
        )
    return module(x)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(stage=stages(), seed=st.integers(0, 99))
def test_any_search_space(stage: Stage, seed: int) -> None:
    torch.manual_seed(seed)
    supernet, mutator = toys.prepared('DartsMutator', stage, ignore_choices=())
    x = torch.randn(5, 4, dtype=torch.float64)
    for subnet in (mutator.random_subnet(seed), mutator.search_subnet()):
        expected = naive(supernet, x, subnet)
        matched = match_subnet(supernet, subnet)
        assert {mutable.space_id for mutable, _ in matched} == set(subnet)
        net = mutator.export_subnet(supernet, subnet)
        deployed, twin = copy.deepcopy((supernet, mutator))
        twin.deploy_subnet(deployed, subnet)
        assert_close(net(x), expected)
        assert_close(deployed(x), net(x), rtol=0, atol=0)
        assert not list(find_mutables(net))
        assert all(mutable.is_fixed for mutable in find_mutables(deployed))
        assert len(list(net.parameters())) == len(list(deployed.parameters()))


def build(name: str) -> Any:
    arguments = SUPERNETS[name]
    if callable(arguments):
        return arguments(), torch.randn(4, 3)
    cfg = {'type': name, 'in_channels': 2, 'num_classes': 3, **arguments}
    return mm.build_architecture(cfg), torch.randn(4, 2, 8, 8)


@pytest.mark.parametrize('name', SUPERNETS)
def test_weights_buffers_and_outputs_are_those_of_the_supernet(name: str) -> None:
    supernet, x = build(name)
    mutator = mm.GDASMutator()
    mutator.prepare_from_supernet(supernet)
    for _ in range(3):
        supernet(x)  # Batch norms learn something.
    subnet = mutator.random_subnet(2)
    net = mutator.export_subnet(supernet, subnet)
    deployed, twin = copy.deepcopy((supernet, mutator))
    twin.deploy_subnet(deployed, subnet)
    mine, alive = (
        list({**dict(n.named_parameters()), **dict(n.named_buffers())}.values())
        for n in (net, deployed)
    )
    alive = [value for value in alive if value.dtype != torch.bool]  # Masks of mutables.
    assert len(mine) == len(alive) > 0
    for value, other in zip(mine, alive, strict=True):
        assert_close(value, other, rtol=0, atol=0)
    for mode in (False, True):
        # The layers of the one are PyTorch's own, which some processors sum in another order.
        assert_close(net.train(mode)(x), deployed.train(mode)(x), rtol=1e-5, atol=1e-6)
    shared = {p.data_ptr() for p in supernet.parameters()}
    assert not shared & {p.data_ptr() for p in net.parameters()}
    assert net.training == supernet.training is True


def test_frozen_weights_and_modes_are_kept() -> None:
    supernet, mutator = toys.prepared()
    supernet.backbone.first.choices['norm'].eval()
    supernet.head.weight.requires_grad_(False)
    supernet(torch.randn(6, 3, dtype=torch.float64)).sum().backward()
    subnet = {**mutator.random_subnet(0), 'shared': {'chosen': ['norm']}}
    net = mutator.export_subnet(supernet, subnet)
    assert not net.backbone.first.training
    assert net.backbone.second.training
    assert not net.head.weight.requires_grad
    assert all(p.grad is None for p in net.parameters())


def test_ties_between_parts_are_kept() -> None:
    tied = nn.Linear(4, 4)
    ops = [mm.DifferentiableOP(space_id='a', choices={'x': tied, 'y': nn.Tanh()}) for _ in '12']
    supernet = nn.Sequential(*ops, tied)
    net = export_subnet(supernet, {'a': {'chosen': ['x']}})
    assert net[0] is net[1] is net[2]
    assert net[0] is not tied
    assert type(net[0]) is nn.Linear


def test_one_mutable_in_two_places_stays_one() -> None:
    op = mm.DifferentiableOP(space_id='a', choices=toys.candidates())
    supernet = nn.Sequential(op, op)
    net = export_subnet(supernet, {'a': {'chosen': ['linear']}})
    assert net[0] is net[1]
    deploy_subnet(supernet, {'a': {'chosen': ['linear']}})
    x = torch.randn(3, 4)
    assert_close(supernet(x), net(x), rtol=0, atol=0)


def test_a_supernet_that_is_a_mutable_itself() -> None:
    op = mm.DifferentiableOP(space_id='a', num_chosen=2, choices=toys.candidates())
    supernet, mutator = toys.prepared('SNASMutator', op)
    x = torch.randn(5, 4, dtype=torch.float64)
    for chosen in (['deep'], ['deep', 'linear']):
        net = mutator.export_subnet(supernet, {'a': {'chosen': chosen}})
        assert_close(net(x), sum(supernet.choices[name](x) for name in sorted(chosen)))
        assert not isinstance(net, mm.MutableModule)
    assert type(mutator.export_subnet(supernet, {'a': {'chosen': ['linear']}})) is nn.Linear


def test_only_what_was_chosen_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    class Precious(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Any:
            pytest.fail('a dead candidate was copied')

    choices = {'keep': nn.Linear(4, 4), 'drop': Precious(4, 4)}
    inner = mm.DifferentiableOP(space_id='inner', choices={'x': Precious(4, 4)})
    outer = mm.DifferentiableOP(
        space_id='outer', choices={'keep': nn.Linear(4, 4), 'drop': nn.Sequential(inner)}
    )
    supernet = nn.Sequential(mm.DifferentiableOP(space_id='a', choices=choices), outer)
    net = export_subnet(supernet, {'a': {'chosen': ['keep']}, 'outer': {'chosen': ['keep']}})
    assert [type(module) for module in net] == [nn.Linear, nn.Linear]
