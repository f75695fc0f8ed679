"""Subnets of NAS-Bench-201 as the benchmark's architecture strings, and back.

The string lists the nodes after the first, joined by ``+``; each lists the
operation on every earlier node ``j`` as ``name~j`` between bars:
``|a~0|+|b~0|c~1|+|d~0|e~1|f~2|``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SubnetError, did_you_mean
from ..typing import Subnet

__all__ = [
    'NASBENCH201_OPERATIONS',
    'NUM_NODES',
    'arch_string_to_subnet',
    'subnet_to_arch_string',
]

NASBENCH201_OPERATIONS = (
    'none',
    'skip_connect',
    'nor_conv_1x1',
    'nor_conv_3x3',
    'avg_pool_3x3',
)
"""Names of the candidates, in the order of the authors' code."""

NUM_NODES = 4

_FORM = '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|'


def _check_operation(name: Any, space_id: str, operations: Sequence[str]) -> None:
    if name not in operations:
        raise SubnetError(
            f'In space {space_id!r}: there is no operation {name!r}; '
            f'{did_you_mean(str(name), operations)}'
        )


def _check_inputs(node: str, space: Any, edge_ids: set[str]) -> None:
    chosen = space.get('chosen') if isinstance(space, Mapping) else None
    if not isinstance(chosen, (list, tuple)) or sorted(map(str, chosen)) != sorted(edge_ids):
        raise SubnetError(
            f'In space {node!r}: a node of NAS-Bench-201 keeps all its inputs, so expected '
            f"{{'chosen': {sorted(edge_ids)}}}, but got {space!r}"
        )


def arch_string_to_subnet(
    arch_string: str, operations: Sequence[str] = NASBENCH201_OPERATIONS
) -> Subnet:
    """Read an architecture string of NAS-Bench-201.

    Args:
        arch_string: As the benchmark writes it.
        operations: Names that may occur in it.

    Returns:
        ``{'n1_p0': {'chosen': [name]}, ...}``, one entry for each of the six
        edges.

    Raises:
        SubnetError: Another number of nodes or edges, edges in another order,
            an unknown operation, or anything between.

    >>> subnet = arch_string_to_subnet(
    ...     '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|'
    ... )
    >>> subnet['n3_p2']
    {'chosen': ['avg_pool_3x3']}
    """
    if not isinstance(arch_string, str):
        raise SubnetError(
            f'Expected an architecture string of the form {_FORM!r}, but got {arch_string!r}'
        )
    node_strings = arch_string.split('+')
    if len(node_strings) != NUM_NODES - 1:
        raise SubnetError(
            f"Expected {NUM_NODES - 1} nodes joined by '+', as in {_FORM!r}, but got "
            f'{len(node_strings)}: {arch_string!r}'
        )
    subnet: Subnet = {}
    for i, node_string in enumerate(node_strings, start=1):
        before, *edges, after = node_string.split('|')
        if before or after or len(edges) != i:
            raise SubnetError(
                f"Expected node {i} to have {i} operation(s), each between '|', as in "
                f'{_FORM!r}, but got {node_string!r} in {arch_string!r}'
            )
        for j, edge in enumerate(edges):
            name, _, source = edge.rpartition('~')
            if source != str(j):
                raise SubnetError(
                    f"Expected operation {j} of node {i} to have the form 'name~{j}', "
                    f'but got {edge!r} in {arch_string!r}'
                )
            _check_operation(name, f'n{i}_p{j}', operations)
            subnet[f'n{i}_p{j}'] = {'chosen': [name]}
    return subnet


def subnet_to_arch_string(
    subnet: Mapping[str, Mapping[str, Any]],
    operations: Sequence[str] = NASBENCH201_OPERATIONS,
) -> str:
    """Write a subnet as an architecture string of NAS-Bench-201.

    Args:
        subnet: ``{'n1_p0': {'chosen': [name], ...}, ...}`` for the six edges.
            Spaces ``n1`` to ``n3``, of a search that weighs the inputs of a
            node, may be there and name all of them.
        operations: Names that may occur in it.

    Raises:
        SubnetError: A missing or unknown space, an unknown operation, not
            exactly one operation for an edge, or a node without all its inputs.

    >>> spaces = ['n1_p0', 'n2_p0', 'n2_p1', 'n3_p0', 'n3_p1', 'n3_p2']
    >>> subnet_to_arch_string({space: {'chosen': ['none']} for space in spaces})
    '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|'
    """
    expected = {f'n{i}_p{j}' for i in range(1, NUM_NODES) for j in range(i)}
    nodes = {f'n{i}': {f'n{i}_p{j}' for j in range(i)} for i in range(1, NUM_NODES)}
    if not isinstance(subnet, Mapping) or set(subnet) - set(nodes) != expected:
        got = sorted(map(str, subnet)) if isinstance(subnet, Mapping) else repr(subnet)
        raise SubnetError(
            f'Expected a subnet of NAS-Bench-201 to have the spaces {sorted(expected)}, '
            f'but got {got}'
        )
    for node, edge_ids in nodes.items():
        if node in subnet:
            _check_inputs(node, subnet[node], edge_ids)
    node_strings = []
    for i in range(1, NUM_NODES):
        edges = []
        for j in range(i):
            space = subnet[f'n{i}_p{j}']
            chosen = space.get('chosen') if isinstance(space, Mapping) else None
            if not isinstance(chosen, (list, tuple)) or len(chosen) != 1:
                raise SubnetError(
                    f"In space 'n{i}_p{j}': expected {{'chosen': [one operation]}}, "
                    f'but got {space!r}'
                )
            _check_operation(chosen[0], f'n{i}_p{j}', operations)
            edges.append(f'{chosen[0]}~{j}')
        node_strings.append(f'|{"|".join(edges)}|')
    return '+'.join(node_strings)
