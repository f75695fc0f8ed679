"""What becomes of a converted model in which every choice is made."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..typing import Subnet
from .attention import SlimAttention
from .layers import features_of
from .plain import EmptyDecoder, EmptyEncoder, Skip
from .plan import Member, Tie, find_plans, set_plan
from .searchable_layers import SearchableLayer, restore_layer
from .sizes import DifferentiableKernel
from .slicing import crop_kernel, keep_features, keep_slices, may_overrun
from .subnet import match_subnet

__all__ = ['members_by_layer', 'network_of', 'settle_layer']


_EMPTY = {nn.TransformerEncoder: EmptyEncoder, nn.TransformerDecoder: EmptyDecoder}


def _settle(
    supernet: nn.Module, chosen: Mapping[str, Sequence[str]], copies: Mapping[int, Any]
) -> None:
    """Make the copies of a supernet's layers as small as was chosen, in place.

    Args:
        supernet: From which they were copied.
        chosen: ``{space_id: names}``.
        copies: By the id of each layer its copy; layers that were not copied are gone.
    """
    members = members_by_layer(supernet)
    for layer in supernet.modules():
        if id(layer) in copies:
            settle_layer(layer, copies[id(layer)], members.get(id(layer), ()), chosen)


def members_by_layer(supernet: nn.Module) -> dict[int, list[tuple[Tie, Member]]]:
    """Return by the id of each layer the ties that its features belong to."""
    found: dict[int, list[tuple[Tie, Member]]] = {}
    for _, plan in find_plans(supernet):
        for tie in plan.ties:
            for member in tie.members:
                found.setdefault(id(member.module), []).append((tie, member))
    return found


def settle_layer(
    layer: nn.Module,
    copy: nn.Module,
    members: Sequence[tuple[Tie, Member]],
    chosen: Mapping[str, Sequence[str]],
) -> None:
    """Make the copy of one layer as small as was chosen, in place.

    Args:
        layer: As it is in the supernet.
        copy: Changed.
        members: Of the layer; see :func:`members_by_layer`.
        chosen: ``{space_id: names}``.
    """
    if isinstance(layer, SearchableLayer):
        _settle_kernel(layer, copy, chosen)
    alive: dict[tuple[str, str | None], Tensor] = {}
    dims: dict[tuple[str, str | None], int] = {}
    for tie, member in members:
        if tie.space_id not in chosen:
            continue  # All that reads it stands inside of a choice that was not made.
        kept = member.alive[tie.names.index(chosen[tie.space_id][-1])]
        key = member.axis, member.parameter
        alive[key] = alive[key] & kept if key in alive else kept
        dims[key] = member.dim
    for (axis, parameter), kept in alive.items():
        if kept.all():
            continue
        if parameter is not None:
            keep_slices(copy, parameter, dims[axis, parameter], kept)
        else:
            keep_features(copy, axis, kept)


def _leave_out_skipped(network: nn.Module) -> None:
    """Remove what returns its input from the lists of a network, whose code goes through them.

    Elsewhere a name may be called, and what stands there stays.
    """
    for module in network.modules():
        if isinstance(module, nn.ModuleList):
            kept = [child for child in module if not isinstance(child, Skip)]
            if len(kept) < len(module):
                module._modules.clear()
                module.extend(kept)


def _fit_transformers(network: nn.Module) -> None:
    """Let transformers of PyTorch know of layers, heads and features that are gone."""
    for module in network.modules():
        for kind, empty in _EMPTY.items():
            if isinstance(module, kind) and not len(cast(Any, module).layers):
                cast(Any, module).__class__ = empty
        slim = any(isinstance(part, SlimAttention) for part in module.modules())
        if slim and isinstance(module, nn.TransformerEncoder):
            # Nested tensors would reach attention that only takes others.
            module.use_nested_tensor = False
        if isinstance(module, nn.Transformer):
            norm = getattr(module.decoder, 'norm', None)
            if isinstance(norm, nn.LayerNorm):  # It checks the features that it gets.
                module.d_model = features_of(norm)[0]


def _lay_out(supernet: nn.Module, copies: Mapping[int, Any], network: nn.Module) -> None:
    """Let a network lie in memory as usual if a layer must not meet channels that lie together.

    A search may have put them together, where the layer had more channels or another kernel.
    """
    layers = [m for m in supernet.modules() if isinstance(m, nn.Conv2d)]
    pairs = [(layer, copies[id(layer)]) for layer in layers if id(layer) in copies]
    if any(may_overrun(copy) and not may_overrun(layer) for layer, copy in pairs):
        cast(Any, network).to(memory_format=torch.contiguous_format)


def _settle_kernel(
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


def network_of(
    supernet: nn.Module, subnet: Subnet, copies: dict[int, Any] | None = None
) -> nn.Module:
    """Return the network of a subnet as a new module; see ``export_subnet``.

    Args:
        supernet: With mutables.
        subnet: ``{space_id: {'chosen': [choice names], ...}}``.
        copies: Gets by the id of each module of the supernet what it became.

    Raises:
        SubnetError: The subnet does not fit.
    """
    memo: dict[int, Any] = {} if copies is None else copies
    memo.update((id(plan), None) for _, plan in find_plans(supernet))
    # Inner mutables first: an outer one then finds their replacements in the memo.
    chosen_in: dict[str, tuple[str, ...]] = {}
    for mutable, chosen in reversed(match_subnet(supernet, subnet)):
        chosen_in[mutable.space_id] = chosen
        kept = [name for name in mutable.full_choice_names if name in chosen]
        memo[id(mutable)] = mutable.plain(kept, lambda module: copy.deepcopy(module, memo))
    net = copy.deepcopy(supernet, memo)
    _settle(supernet, chosen_in, memo)
    for module in net.modules():
        set_plan(module, None)
    _leave_out_skipped(net)
    _fit_transformers(net)
    _lay_out(supernet, memo, net)
    return net
