"""Configs as Python source that reads well, in the order in which they were written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError

__all__ = ['config_text']

_WIDTH = 96


def config_text(cfg: Mapping[str, Any]) -> str:
    """Return a config as assignments, which mmengine reads as the same config.

    Args:
        cfg: Of dicts, lists, tuples, strings, numbers, booleans and ``None``;
            its keys are names.

    Raises:
        ConfigError: It holds something else.

    >>> print(config_text({'model': {'type': 'Darts', 'unroll': True}}), end='')
    model = dict(type='Darts', unroll=True)
    """
    return ''.join(f'{key} = {_shown(value, 0, len(key) + 3)}\n' for key, value in cfg.items())


def _shown(value: Any, indent: int, used: int) -> str:
    """Return the source of a value.

    Args:
        value: The value.
        indent: Of the line that it begins in.
        used: How much of that line is used, in front and behind.
    """
    if isinstance(value, Mapping):
        named = all(isinstance(key, str) and key.isidentifier() for key in value)
        opening, closing = ('dict(', ')') if named else ('{', '}')
        items = [(f'{k}=' if named else f'{k!r}: ', v) for k, v in value.items()]
    elif isinstance(value, (list, tuple)):
        opening, closing = ('[', ']') if isinstance(value, list) else ('(', ')')
        items = [('', item) for item in value]
    else:
        return _atom(value)
    flat = ', '.join(f'{key}{_shown(item, 0, -10_000)}' for key, item in items)
    flat += ',' if isinstance(value, tuple) and len(value) == 1 else ''
    if indent + used + len(opening + flat + closing) <= _WIDTH:
        return f'{opening}{flat}{closing}'
    inner = indent + 4
    lines = [f'{" " * inner}{key}{_shown(item, inner, len(key) + 1)},\n' for key, item in items]
    return f'{opening}\n{"".join(lines)}{" " * indent}{closing}'


def _atom(value: Any) -> str:
    if isinstance(value, float):
        # 57.12 / 255 is 0.224 and not 0.22399999999999998.
        return repr(float(f'{value:.12g}'))
    if value is None or isinstance(value, (bool, int, str)):
        return repr(value)
    raise ConfigError(
        f'Expected a config of strings, numbers, lists and dicts, but it holds {value!r}'
    )
