"""Choices of the number of heads of attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import SearchSpaceError
from ..mutables import Member, SearchPlan, Tie
from ..mutables.attention import head_layout
from .rules import Place
from .widths import mask_features

__all__ = ['add_heads']


def add_heads(place: Place, plan: SearchPlan) -> None:
    """Let the number of heads be chosen in a module that attends.

    Raises:
        SearchSpaceError: A module that is not known to attend, or illegal numbers.
    """
    module: Any = place.module
    layout = head_layout(module)
    simple = getattr(module, '_qkv_same_embed_dim', True) and not getattr(
        module, 'add_zero_attn', False
    )
    if layout is None or not simple or getattr(module, 'bias_k', None) is not None:
        raise SearchSpaceError(
            f'At {place}: expected an nn.MultiheadAttention with keys and values of its own '
            'width, without bias_kv and zero_attn, or a module with `num_heads`, `qkv` and '
            '`proj`'
        )
    heads, size = layout
    counts: set[int] = {heads}
    values = place.value if isinstance(place.value, Sequence) else ()
    if isinstance(values, (str, bytes)) or not values:
        raise SearchSpaceError(f'At {place}: expected a list of numbers of heads')
    for value in values:
        number = (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
        )
        fraction = isinstance(value, float) and 0 < value <= 1
        count = round(value * heads) if fraction else (int(value) if number else 0)
        if not 1 <= count <= heads or (number and not fraction and count != value):
            raise SearchSpaceError(
                f'At {place}: expected numbers of heads from 1 to {heads}, or fractions of '
                f'them, but got {value!r}'
            )
        counts.add(count)
    if len(counts) < 2:
        raise SearchSpaceError(f'At {place}: expected fewer heads than the original, {heads}')
    ordered = sorted(counts)
    keep = torch.stack([torch.arange(heads * size) < count * size for count in ordered])
    tie = Tie(place.space_id, tuple(f'h{count}' for count in ordered))
    projection = module.out_proj if isinstance(module, nn.MultiheadAttention) else module.proj
    tie.members.append(Member(projection, 'in', keep))
    if not isinstance(module, nn.MultiheadAttention):
        tie.members.append(Member(module.qkv, 'out', keep.repeat(1, 3)))
    tie.members.append(Member(module, 'out', keep))
    mask_features(tie.members[0], tie)
    plan.ties.append(tie)
