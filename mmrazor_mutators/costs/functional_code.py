"""Multiply-adds of code that is no layer, as attention or a product of two maps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import SearchSpaceError
from ..mutables import build_search_spaces, find_plans, network_of
from ..mutables.attention import head_layout
from ..mutables.layers import CONVS, TRANSPOSED
from .model import Term
from .parts import Conditions, Part
from .tracing import Arguments, Trace, trace

__all__ = ['functional_macs']

_LAYERS = (*CONVS, *TRANSPOSED, nn.Linear)
_MOST_PROBES = 256


def functional_macs(
    supernet: nn.Module,
    parts: Sequence[Part],
    seen: Trace,
    arguments: Arguments,
) -> dict[int, Term]:
    """Return the multiply-adds of code of modules, by their ids, over the choices of widths.

    Attention is known to cost as much as it has heads.  For any other code networks are
    exported that differ in one choice, to see what it depends on.

    Args:
        supernet: Any.
        parts: Its parts.
        seen: A pass in which all choices ran.
        arguments: What to call exported networks with.

    Raises:
        SearchSpaceError: Code that depends on too many choices at once.
    """
    found: dict[int, Term] = {}
    unknown = []
    for part in parts:
        own = seen.own.get(id(part.module), 0.0)
        if own <= 0 or isinstance(part.module, _LAYERS):
            continue
        heads = [
            (tie, member)
            for tie, member in part.members
            if member.module is part.module and member.parameter is None
        ]
        if heads and head_layout(part.module) is not None:
            tie, member = heads[0]
            shares = member.alive.double().mean(1)
            found[id(part.module)] = Term((tie.space_id,), own * shares)
        else:
            found[id(part.module)] = Term((), torch.tensor(own, dtype=torch.float64))
            unknown.append(part)
    if unknown and any(plan.ties for _, plan in find_plans(supernet)):
        _probe(supernet, unknown, found, arguments)
    return found


def _probe(
    supernet: nn.Module,
    parts: Sequence[Part],
    found: dict[int, Term],
    arguments: Arguments,
) -> None:
    """Replace constants by tables for code whose cost depends on widths."""
    spaces = {tie.space_id: tie.names for _, plan in find_plans(supernet) for tie in plan.ties}
    everywhere = build_search_spaces(supernet)
    original = {
        sid: getattr(space['modules'][0], 'original', None) or space['choice_names'][-1]
        for sid, space in everywhere.items()
    }
    by_place: dict[Conditions, list[Part]] = {}
    for part in parts:
        by_place.setdefault(part.places[0], []).append(part)

    def measure(chosen: Mapping[str, str]) -> dict[int, float]:
        copies: dict[int, Any] = {}
        subnet = {sid: {'chosen': [name]} for sid, name in chosen.items()}
        net = network_of(supernet, subnet, copies)
        own = trace(net, arguments).own
        return {id(p.module): own.get(id(copies.get(id(p.module))), 0.0) for p in parts}

    for place, together in by_place.items():
        base = {**original, **dict(place)}
        before = measure(base)
        depends: dict[int, list[str]] = {id(part.module): [] for part in together}
        for sid, names in spaces.items():
            for name in names:
                if name == base[sid]:
                    continue
                after = measure({**base, sid: name})
                for key, dependent in depends.items():
                    if after[key] != before[key] and sid not in dependent:
                        dependent.append(sid)
        for part in together:
            own = depends[id(part.module)]
            if own:
                found[id(part.module)] = _table(part, own, spaces, base, measure)


def _table(
    part: Part,
    own: Sequence[str],
    spaces: Mapping[str, tuple[str, ...]],
    base: Any,
    measure: Any,
) -> Term:
    sizes = [len(spaces[sid]) for sid in own]
    if math.prod(sizes) > _MOST_PROBES:
        raise SearchSpaceError(
            f'The cost of the code of {part.name!r} depends on {len(own)} spaces at once '
            f'({", ".join(own)}); let some of them share one space, or move it into layers'
        )
    values = [
        measure({**base, **dict(zip(own, names, strict=True))})[id(part.module)]
        for names in itertools.product(*(spaces[sid] for sid in own))
    ]
    return Term(tuple(own), torch.tensor(values, dtype=torch.float64).reshape(sizes))
