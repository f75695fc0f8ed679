"""Any network found as a list of its layers, with what was chosen where and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..costs import find_arguments
from ..costs.shapes import layer_shape
from ..costs.tracing import Trace, trace
from ..mutables import (
    ModuleMutable,
    SearchableLayer,
    Skip,
    match_subnet,
    members_by_layer,
    network_of,
    use_torch_classes,
)
from ..structures import tensors_in
from ..typing import Subnet
from .network_rows import Decision, NetworkRow, NetworkView

__all__ = ['view_network']


def view_network(
    supernet: nn.Module, subnet: Subnet, example_inputs: Any = None
) -> NetworkView:
    """Look at the network of a subnet, layer by layer.

    Args:
        supernet: With mutables; nothing in it changes.
        subnet: ``{space_id: {'chosen': [choice names], ...}}``.
        example_inputs: A tensor, a tuple of arguments or a dict of keyword arguments; by
            default those that ``make_searchable`` was given.

    Raises:
        SubnetError: The subnet does not fit.
        InputError: Inputs that do not pass the network.

    >>> import torch
    >>> import mmrazor_mutators as mm
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net = mm.make_searchable(net, [dict(match='0', width=[2, 8])], torch.zeros(1, 3))
    >>> view = view_network(net, {'0': {'chosen': ['w2']}})
    >>> [(row.name, row.kinds, row.out_features, row.full_features) for row in view.rows]
    [('0', ['Linear', 'ReLU'], 2, 8), ('2', ['Linear'], 2, 2)]
    """
    args, kwargs = find_arguments(supernet, example_inputs)
    copies: dict[int, Any] = {}
    net = network_of(supernet, subnet, copies)
    use_torch_classes(net)
    seen = trace(net, (args, kwargs))
    batch = max(1, next((len(x) for x in tensors_in((args, kwargs)) if x.dim()), 1))
    notes = _Notes(supernet, subnet, net, copies)
    names = {id(module): name for name, module in net.named_modules()}
    modules = {id(module): module for module in net.modules()}
    rows: list[NetworkRow] = []
    positions: list[int] = []
    row_of: dict[int, int] = {}
    for key in seen.calls:
        module = modules[key]
        if any(module.children()) and seen.own.get(key, 0) <= 0:
            continue
        row = _row(names[key] or type(net).__name__, module, seen, batch)
        row.decisions = notes.take(row.name, key)
        row.full_features = notes.full.get(key, row.out_features)
        if isinstance(module, Skip):
            row.kinds, row.is_left_out = ['left out'], True
        elif rows and not row.decisions and _follows(row, rows[-1]):
            row_of[key] = len(rows) - 1
            rows[-1].params += row.params
            rows[-1].kinds += [kind for kind in row.kinds if kind != 'Identity']
            continue
        source = seen.sources.get(key, 0)
        if len(seen.calls.get(source, ())) == 1:  # Else nobody knows which of its calls.
            row.source = row_of.get(source, -1)
        row_of[key] = len(rows)
        rows.append(row)
        positions.append(notes.position.get(key, positions[-1] if positions else 0))
    notes.insert_missing(rows, positions)
    total = sum(p.numel() for p in net.parameters())
    return NetworkView(type(supernet).__name__, tuple(rows), total, seen.total / batch)


class _Notes:
    """Where in a network what was chosen.

    Attributes:
        full: By the id of a layer how many features the original returns.
        position: By the id of a module where its original stands in the supernet.
    """

    def __init__(
        self, supernet: nn.Module, subnet: Subnet, net: nn.Module, copies: Mapping[int, Any]
    ) -> None:
        self.full: dict[int, int] = {}
        self._by_name: dict[str, list[Decision]] = {}
        self._by_layer: dict[int, list[Decision]] = {}
        self._missing: list[tuple[str, int, Decision]] = []
        originals = list(supernet.modules())
        self.position = {id(copies.get(id(m))): i for i, m in enumerate(originals)}
        names = {id(module): name for name, module in net.named_modules()}
        origins = {id(module): name for name, module in supernet.named_modules()}

        decisions: dict[str, Decision] = {}
        for mutable, chosen in match_subnet(supernet, subnet):
            left_out = tuple(n for n in mutable.full_choice_names if n not in chosen)
            decision = Decision(mutable.space_id, tuple(chosen), left_out)
            decisions[mutable.space_id] = decision
            if not isinstance(mutable, ModuleMutable):
                continue
            stands_in = copies[id(mutable)]
            if id(stands_in) in names:
                self._by_name.setdefault(names[id(stands_in)], []).append(decision)
            else:  # A list of blocks from which one was taken.
                place = next(i for i, m in enumerate(originals) if m is mutable)
                self._missing.append((origins[id(mutable)], place, decision))
        for layer_id, members in members_by_layer(supernet).items():
            copy = id(copies.get(layer_id))
            for tie, member in members:
                if member.axis == 'out' and member.parameter is None:
                    self.full[copy] = member.alive.shape[1]
                    if tie.space_id in decisions:
                        self._add(copy, decisions[tie.space_id])
        for layer in supernet.modules():
            if isinstance(layer, SearchableLayer) and 'kernel' in layer.mutables:
                space_id = str(layer.mutables['kernel'].space_id)
                if space_id in decisions:
                    self._add(id(copies.get(id(layer))), decisions[space_id])
        self._norms = {
            id(module)
            for module in net.modules()
            if isinstance(module, (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm))
        }

    def _add(self, layer_id: int, decision: Decision) -> None:
        found = self._by_layer.setdefault(layer_id, [])
        if decision not in found:
            found.append(decision)

    def take(self, name: str, layer_id: int) -> list[Decision]:
        """Return what was chosen for a layer, and for all around that begins with it."""
        found = []
        for outer in list(self._by_name):
            if name == outer or name.startswith(f'{outer}.') or not outer:
                found += self._by_name.pop(outer)
        if layer_id in self._norms:
            return found  # The layer before it tells of the same choice.
        return found + self._by_layer.get(layer_id, [])

    def insert_missing(self, rows: list[NetworkRow], positions: list[int]) -> None:
        """Put blocks that are gone where they stood."""
        for name, place, decision in self._missing:
            index = next((i for i, other in enumerate(positions) if other > place), len(rows))
            for row in rows:
                row.source += row.source >= index
            gone = NetworkRow(name, ['left out'], decisions=[decision], is_left_out=True)
            rows.insert(index, gone)
            positions.insert(index, place)


def _row(name: str, module: nn.Module, seen: Trace, batch: int) -> NetworkRow:
    calls = seen.calls[id(module)]
    shape = layer_shape(module, calls[0], seen.own.get(id(module)))
    kind = shape.kind
    if shape.kernel_size:
        kind += ' ' + 'x'.join(map(str, shape.kernel_size))
        if set(shape.stride) != {1}:
            kind += f' /{shape.stride[0]}'
        if shape.groups > 1:
            kind += ' depthwise' if shape.groups == shape.in_features else ' grouped'
    if len(calls) > 1:
        kind += f', {len(calls)} times'
    silent = [m for m in module.modules() if m is module or id(m) not in seen.calls]
    return NetworkRow(
        name,
        [kind],
        shape.in_features,
        shape.out_features,
        output=tuple(calls[0].output[1:]),
        params=sum(p.numel() for m in silent for p in m.parameters(recurse=False)),
        macs=seen.own.get(id(module), 0.0) / batch,
    )


def _follows(row: NetworkRow, before: NetworkRow) -> bool:
    """Whether a layer is no more than a norm, an activation or the like of the one before."""
    changes = row.macs or row.output != before.output or before.is_left_out
    one, other = row.name.split('.'), before.name.split('.')
    near = one[:-1] == other[:-1] or (len(one) > 2 and one[:-2] == other[:-2])
    return not changes and near
