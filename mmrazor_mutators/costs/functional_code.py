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
from ..mutables.attention import SlimAttention, head_layout
from ..mutables.layers import CONVS, TRANSPOSED
from .model import Term
from .parts import Conditions, Part
from .tables import product
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

    Attention is known to cost as much as it has heads.  For the features that it reads, and
    for any other code, networks are exported that differ in one choice, to see what it
    depends on.

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
        heads = _share_of_heads(part)
        found[id(part.module)] = Term(heads.spaces, own * heads.table)
        reads = any(m.module is part.module and m.axis == 'in' for _, m in part.members)
        if reads or not heads.spaces:
            unknown.append(part)
    if unknown and any(plan.ties for _, plan in find_plans(supernet)):
        _probe(supernet, unknown, found, arguments)
    return found


def _share_of_heads(part: Part) -> Term:
    """Return which share of the heads of attention each choice keeps; 1 for other code."""
    for tie, member in part.members:
        of_it = member.module is part.module and member.parameter is None
        if of_it and member.axis == 'out' and head_layout(part.module) is not None:
            return Term((tie.space_id,), member.alive.double().mean(1))
    return Term((), torch.ones((), dtype=torch.float64))


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
        return {id(part.module): _spent(copies.get(id(part.module)), own) for part in parts}

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
            heads = _share_of_heads(part)
            own = [sid for sid in depends[id(part.module)] if sid not in heads.spaces]
            if own:
                table = _table(part, own, spaces, base, measure)
                found[id(part.module)] = product(table, heads)


def _spent(module: nn.Module | None, own: Mapping[int, float]) -> float:
    """Return what the code of a module of an exported network has cost."""
    spent = own.get(id(module), 0.0)
    if isinstance(module, SlimAttention):
        # It calls a layer for what the attention of PyTorch does by itself.
        spent += own.get(id(module.out_proj), 0.0)
    return spent


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
