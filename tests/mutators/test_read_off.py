"""How a subnet is read off the logits, on examples worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import toys
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, SearchSpaceError

NAMES = ('none', 'skip', 'conv')


def op(space_id: str, names: tuple[str, ...] = NAMES, **kwargs: Any) -> Any:
    choices = {name: nn.Identity() for name in names}
    return mm.DifferentiableOP(space_id=space_id, choices=choices, **kwargs)


def node(num_chosen: int = 2, **kwargs: Any) -> Any:
    """Three inputs, each through an op of its own."""
    inputs = {f'e{i}': nn.Sequential(op(f'op{i}')) for i in range(3)}
    return mm.DifferentiableEdge(
        space_id='node', num_chosen=num_chosen, choices=inputs, **kwargs
    )


def found(supernet: nn.Module, probs: dict[str, list[float]], **kwargs: Any) -> Any:
    """Read a subnet off weights that are given as probabilities."""
    mutator = mm.DartsMutator(**kwargs)
    mutator.prepare_from_supernet(supernet)
    with torch.no_grad():
        for space_id, values in probs.items():
            mutator.arch_params[space_id].copy_(torch.tensor(values).log())
    return mutator.search_subnet()


def summary(subnet: Any) -> dict[str, list[tuple[str, float]]]:
    return {
        space_id: [
            (name, round(score, 4))
            for name, score in zip(entry['chosen'], entry['chosen_probs'], strict=True)
        ]
        for space_id, entry in subnet.items()
    }


EDGES = {
    'op0': [0.90, 0.04, 0.06],  # The most confident edge, but in ``none``.
    'op1': [0.10, 0.55, 0.35],
    'op2': [0.00001, 0.40999, 0.59],
}


def test_edges_are_ranked_by_their_best_op_that_is_not_none() -> None:
    assert summary(found(node(with_arch_param=False), EDGES)) == {
        'node': [('e2', 0.59), ('e1', 0.55)],
        'op1': [('skip', 0.55)],
        'op2': [('conv', 0.59)],
    }


def test_none_wins_where_it_may() -> None:
    subnet = found(node(1, with_arch_param=False), EDGES, ignore_choices=())
    assert summary(subnet) == {'node': [('e0', 0.9)], 'op0': [('none', 0.9)]}


def test_names_to_ignore() -> None:
    subnet = found(node(3, with_arch_param=False), EDGES, ignore_choices=['none', 'conv'])
    assert summary(subnet) == {
        'node': [('e1', 0.55), ('e2', 0.41), ('e0', 0.04)],
        'op0': [('skip', 0.04)],
        'op1': [('skip', 0.55)],
        'op2': [('skip', 0.41)],
    }


def test_edges_with_logits_of_their_own() -> None:
    subnet = found(node(2), {**EDGES, 'node': [0.5, 0.2, 0.3]})
    assert summary(subnet) == {
        'node': [('e0', 0.5), ('e2', 0.3)],
        'op0': [('conv', 0.06)],
        'op2': [('conv', 0.59)],
    }


def test_several_choices_of_one_op() -> None:
    subnet = found(op('a', num_chosen=2), {'a': [0.5, 0.2, 0.3]})
    assert summary(subnet) == {'a': [('conv', 0.3), ('skip', 0.2)]}


def test_ties_go_to_the_first() -> None:
    equal = [1 / 3] * 3
    subnet = found(node(2, with_arch_param=False), dict.fromkeys(EDGES, equal))
    assert {key: entry['chosen'] for key, entry in subnet.items()} == {
        'node': ['e0', 'e1'],
        'op0': ['skip'],
        'op1': ['skip'],
    }


def test_probabilities_are_those_among_all_choices() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5])
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(op('a'))
    with torch.no_grad():
        mutator.arch_params['a'].copy_(logits)
    (probability,) = mutator.search_subnet()['a']['chosen_probs']
    total = math.exp(2) + math.exp(-1) + math.exp(0.5)
    assert isinstance(probability, float)
    assert probability == pytest.approx(math.exp(0.5) / total, rel=1e-6)


def test_an_edge_in_an_edge() -> None:
    inner = mm.DifferentiableEdge(
        space_id='inner',
        with_arch_param=False,
        choices={'i0': nn.Sequential(op('op1')), 'i1': nn.Sequential(op('op2'))},
    )
    outer = mm.DifferentiableEdge(
        space_id='outer',
        with_arch_param=False,
        choices={'o0': nn.Sequential(op('op0')), 'o1': nn.Sequential(inner)},
    )
    assert summary(found(outer, EDGES)) == {
        'outer': [('o1', 0.59)],
        'inner': [('i1', 0.59)],
        'op2': [('conv', 0.59)],
    }


def test_a_space_that_lives_in_kept_and_dropped_places() -> None:
    supernet = nn.ModuleDict({'node': node(1, with_arch_param=False), 'op': op('op0')})
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    with torch.no_grad():
        mutator.arch_params['op1'][1] = 5.0
    subnet = mutator.search_subnet()
    assert set(subnet) == {'node', 'op1', 'op0'}
    net = mutator.export_subnet(supernet, subnet)
    assert [type(m) for m in net.modules() if isinstance(m, mm.MutableModule)] == []


def pick(space_id: str, **choices: nn.Module) -> Any:
    return mm.DifferentiableEdge(space_id=space_id, choices=choices)


@pytest.mark.parametrize(
    ('build', 'stays'),
    [
        (lambda s, i: pick('node', a=s, b=s), True),
        (lambda s, i: nn.Sequential(pick('node', a=i, b=s), s), True),
        (lambda s, i: nn.Sequential(s, pick('node', a=i, b=s)), True),
        (lambda s, i: nn.Sequential(pick('node', a=i, b=s), pick('other', a=s, b=i)), True),
        (lambda s, i: nn.Sequential(pick('node', a=i, b=s), pick('other', a=i, b=s)), False),
        (lambda s, i: pick('node', a=i, b=pick('other', a=s, b=s)), False),
    ],
    ids=['in both', 'after', 'before', 'kept by another', 'dropped twice', 'dropped whole'],
)
def test_one_instance_in_several_places(build: Any, stays: bool) -> None:
    supernet = build(nn.Sequential(op('shared')), nn.Identity())
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    with torch.no_grad():
        for space_id in {'node', 'other'} & set(mutator.arch_params):
            mutator.arch_params[space_id].copy_(torch.tensor([9.0, 0.0]))  # Keep ``a``.
    subnet = mutator.search_subnet()
    assert ('shared' in subnet) == stays
    net = mutator.export_subnet(supernet, subnet)
    assert [type(m) for m in net.modules() if isinstance(m, mm.MutableModule)] == []
    mutator.deploy_subnet(supernet, subnet)
    assert all(mutable.is_fixed for mutable in mm.mutables.find_mutables(supernet))


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_logits_that_are_not_finite(value: float) -> None:
    for mutator_type in ('DartsMutator', 'SNASMutator', 'GDASMutator'):
        _, mutator = toys.prepared(mutator_type)
        with torch.no_grad():
            mutator.arch_params['shared'][2] = value
        with pytest.raises(SearchSpaceError, match=r"'shared'.*\[nan, .*has diverged"):
            mutator.search_subnet()


def test_nothing_left_to_choose() -> None:
    mutator = mm.DartsMutator(ignore_choices=NAMES)
    mutator.prepare_from_supernet(op('a'))
    message = r"'a'.*none, skip, conv.*\('none', 'skip', 'conv'\) leaves \[\]"
    for act in (mutator.search_subnet, mutator.random_subnet):
        with pytest.raises(SearchSpaceError, match=message):
            act()
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(op('a', num_chosen=3))
    with pytest.raises(SearchSpaceError, match=r"'a': 3 of .* leaves \['skip', 'conv'\]"):
        mutator.search_subnet()


def test_a_node_that_cannot_be_rated() -> None:
    plain = {'e0': nn.Identity(), 'e1': nn.Identity()}
    supernet = mm.DifferentiableEdge(space_id='node', with_arch_param=False, choices=plain)
    with pytest.raises(
        SearchSpaceError, match=r"'node'.*'e0' cannot be rated.*with_arch_param"
    ):
        found(supernet, {})


@pytest.mark.parametrize('value', ['none', None, 3])
def test_ignore_choices_that_are_no_list(value: Any) -> None:
    with pytest.raises(SearchSpaceError, match=f'`ignore_choices` .*but got {value!r}'):
        mm.DartsMutator(ignore_choices=value)


@pytest.mark.parametrize(
    'kind', [mm.DartsMutator, mm.GDASMutator, mm.NasMutator, mm.RandomMutator]
)
def test_before_prepare_there_is_nothing_to_read(kind: Any) -> None:
    mutator = kind()
    for call in (mutator.search_subnet, mutator.random_subnet):
        with pytest.raises(BindingError, match='has no supernet yet; call prepare'):
            call()


def test_reading_off_after_deploy() -> None:
    supernet, mutator = toys.prepared()
    subnet = mutator.search_subnet()
    mutator.deploy_subnet(supernet, subnet)
    assert mutator.search_subnet() == subnet
