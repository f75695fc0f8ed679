"""Choices of how many features live: widths, expansions, hidden units, heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SearchSpaceError
from ..mutables import DifferentiableChannel, Member, SearchPlan, Tie, make_searchable_layer
from ..mutables.attention import reads_alike
from ..mutables.layers import TRANSPOSED, is_norm, original_class
from .reach import READERS, check_linked
from .rules import Place
from .ties import Linked, TieFinder, hidden_layers, num_features

__all__ = ['add_width', 'follow', 'mask_features', 'producers']


def follow(place: Place, model: nn.Module, finder: TieFinder) -> tuple[nn.Module, list[Linked]]:
    """Return the layer whose width is chosen in a place, and all that hangs on it.

    Args:
        place: Of kind ``'width'``, ``'expansion'`` or ``'ffn'``.
        model: The model.
        finder: Knows what is tied.

    Raises:
        SearchSpaceError: A place in which no width can be chosen.
    """
    layer = place.module if place.kind == 'width' else _hidden_layer(place, finder)
    if not isinstance(layer, (*READERS, nn.Embedding)):
        raise SearchSpaceError(
            f'At {place}: expected a convolution, a linear layer or an embedding, whose '
            f'channels can be counted, but got {type(layer).__name__}'
        )
    if not finder.runs(layer):
        raise SearchSpaceError(
            f'At {place}: expected a layer that a forward pass calls, and on which the outputs '
            'of the model depend, but it is none; leave it out'
        )
    linked = finder.linked(layer)
    check_linked(place, model, linked)
    return layer, linked


def add_width(
    place: Place, layer: nn.Module, linked: Sequence[Linked], plan: SearchPlan
) -> None:
    """Let widths be chosen in a place, and in all that is tied to it.

    Args:
        place: Of kind ``'width'``, ``'expansion'`` or ``'ffn'``.
        layer: The layer whose features are counted.
        linked: What hangs on them; see :func:`follow`.
        plan: Gets the tie.

    Raises:
        SearchSpaceError: Widths for which this is impossible.
    """
    count = num_features(layer, 'out')
    widths, prefix = _widths(place, layer, count)
    valid = _valid_widths(linked, count)
    names = {}
    for width, said in widths.items():
        fitting = min(valid, key=lambda w: (abs(w - width), w))
        exact = place.kind != 'expansion' and isinstance(said, int)
        if fitting != width and exact:
            raise SearchSpaceError(
                f'At {place}: a width of {width} cuts through a group of channels; possible '
                f'are {", ".join(map(str, valid))}'
            )
        names[f'{prefix}{fitting if prefix == "w" else f"{said:g}"}'] = fitting
    names = dict(sorted(names.items(), key=lambda pair: pair[1]))
    if len(set(names.values())) < 2:
        raise SearchSpaceError(
            f'At {place}: expected a smaller width than that of the original, {count}, but '
            f'after rounding there is {list(names.values())}'
        )
    keep = torch.stack([torch.arange(count) < width for width in names.values()])
    _add_tie(place, plan, Tie(place.space_id, tuple(names)), linked, keep)


def _hidden_layer(place: Place, finder: TieFinder) -> nn.Module:
    """Return the first layer of a block whose features stay inside of it."""
    if isinstance(place.module, READERS):
        return place.module
    layers = [m for m in place.module.modules() if isinstance(m, READERS)]
    hidden = hidden_layers(finder, place.module, layers)
    if not hidden:
        raise SearchSpaceError(
            f'At {place}: expected a block with features that nobody outside of it sees, but '
            'there are none; match the block as a whole, or give `width` for a layer'
        )
    return hidden[0]


def _widths(place: Place, layer: nn.Module, count: int) -> tuple[dict[int, Any], str]:
    """Return ``{width: what the rule says}``, and the first letter of the names."""
    values = place.value
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence) or not values:
        raise SearchSpaceError(
            f'At {place}: expected a list of numbers, such as [0.5, 1.0] of {count} channels'
        )
    expansion = place.kind == 'expansion'
    ins = num_features(layer, 'in') if not isinstance(layer, nn.Embedding) else 1
    original: Any = count / ins if expansion else count
    widths: dict[int, Any] = {}
    for value in values:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        width = _width_of(value, count, ins, expansion) if number else 0
        if expansion and width > count:
            continue  # Blocks that one rule matches may have other ratios.
        if not 1 <= width <= count:
            raise SearchSpaceError(
                f'At {place}: expected '
                + (
                    f'ratios above 0 and at most {original:g}, that of the original'
                    if expansion
                    else f'counts from 1 to {count}, or fractions above 0 and at most 1'
                )
                + f', but got {value!r}'
            )
        widths[width] = value
    widths[count] = original
    return widths, 'e' if expansion else 'w'


def _width_of(value: float, count: int, ins: int, expansion: bool) -> int:
    if not 0 < value < math.inf:
        return 0
    if expansion:
        return round(value * ins)
    if isinstance(value, float) and value <= 1:
        return max(1, round(value * count))
    return int(value) if value == int(value) else 0


def _valid_widths(linked: Sequence[Linked], count: int) -> list[int]:
    """Return the widths that cut through no group of a grouped convolution or norm."""
    valid = []
    for width in range(1, count + 1):
        keep = torch.arange(count) < width
        if all(_whole_groups(part, keep) for part in linked):
            valid.append(width)
    return valid


def _whole_groups(part: Linked, keep: Tensor) -> bool:
    module: Any = part.module
    groups = getattr(module, 'groups', 1)
    if isinstance(module, nn.GroupNorm):
        groups = module.num_groups
    if groups == 1 or part.parameter is not None:
        return True
    rows = _alive(part, keep[None])[0].view(groups, -1)
    return bool((rows.all(1) | ~rows.any(1)).all())


def _alive(part: Linked, keep: Tensor) -> Tensor:
    """Return which features of a layer live, shape ``(num_choices, num_features)``."""
    module = part.module
    if part.parameter is not None:
        total = module._parameters[part.parameter].shape[part.dim]  # type: ignore[union-attr]
    else:
        total = num_features(module, part.axis)
    alive = torch.ones(len(keep), total, dtype=torch.bool)
    alive[:, part.own] = keep[:, part.root]
    return alive


def _add_tie(
    place: Place, plan: SearchPlan, tie: Tie, linked: Sequence[Linked], keep: Tensor
) -> None:
    """Take a tie into the plan, and let all that reads its features choose."""
    for other in plan.ties:
        if producers(other.members) == producers(linked):
            _check_same(place, other, tie)
            return
    members = [
        Member(part.module, part.axis, _alive(part, keep), part.parameter, part.dim)
        for part in linked
    ]
    readers = [member for member in members if _needs_mask(member)]
    for member in readers:
        for name, row in zip(tie.names, member.alive, strict=True):
            if not row.any():
                raise SearchSpaceError(
                    f'At {place}: of its channels, {name!r} would leave none of those that a '
                    f'{original_class(member.module).__name__} reads, which gets a part of '
                    'them, as by chunk or a slice; leave this place out'
                )
    if not any(member.axis == 'in' for member in members):
        raise SearchSpaceError(
            f'At {place}: no layer reads its channels, so that they are the output of the '
            'model; leave this place out'
        )
    tie.members.extend(members)
    for member in readers:
        mask_features(member, tie)
    if not readers:
        # Whole groups are read by their own channels alone; somebody has to hold the space.
        raise SearchSpaceError(
            f'At {place}: its channels are read by grouped layers alone; choose the width of '
            'a layer around them'
        )
    plan.ties.append(tie)


def producers(members: Sequence[Any]) -> set[int]:
    """Return the ids of the layers that return features of a tie."""
    return {id(member.module) for member in members if member.axis == 'out'}


def _check_same(place: Place, other: Tie, tie: Tie) -> None:
    if other.names != tie.names:
        raise SearchSpaceError(
            f'At {place}: its channels are tied to those of space {other.space_id!r}, where '
            f'{", ".join(other.names)} can be chosen, but here {", ".join(tie.names)}; give '
            'both the same widths, or let only one rule match'
        )


def _needs_mask(member: Member) -> bool:
    module: Any = member.module
    if member.parameter is not None:
        return False
    if is_norm(module):
        return True
    if member.axis != 'in':
        return False
    reads_all = isinstance(module, READERS) and getattr(module, 'groups', 1) == 1
    return reads_all or reads_alike(module)


def mask_features(member: Member, tie: Tie) -> None:
    """Let a layer choose which of its features it reads."""
    module = member.module
    dim = 0 if isinstance(module, TRANSPOSED) or is_norm(module) else 1
    masks = dict(zip(tie.names, member.alive.float(), strict=True))
    mutable = DifferentiableChannel(
        masks=masks, original=tie.names[-1], dim=dim, space_id=tie.space_id
    )
    like = (
        next(p for p in module._parameters.values() if p is not None)
        if module._parameters
        else None
    )
    if like is not None:
        mutable.to(device=like.device)
    mutable.train(module.training)
    held = getattr(module, 'mutables', {})
    number = sum(name.startswith('in') for name in held)
    make_searchable_layer(module, f'in{number}', mutable)
