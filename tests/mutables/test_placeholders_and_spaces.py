"""Holes in an architecture, what fills them, and the spaces that come of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import toys
from torch import nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, ConfigError, SearchSpaceError
from mmrazor_mutators.mutables import build_search_spaces, convert_placeholders, traverse

MAPPING = {
    'cell': {'type': 'DifferentiableOP', 'choices': toys.candidates()},
    'node': {'type': 'DifferentiableEdge', 'with_arch_param': False},
}


def op(space_id: str, **kwargs: Any) -> Any:
    kwargs.setdefault('choices', toys.candidates())
    return mm.DifferentiableOP(space_id=space_id, **kwargs)


def holes() -> nn.Module:
    """A node of two inputs, each through a hole of its own, after another hole."""
    inputs = nn.ModuleDict({name: nn.Sequential(mm.Placeholder('cell', name)) for name in 'pq'})
    return nn.ModuleDict(
        {
            'first': mm.Placeholder('cell', 'first'),
            'node': mm.Placeholder('node', 'node', choices=inputs),
        }
    )


def tree(module: nn.Module) -> list[tuple[str, int]]:
    return [(name, id(m)) for name, m in module.named_modules(remove_duplicate=False)]


def test_an_unfilled_hole_does_not_run() -> None:
    with pytest.raises(BindingError, match=r"placeholder 'a' of group 'cell' .*prepare_from_"):
        mm.Placeholder('cell', 'a')(torch.ones(2))


def test_holes_are_filled_and_emptied_again() -> None:
    net = holes()
    before, weights = tree(net), dict(MAPPING['cell']['choices'])
    undo = convert_placeholders(net, MAPPING)
    assert not [m for m in net.modules() if isinstance(m, mm.Placeholder)]
    assert [m.space_id for m in mm.mutables.find_mutables(net)] == ['first', 'node', 'p', 'q']
    node = net['node']
    assert type(node) is mm.DifferentiableEdge
    assert node.with_arch_param is False
    ids = {
        id(choice) for m in (net['first'], node.choices['p'][0]) for choice in m.choice_modules
    }
    assert len(ids) == 8
    assert not ids & {id(choice) for choice in weights.values()}
    assert_close(
        net['first'].choices['linear'].weight, weights['linear'].weight, rtol=0, atol=0
    )
    undo()
    assert tree(net) == before


def test_the_mapping_has_the_last_word() -> None:
    hole = mm.Placeholder(
        'cell', 'a', choices={'x': {'type': 'Identity'}}, choice_args={'in_channels': 3}
    )
    mapping = {
        'cell': {
            'type': 'OneShotOP',
            'choices': {'y': {'type': 'Identity', 'norm_cfg': None}},
            'choice_args': {'in_channels': 4, 'out_channels': 6},
        }
    }
    before = copy.deepcopy(mapping)
    net = nn.Sequential(hole)
    convert_placeholders(net, mapping)
    assert net[0].choice_names == ('y',)
    assert net[0].choices['y'].in_channels == 4
    assert mapping == before


def test_a_hole_passes_its_arguments_on() -> None:
    choices = {'x': {'type': 'Identity'}}
    hole = mm.Placeholder('cell', 'a', choices, {'in_channels': 3, 'out_channels': 5})
    net = nn.Sequential(hole)
    convert_placeholders(net, {'cell': {'type': 'OneShotOP'}})
    assert net[0](torch.randn(2, 3, 4, 4)).shape == (2, 5, 4, 4)
    assert choices == {'x': {'type': 'Identity'}}


def test_one_hole_in_two_places_is_one_mutable() -> None:
    net = nn.Sequential(mm.Placeholder('cell', 'a'), nn.Identity())
    net.append(net[0])
    undo = convert_placeholders(net, MAPPING)
    assert isinstance(net[0], mm.DifferentiableOP)
    assert net[2] is net[0]
    undo()
    assert net[2] is net[0]
    assert isinstance(net[0], mm.Placeholder)


@pytest.mark.parametrize(
    ('mapping', 'error', 'message'),
    [
        ({'cell': MAPPING['cell']}, SearchSpaceError, "'node' is of group 'node', which"),
        ({'cel': MAPPING['cell']}, SearchSpaceError, "'first' .*'cell'.*did you mean 'cel'"),
        ({}, SearchSpaceError, "'first' is of group 'cell'.*none are known"),
        ({**MAPPING, 'node': {}}, ConfigError, '"type"'),
        (
            {**MAPPING, 'node': {'type': 'DartsZero'}},
            ConfigError,
            "'DartsZero' is not .*mutable",
        ),
        ({**MAPPING, 'node': 'DifferentiableEdge'}, ConfigError, "'DifferentiableEdge'"),
        ({**MAPPING, 'node': None}, ConfigError, 'None'),
    ],
)
def test_a_failed_fill_leaves_every_hole(
    mapping: Any, error: type[Exception], message: str
) -> None:
    net = holes()
    before = tree(net)
    mutator = mm.DartsMutator(placeholder_mapping=mapping)
    for act in (
        lambda: convert_placeholders(net, mapping),
        lambda: mutator.prepare_from_supernet(net),
    ):
        with pytest.raises(error, match=message):
            act()
        assert tree(net) == before


def test_contradicting_spaces_leave_every_hole() -> None:
    net = nn.Sequential(mm.Placeholder('cell', 'a'), op('a', choices=toys.units()))
    before = tree(net)
    mutator = mm.DartsMutator(placeholder_mapping=MAPPING)
    with pytest.raises(SearchSpaceError, match="'a' is used twice"):
        mutator.prepare_from_supernet(net)
    assert tree(net) == before
    assert not mutator.search_spaces


def test_a_supernet_brings_its_own_mapping() -> None:
    class Cell(nn.Sequential):
        default_placeholder_mapping = {'cell': {**MAPPING['cell'], 'num_chosen': 2}}

    class Net(nn.Sequential):
        default_placeholder_mapping = {'node': MAPPING['node']}

    net = Net(Cell(mm.Placeholder('cell', 'a')))
    mm.DartsMutator().prepare_from_supernet(net)
    assert net[0][0].num_chosen == 2
    other = Net(Cell(mm.Placeholder('cell', 'a')))
    mm.DartsMutator(placeholder_mapping=MAPPING).prepare_from_supernet(other)
    assert other[0][0].num_chosen == 1


def test_spaces_are_listed_in_order() -> None:
    supernet = toys.ToySupernet()
    spaces = build_search_spaces(supernet)
    net = supernet.backbone
    assert list(spaces) == ['widen', 'shared', 'node', 'node_p0', 'node_p1', 'node_p2']
    assert spaces['shared']['modules'] == [net.first, net.second]
    assert spaces['shared']['choice_names'] == ('none', 'linear', 'norm', 'deep')
    assert [space['num_chosen'] for space in spaces.values()] == [1, 1, 2, 1, 1, 1]
    assert_close(spaces['node']['space_mask'], torch.ones(3))


def test_a_mutable_is_a_supernet_too() -> None:
    assert list(build_search_spaces(op('a'))) == ['a']


@pytest.mark.parametrize(
    ('other', 'message'),
    [
        (op('a', choices=toys.units()), r"choices \('none', .*has \('u0', 'u1', 'u2'\)"),
        (op('a', choices={**toys.candidates(), 'deep': nn.ReLU()}), "kinds .*'ReLU'"),
        (op('a', num_chosen=2), 'num_chosen 1 .*has 2'),
        (op('a', with_arch_param=False), 'with_arch_param True .*has False'),
        (mm.GumbelOP(space_id='a', choices=toys.candidates()), "type 'Diff.*has 'GumbelOP'"),
        (
            mm.DifferentiableEdge(space_id='a', choices=toys.candidates()),
            "'DifferentiableEdge'",
        ),
    ],
)
def test_one_id_for_different_things(other: Any, message: str) -> None:
    for pair in ([op('a'), other], [other, op('a')]):
        with pytest.raises(SearchSpaceError, match="'a' is used twice for different things"):
            build_search_spaces(nn.Sequential(*pair))
    with pytest.raises(SearchSpaceError, match=message):
        build_search_spaces(nn.Sequential(op('a'), other))


def test_an_id_inside_of_its_own_space() -> None:
    inner = op('a', choices={'x': nn.Sequential(nn.ReLU())})
    outer = op('a', choices={'x': nn.Sequential(inner)})
    with pytest.raises(
        SearchSpaceError, match="'a' is used twice, by a mutable and by one ins"
    ):
        build_search_spaces(outer)


def test_traverse_goes_on_below_what_replaces_a_child() -> None:
    net = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh(), nn.Sequential(nn.SELU()))
    visited = []
    for parent, name, child in traverse(net):
        visited.append(type(child).__name__)
        if isinstance(child, nn.Tanh):
            parent._modules[name] = nn.Sequential(nn.GELU(), nn.Sequential(nn.CELU()))
        if isinstance(child, nn.SELU):
            del parent._modules[name]
    assert visited == [
        *('Sequential', 'ReLU', 'Tanh', 'GELU', 'Sequential', 'CELU', 'Sequential', 'SELU')
    ]
    assert len(net[2]) == 0


def test_traverse_visits_every_module_of_a_net_with_shared_ones() -> None:
    shared = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))
    net = nn.ModuleList([shared, nn.Sequential(shared, nn.GELU()), None, shared])
    net.append(nn.ModuleDict({'loop': nn.Identity()}))
    net[4]['loop'] = net
    places = [(id(parent), name) for parent, name, _ in traverse(net)]
    assert len(places) == len(set(places))
    found = {id(child) for _, _, child in traverse(net)} - {id(net)}
    assert found == {id(module) for module in net.modules()} - {id(net)}
