"""Gradient descent on a space that has no architecture parameter."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators.errors import SearchSpaceError


def net(*mutables: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), *mutables)


def one_shot(space_id: str) -> Any:
    return mm.OneShotOP(space_id=space_id, choices={'a': nn.Identity(), 'b': nn.ReLU()})


def weighed(space_id: str, with_arch_param: bool) -> Any:
    choices = {'a': nn.Identity(), 'b': nn.ReLU()}
    return mm.DifferentiableOP(
        with_arch_param=with_arch_param, space_id=space_id, choices=choices
    )


def test_one_shot_choices_alone() -> None:
    supernet = net(one_shot('x'), one_shot('y'))
    mutator = mm.DartsMutator()
    message = r"but all of 'x', 'y' are OneShotOP; use DifferentiableOP.*an OneShotMutator"
    with pytest.raises(SearchSpaceError, match=message):
        mutator.prepare_from_supernet(supernet)
    assert not mutator.search_spaces
    # Nothing was changed, so that the mutator that is named can take over.
    mm.OneShotMutator().prepare_from_supernet(supernet)


def test_placeholders_are_put_back() -> None:
    supernet = net(mm.Placeholder(group='g', space_id='x'))
    choices = {'a': nn.Identity(), 'b': nn.ReLU()}
    mapping = {'g': {'type': 'OneShotOP', 'choices': choices}}
    with pytest.raises(SearchSpaceError, match="all of 'x' are OneShotOP"):
        mm.DartsMutator(placeholder_mapping=mapping).prepare_from_supernet(supernet)
    assert isinstance(supernet[1], mm.Placeholder)


@pytest.mark.parametrize(
    ('mutables', 'expected'),
    [
        ([('x', True)], ['x']),
        ([None, ('x', True)], ['x']),
        # As in the configs of a retraining, whose subnet comes from a file.
        ([('x', False)], []),
    ],
)
def test_what_is_left_to_learn(mutables: list[Any], expected: list[str]) -> None:
    made = [one_shot('o') if m is None else weighed(*m) for m in mutables]
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(net(*made))
    assert list(mutator.arch_params) == expected
