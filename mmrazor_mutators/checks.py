"""Checks of arguments that many parts have."""

from __future__ import annotations

from typing import Any

from .errors import ConfigError

__all__ = ['check_count']


def check_count(name: str, value: Any, minimum: int = 1) -> int:
    """Return ``value`` if it is an int of at least ``minimum`` that 32 bits can hold.

    Raises:
        ConfigError: It is not.

    >>> check_count('num_nodes', 4)
    4
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ConfigError(
            f'Expected `{name}` to be an int of at least {minimum}, but got {value!r}'
        )
    if value >= 2**31:
        raise ConfigError(f'Expected `{name}` to be below {2**31}, but got {value!r}')
    return value
