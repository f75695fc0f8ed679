"""The parts of a supernet, where they stand, and what they become under choices."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..mutables import (
    Member,
    MutableModule,
    SearchableLayer,
    Tie,
    find_mutables,
    holder_of,
    members_by_layer,
    settle_layer,
)

__all__ = ['Conditions', 'Part', 'find_parts', 'find_places']

Conditions = tuple[tuple[str, str], ...]
"""``(space_id, choice)`` of every choice that a place stands inside of, outer ones first."""


@dataclass
class Part:
    """A module of a supernet with its own parameters or computations.

    Attributes:
        name: Its qualified name.
        module: As it is in the supernet.
        places: The conditions of each place where it stands; without any, one empty tuple.
        members: The ties of its features.
        choices: ``{space_id: names}`` of the spaces that change what it is.
    """

    name: str
    module: nn.Module
    places: list[Conditions] = field(default_factory=list)
    members: Sequence[tuple[Tie, Member]] = ()
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def settled(self, chosen: Mapping[str, str]) -> nn.Module:
        """Return what the module becomes, on the meta device and without its children.

        Args:
            chosen: A choice for each of :attr:`choices`.
        """
        if isinstance(self.module, MutableModule):
            plain = self.module.plain([chosen[self.module.space_id]], copy.deepcopy)
            return plain.to('meta')
        twin = _emptied(self.module)
        settle_layer(self.module, twin, self.members, {s: [n] for s, n in chosen.items()})
        return twin

    @property
    def reads_several(self) -> tuple[str, ...]:
        """Ids of the spaces of its inputs where there are several, as after concatenation."""
        spaces = tuple(
            tie.space_id
            for tie, member in self.members
            if member.axis == 'in' and member.parameter is None
        )
        distinct = tuple(dict.fromkeys(spaces))
        return distinct if len(distinct) > 1 else ()


def _emptied(module: nn.Module) -> nn.Module:
    """Return a shallow copy of a module whose own tensors lie on the meta device."""
    twin = module.__class__.__new__(module.__class__)
    twin.__dict__ = dict(module.__dict__)
    twin.__dict__['_modules'] = dict(module._modules)
    for kind in ('_parameters', '_buffers'):
        tensors: dict[str, Any] = {}
        for name, tensor in getattr(module, kind).items():
            if tensor is not None:
                empty = torch.empty_like(tensor, device='meta')
                tensor = nn.Parameter(empty, tensor.requires_grad) if kind[1] == 'p' else empty
            tensors[name] = tensor
        twin.__dict__[kind] = tensors
    return twin


def find_parts(supernet: nn.Module) -> Iterator[Part]:
    """Yield every module of a supernet that stays in some network, containers included."""
    places = find_places(supernet)
    members = members_by_layer(supernet)
    names = {sid: m.full_choice_names for m in find_mutables(supernet) for sid in [m.space_id]}
    for name, module in supernet.named_modules():
        if id(module) not in places:
            continue
        if isinstance(module, MutableModule) and holder_of(module) is not None:
            continue
        part = Part(name, module, places[id(module)], members.get(id(module), ()))
        for tie, _ in part.members:
            part.choices[tie.space_id] = tie.names
        if isinstance(module, SearchableLayer):
            kernel: Any = module.mutables._modules.get('kernel')
            if kernel is not None:
                part.choices[kernel.space_id] = names[kernel.space_id]
        if isinstance(module, MutableModule):
            part.choices[module.space_id] = names[module.space_id]
        yield part


def find_places(supernet: nn.Module) -> dict[int, list[Conditions]]:
    """Return by the id of each module the conditions of the places where it stands."""
    found: dict[int, list[Conditions]] = {}

    def visit(module: nn.Module, conditions: Conditions) -> None:
        known = found.setdefault(id(module), [])
        if conditions in known:
            return
        known.append(conditions)
        holder = holder_of(module) if isinstance(module, MutableModule) else None
        own = module.mutables if isinstance(module, SearchableLayer) else None
        for child in module.children():
            if child is holder:
                for name, choice in holder.items():
                    visit(choice, (*conditions, (module.space_id, name)))  # type: ignore
            elif child is not own:
                visit(child, conditions)

    visit(supernet, ())
    return found
