"""What becomes of a converted model in which every choice is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from .layers import SearchableLayer, restore_layer
from .plan import find_plans
from .sizes import DifferentiableKernel
from .slicing import crop_kernel, keep_features, keep_slices

__all__ = ['settle']


def settle(
    supernet: nn.Module, chosen: Mapping[str, Sequence[str]], copies: Mapping[int, Any]
) -> None:
    """Make the copies of a supernet's layers as small as was chosen, in place.

    Args:
        supernet: From which they were copied.
        chosen: ``{space_id: names}``.
        copies: By the id of each layer its copy; layers that were not copied are gone.
    """
    for layer in supernet.modules():
        if isinstance(layer, SearchableLayer) and id(layer) in copies:
            _settle_layer(layer, copies[id(layer)], chosen)
    for _, plan in find_plans(supernet):
        alive: dict[tuple[int, str, str | None], Tensor] = {}
        members = {}
        for tie in plan.ties:
            if tie.space_id not in chosen:
                continue  # All that reads it stands inside of a choice that was not made.
            row = tie.names.index(chosen[tie.space_id][-1])
            for member in tie.members:
                if id(member.module) in copies:
                    key = id(member.module), member.axis, member.parameter
                    kept = member.alive[row]
                    alive[key] = alive[key] & kept if key in alive else kept
                    members[key] = member
        for key, member in members.items():
            if alive[key].all():
                continue
            copy = copies[id(member.module)]
            if member.parameter is not None:
                keep_slices(copy, member.parameter, member.dim, alive[key])
            else:
                keep_features(copy, member.axis, alive[key])


def _settle_layer(
    layer: SearchableLayer, copy: nn.Module, chosen: Mapping[str, Sequence[str]]
) -> None:
    kernel = layer.mutables._modules.get('kernel')
    weight = cast(Tensor, copy._parameters['weight']) if kernel is not None else None
    if kernel is not None and copy._parameters.get('outer') is not None:
        with torch.no_grad():
            weight = cast(Any, copy).whole_weight()
    restore_layer(copy)
    if isinstance(kernel, DifferentiableKernel) and weight is not None:
        size = kernel.sizes[chosen[kernel.space_id][-1]]
        if size != tuple(cast(Any, copy).kernel_size):
            crop_kernel(copy, weight, size)
