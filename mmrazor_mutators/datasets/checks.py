"""Checks of the numbers that a config gives."""

from __future__ import annotations

from typing import Any

from ..checks import check_count
from ..errors import ConfigError

__all__ = ['check_count', 'check_fraction', 'is_number']


def is_number(value: Any) -> bool:
    """Return whether ``value`` is an int or a float, and no bool.

    >>> is_number(1), is_number('1'), is_number(True)
    (True, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_fraction(name: str, value: Any, *, ends: bool) -> float:
    """Return ``value`` if it lies between 0 and 1; the ``ends`` count or not.

    Raises:
        ConfigError: It does not.

    >>> check_fraction('p', 1, ends=True)
    1.0
    """
    if not is_number(value) or not (0 <= value <= 1 if ends else 0 < value < 1):
        interval = 'from 0 to 1' if ends else 'above 0 and below 1'
        raise ConfigError(f'Expected `{name}` to be a number {interval}, but got {value!r}')
    return float(value)
