"""Subnets in words: which operation stands on which input of which node."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import SubnetError
from ..typing import Subnet

__all__ = [
    'CONCAT',
    'OUTPUT',
    'Cell',
    'Choice',
    'Description',
    'Edge',
    'describe_subnet',
    'subnet_table',
]

OUTPUT = 'output'
CONCAT = 'concat'
"""What stands on the edges from the nodes of a DARTS cell to its output."""

_DARTS_INPUTS = ('c_{k-2}', 'c_{k-1}')
_NB201_INPUT = 'input'
_INPUTS = (*_DARTS_INPUTS, _NB201_INPUT)
_NODE_ID = re.compile(r'(?P<cell>.+)_n(?P<node>[0-9]+)')
_NB201_ID = re.compile(r'n([0-9]+)_p([0-9]+)')


class Edge(NamedTuple):
    """One operation in a cell.

    Attributes:
        source: Where its input comes from.
        target: The node that it is added to.
        operation: Name of the choice.
        weight: Its entry in ``chosen_probs``, if the subnet has any.
    """

    source: str
    target: str
    operation: str
    weight: float | None


class Choice(NamedTuple):
    """What was chosen in a space that belongs to no cell."""

    space_id: str
    name: str
    weight: float | None


@dataclass(frozen=True)
class Cell:
    """A cell: its edges, node by node, each node's from its first input on.

    Attributes:
        name: Such as ``'normal'``.
        edges: Only those that were chosen.
    """

    name: str
    edges: tuple[Edge, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes: inputs, inner nodes in their order, output."""
        names = {name for edge in self.edges for name in (edge.source, edge.target)}
        return tuple(sorted(names, key=_position))


@dataclass(frozen=True)
class Description:
    """A subnet as cells, and the choices that stand in none of them."""

    cells: tuple[Cell, ...]
    others: tuple[Choice, ...]


def describe_subnet(subnet: Subnet) -> Description:
    """Read the cells off a subnet.

    Recognised are the cells of DARTS (spaces ``normal_n2`` for the inputs of a
    node, the inner nodes being 2, 3, ..., and ``normal_n2_p0`` for the
    operation on its input 0; any other word may stand for ``normal``) and the
    cell of NAS-Bench-201 (``n1_p0``, ...).  Spaces of inputs that were not
    chosen, as files of MMRazor v0.2.0 hold them, are left out.

    Args:
        subnet: ``{space_id: {'chosen': [names], 'chosen_probs': [numbers]}}``;
            the ``chosen_probs`` may be missing.

    Raises:
        SubnetError: Anything but such a mapping, or a chosen input of a node
            without an operation.

    >>> subnet = {
    ...     'normal_n2': {'chosen': ['normal_n2_p1']},
    ...     'normal_n2_p0': {'chosen': ['max_pool_3x3']},
    ...     'normal_n2_p1': {'chosen': ['sep_conv_3x3'], 'chosen_probs': [0.25]},
    ...     'stem': {'chosen': ['wide']},
    ... }
    >>> description = describe_subnet(subnet)
    >>> for edge in description.cells[0].edges:
    ...     print(*edge)
    c_{k-1} 0 sep_conv_3x3 0.25
    0 output concat None
    >>> description.others
    (Choice(space_id='stem', name='wide', weight=None),)
    """
    if not isinstance(subnet, Mapping) or not subnet:
        raise SubnetError(
            "Expected a subnet to be a mapping {space_id: {'chosen': [...]}} of at least one "
            f'space, but got {subnet!r}'
        )
    chosen = {str(space_id): _chosen(space_id, entry) for space_id, entry in subnet.items()}
    cells = []
    seen: set[str] = set()
    for read in (_darts_cells, _nasbench201_cell):
        for cell, spaces in read(chosen):
            cells.append(cell)
            seen |= spaces
    others = tuple(
        Choice(space_id, name, weight)
        for space_id, entry in chosen.items()
        if space_id not in seen
        for name, weight in entry.items()
    )
    return Description(tuple(cells), others)


def subnet_table(subnet: Subnet) -> RenderableType:
    """Lay a subnet out as tables for a rich console, one for each cell.

    Raises:
        SubnetError: As for :func:`describe_subnet`.

    >>> from rich.console import Console
    >>> subnet = {'n1_p0': {'chosen': ['skip_connect'], 'chosen_probs': [0.5]}}
    >>> Console(width=60).print(subnet_table(subnet))  # doctest: +SKIP
                      cell
      node     input   operation      weight
     ────────────────────────────────────────
      output   input   skip_connect    0.500
    """
    description = describe_subnet(subnet)
    tables = [_cell_table(cell) for cell in description.cells]
    if description.others:
        title = 'other spaces' if tables else None
        rows = [(c.space_id, c.name, c.weight) for c in description.others]
        tables.append(_table(title, ('space', 'choice'), rows))
    return Group(*tables)


def _chosen(space_id: Any, entry: Any) -> dict[str, float | None]:
    """Return ``{chosen name: weight}`` of one space, in the order of the subnet."""
    names = entry.get('chosen') if isinstance(entry, Mapping) else None
    if not isinstance(names, (list, tuple)) or not names:
        raise SubnetError(
            f"In space {space_id!r}: expected {{'chosen': [choice names]}}, but got {entry!r}"
        )
    probs = entry.get('chosen_probs')
    if probs is None:
        probs = [None] * len(names)
    elif (
        not isinstance(probs, (list, tuple))
        or len(probs) != len(names)
        or not all(isinstance(prob, (int, float)) for prob in probs)
    ):
        raise SubnetError(
            f'In space {space_id!r}: expected `chosen_probs` to be one number for each of '
            f'{list(names)}, but got {probs!r}'
        )
    return dict(zip(map(str, names), probs, strict=True))


def _darts_cells(
    chosen: Mapping[str, Mapping[str, float | None]],
) -> list[tuple[Cell, set[str]]]:
    """Find the DARTS cells, and the spaces that each explains."""
    nodes: dict[str, dict[int, str]] = {}
    for space_id in chosen:
        match = _NODE_ID.fullmatch(space_id)
        if match:
            nodes.setdefault(match['cell'], {})[int(match['node'])] = space_id
    found = []
    for name, node_spaces in nodes.items():
        # Every input of a node, from the first on, whether chosen or not.
        inputs = {
            node_id: [f'{node_id}_p{i}' for i in range(node)]
            for node, node_id in node_spaces.items()
        }
        kept = [edge_id for node_id in inputs for edge_id in chosen[node_id]]
        if (
            min(node_spaces) < len(_DARTS_INPUTS)
            or any(set(chosen[node_id]) - set(inputs[node_id]) for node_id in inputs)
            or not any(edge_id in chosen for edge_id in kept)
        ):
            continue
        edges = []
        for node, node_id in sorted(node_spaces.items()):
            for i, edge_id in enumerate(inputs[node_id]):
                if edge_id not in chosen[node_id]:
                    continue
                if edge_id not in chosen:
                    raise SubnetError(
                        f'In space {node_id!r}: the input {edge_id!r} is chosen, but the '
                        f'subnet lacks the space {edge_id!r} with the operation on it'
                    )
                for operation, weight in chosen[edge_id].items():
                    edges.append(Edge(_darts_node(i), _darts_node(node), operation, weight))
        edges += [Edge(_darts_node(node), OUTPUT, CONCAT, None) for node in sorted(node_spaces)]
        spaces = {space_id for node_id in inputs for space_id in (node_id, *inputs[node_id])}
        found.append((Cell(name, tuple(edges)), spaces))
    return found


def _darts_node(index: int) -> str:
    if index < len(_DARTS_INPUTS):
        return _DARTS_INPUTS[index]
    return str(index - len(_DARTS_INPUTS))


def _nasbench201_cell(
    chosen: Mapping[str, Mapping[str, float | None]],
) -> list[tuple[Cell, set[str]]]:
    """Find the cell in which every node reads all earlier ones, if there is one."""
    matches = [match for match in map(_NB201_ID.fullmatch, chosen) if match]
    last = max((int(match[1]) for match in matches), default=0)
    ids = {f'n{i}_p{j}': (j, i) for i in range(1, last + 1) for j in range(i)}
    if not matches or {match[0] for match in matches} != set(ids):
        return []
    names = [_NB201_INPUT, *map(str, range(1, last)), OUTPUT]
    edges = tuple(
        Edge(names[source], names[target], operation, weight)
        for space_id, (source, target) in ids.items()
        for operation, weight in chosen[space_id].items()
    )
    return [(Cell('cell', edges), set(ids))]


def _position(node: str) -> tuple[int, int]:
    if node in _INPUTS:
        return 0, _INPUTS.index(node)
    return (2, 0) if node == OUTPUT else (1, int(node))


def _cell_table(cell: Cell) -> Table:
    """Write one row for each edge, but a single one for a concatenation."""
    rows: list[tuple[str, ...] | tuple[str, str, str, float | None]] = []
    for target, group in groupby(cell.edges, key=lambda edge: edge.target):
        edges = list(group)
        if all(edge.operation == CONCAT for edge in edges):
            rows.append((target, ', '.join(edge.source for edge in edges), CONCAT, None))
            continue
        for i, (source, _, operation, weight) in enumerate(edges):
            rows.append((target if i == 0 else '', source, operation, weight))
    return _table(cell.name, ('node', 'input', 'operation'), rows)


def _table(title: str | None, columns: tuple[str, ...], rows: list[Any]) -> Table:
    """Build a table; the last entry of each row is a weight, shown if any row has one."""
    weighted = any(row[-1] is not None for row in rows)
    table = Table(title=title and Text(title, style='bold'), box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow='fold')
    if weighted:
        table.add_column('weight', justify='right')
    for *texts, weight in rows:
        # Names are shown as they are, even if they look like markup.
        cells = [Text(text) for text in texts]
        if weighted:
            cells.append(Text('' if weight is None else f'{weight:.3f}'))
        table.add_row(*cells)
    return table
