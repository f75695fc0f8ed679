"""Anything of a search as a table that reads well in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..sheets import Sheet
from .describe import describe_subnet

__all__ = ['summary']


def summary(thing: Any) -> Sheet:
    """Return a mutator, a search or a subnet as a table, which notebooks show as HTML.

    Args:
        thing: A mutator, a :class:`BilevelSearch`, or a subnet.

    Raises:
        InputError: Anything else.
        SubnetError: A mapping that is no subnet.

    >>> summary(
    ...     {'stem': {'chosen': ['wide'], 'chosen_probs': [0.5]}, 'n1_p0': {'chosen': ['a']}}
    ... )
    Subnet: 2 spaces
      where            chosen
      input -> output  a
      stem             wide 0.500
    """
    if isinstance(thing, Mapping):
        return _of_subnet(thing)
    if callable(getattr(thing, 'summary', None)):
        found: Sheet = thing.summary()
        return found
    raise InputError(
        'Expected a mutator, a search or a subnet to be summed up, but got '
        f'{type(thing).__name__}'
    )


def _of_subnet(subnet: Any) -> Sheet:
    description = describe_subnet(subnet)
    rows = []
    for cell in description.cells:
        name = f'{cell.name}: ' if len(description.cells) > 1 else ''
        for source, target, operation, weight in cell.edges:
            rows.append([f'{name}{source} -> {target}', _weighed(operation, weight)])
    others: dict[str, list[str]] = {}
    for space_id, operation, weight in description.others:
        others.setdefault(space_id, []).append(_weighed(operation, weight))
    rows += [[space_id, ', '.join(chosen)] for space_id, chosen in others.items()]
    count = f'{len(subnet)} space' + 's' * (len(subnet) != 1)
    return Sheet(f'Subnet: {count}', ['where', 'chosen'], rows)


def _weighed(name: str, weight: float | None) -> str:
    return name if weight is None else f'{name} {weight:.3f}'
