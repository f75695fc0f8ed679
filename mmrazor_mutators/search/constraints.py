"""What a network may cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigError, did_you_mean

__all__ = ['Bounds', 'check_constraints', 'meets', 'shown']

Bounds = dict[str, tuple[float, float]]
"""``{name of a cost: (lowest, highest)}``."""


def check_constraints(constraints: Mapping[str, Any] | None) -> Bounds:
    """Return ``{cost: (lowest, highest)}`` for constraints, both bounds included.

    Args:
        constraints: For each cost the highest one, or a pair ``(lowest,
            highest)`` of which either may be ``None``.

    Raises:
        ConfigError: Bounds of another form, or a lowest above the highest.

    >>> check_constraints({'flops': 3e6, 'params': (100, None)})
    {'flops': (0.0, 3000000.0), 'params': (100.0, inf)}
    """
    if constraints is not None and not isinstance(constraints, Mapping):
        raise ConfigError(
            f'Expected `constraints` to be a dict as dict(flops=3e8), but got {constraints!r}'
        )
    bounds: Bounds = {}
    for name, given in (constraints or {}).items():
        pair = list(given) if isinstance(given, (list, tuple)) else [None, given]
        if len(pair) != 2 or not all(map(_is_bound, pair)) or pair == [None, None]:
            raise ConfigError(
                f'Expected the constraint of {name!r} to be a number or a pair (lowest, '
                f'highest) of them, of which one may be None, but got {given!r}'
            )
        low = 0.0 if pair[0] is None else float(pair[0])
        high = math.inf if pair[1] is None else float(pair[1])
        if low > high:
            raise ConfigError(
                f'Expected the lowest {name!r} to be at most the highest, but got {given!r}'
            )
        bounds[name] = low, high
    return bounds


def _is_bound(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (is_number and value >= 0)


def meets(costs: Mapping[str, float], bounds: Bounds) -> bool:
    """Tell whether every cost is within its bounds.

    Raises:
        ConfigError: A bound of a cost that is not among them.

    >>> meets({'flops': 3.0, 'params': 9.0}, {'flops': (0.0, 3.0)})
    True
    """
    for name in bounds:
        if name not in costs:
            raise ConfigError(
                f'There is a constraint of {name!r}, which is no cost; '
                f'{did_you_mean(str(name), costs)}'
            )
    return all(low <= costs[name] <= high for name, (low, high) in bounds.items())


def shown(bounds: Bounds, seen: Iterable[Mapping[str, float]]) -> str:
    """Say what is allowed, and between which values the costs were that were seen.

    >>> shown({'flops': (0.0, 3e6)}, [{'flops': 4e6}, {'flops': 5.5e6}])
    'flops from 0 to 3e+06 are allowed, and those seen go from 4e+06 to 5.5e+06'
    """
    costs = list(seen)
    parts = []
    for name, (low, high) in bounds.items():
        values = [cost[name] for cost in costs]
        parts.append(
            f'{name} from {low:g} to {high:g} are allowed, and those seen go from '
            f'{min(values):g} to {max(values):g}'
        )
    return '; '.join(parts)
