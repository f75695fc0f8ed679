"""What a converted model knows of itself: which features of which layers live together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from ..errors import InputError

__all__ = [
    'Axis',
    'Member',
    'SearchPlan',
    'Tie',
    'arguments_of',
    'find_plans',
    'plan_of',
    'set_plan',
]

Axis = Literal['in', 'out']
"""Which features of a layer: those that it reads, or those that it returns."""

_KEY = '_search_plan'


@dataclass
class Member:
    """The features of one layer that a choice of width keeps or removes.

    Attributes:
        module: The layer; the same object as in the supernet.
        axis: Whether they are its inputs or its outputs.
        alive: Bool, shape ``(num_choices, num_features)``: which features each choice keeps.
        parameter: Name of a parameter of ``module`` that belongs to no layer, which has the
            features on its dimension ``dim``; ``None`` for a layer.
        dim: See ``parameter``.
    """

    module: nn.Module
    axis: Axis
    alive: Tensor
    parameter: str | None = None
    dim: int = 0


@dataclass
class Tie:
    """All layers whose features one choice of width keeps or removes together.

    A layer may be a member of several ties on one axis, as after a concatenation: a feature
    lives if all of them keep it.

    Attributes:
        space_id: The space.
        names: Its choices, in the order of the rows of ``alive``.
        members: The layers.
    """

    space_id: str
    names: tuple[str, ...]
    members: list[Member] = field(default_factory=list)


@dataclass
class SearchPlan:
    """What :func:`~mmrazor_mutators.make_searchable` has made of a model.

    It is kept beside the modules of the model and copied and pickled with them.

    Attributes:
        ties: One for each space of widths.
        example_inputs: ``(args, kwargs)`` that the model can be called with.
        replaced: ``(parent, name, original)`` of the modules that mutables stand for.
    """

    ties: list[Tie] = field(default_factory=list)
    example_inputs: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    replaced: list[tuple[nn.Module, str, nn.Module]] = field(default_factory=list)

    def members_of(self, module: nn.Module) -> Iterator[tuple[Tie, Member]]:
        """Yield the ties that a layer belongs to, with its part in each."""
        for tie in self.ties:
            for member in tie.members:
                if member.module is module:
                    yield tie, member


def plan_of(module: nn.Module) -> SearchPlan | None:
    """Return the plan of a converted model, ``None`` for any other module."""
    return vars(module).get(_KEY)


def set_plan(module: nn.Module, plan: SearchPlan | None) -> None:
    """Keep a plan with the model that it belongs to, or forget it."""
    vars(module).pop(_KEY, None)
    if plan is not None:
        vars(module)[_KEY] = plan


def find_plans(supernet: nn.Module) -> Iterator[tuple[nn.Module, SearchPlan]]:
    """Yield every converted model inside of a supernet, with its plan."""
    for module in supernet.modules():
        plan = plan_of(module)
        if plan is not None:
            yield module, plan


def arguments_of(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return ``(args, kwargs)`` of what a user gives as example inputs.

    Args:
        example_inputs: A tensor, a tuple of arguments or a dict of keyword arguments.

    Raises:
        InputError: Anything else.
    """
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs), {}
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    raise InputError(
        'Expected `example_inputs` to be a tensor, a tuple of arguments or a dict of keyword '
        f'arguments, but got {type(example_inputs).__name__}'
    )
