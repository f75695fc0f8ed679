"""Holes that may stay empty: a plain module stands in them then."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import toys
from torch import nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import SearchSpaceError
from mmrazor_mutators.mutables import SelectedSum, convert_placeholders, find_mutables

OPS = {'cell': {'type': 'DifferentiableOP', 'choices': toys.candidates()}}
EDGES = {'node': {'type': 'DifferentiableEdge', 'with_arch_param': True}}


def holes() -> nn.Module:
    inputs = nn.ModuleDict({name: mm.Placeholder('cell', name) for name in 'pq'})
    total = SelectedSum(dict(inputs.items()), range(2))
    node = mm.Placeholder('node', 'sum', choices=inputs, num_chosen=2, default=total)
    return nn.Sequential(node)


def tree(module: nn.Module) -> list[tuple[str, int]]:
    return [(name, id(m)) for name, m in module.named_modules(remove_duplicate=False)]


def test_the_default_stands_where_the_mapping_lacks_the_group() -> None:
    net = holes()
    default, before = net[0].default, tree(net)
    undo = convert_placeholders(net, OPS)
    assert net[0] is default
    assert [m.space_id for m in find_mutables(net)] == ['p', 'q']
    undo()
    assert tree(net) == before
    undo = convert_placeholders(net, {**OPS, **EDGES})
    assert [m.space_id for m in find_mutables(net)] == ['sum', 'p', 'q']
    assert net[0].num_chosen == 2
    undo()
    assert tree(net) == before


def test_both_compute_the_same_where_weights_are_one() -> None:
    net, alpha = holes(), torch.randn(4)
    twin = copy.deepcopy(net)
    convert_placeholders(net, OPS)
    convert_placeholders(twin, {**OPS, 'node': {**EDGES['node'], 'with_arch_param': False}})
    x = [torch.randn(3, 4), torch.randn(3, 4)]
    for module in (net, twin):
        for mutable in find_mutables(module):
            if isinstance(mutable, mm.DifferentiableOP):
                mutable.forward = lambda x, op=mutable: type(op).forward(op, x, alpha)
    assert_close(net(x), twin(x), rtol=0, atol=0)


def test_the_mapping_overrules_how_many_are_chosen() -> None:
    net = holes()
    convert_placeholders(net, {**OPS, 'node': {**EDGES['node'], 'num_chosen': 1}})
    assert net[0].num_chosen == 1


def test_a_default_moves_with_the_network() -> None:
    hole = mm.Placeholder('node', 'a', default=nn.Linear(2, 2))
    net = nn.Sequential(hole).double()
    convert_placeholders(net, {})
    assert net[0].weight.dtype == torch.float64


@pytest.mark.parametrize('default', ['sum', nn.Linear])
def test_a_default_that_is_no_module(default: Any) -> None:
    with pytest.raises(SearchSpaceError, match=r"'a': .*`default` .*module or None, but got"):
        mm.Placeholder('node', 'a', default=default)


def test_without_a_default_a_group_is_needed() -> None:
    net = nn.Sequential(mm.Placeholder('node', 'a', choices=toys.candidates(), num_chosen=2))
    with pytest.raises(SearchSpaceError, match=r"'a' is of group 'node', which .* lacks"):
        convert_placeholders(net, {})
