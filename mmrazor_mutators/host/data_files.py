"""Configs in YAML and JSON: data, which runs no code on its way through mmengine.

mmengine reads YAML with a loader that calls what a tag names, takes Python files
as bases, and calls what a dotted ``type`` imports.  Only ``custom_imports`` is
left, which is there to run code.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmengine import registry as host_registries
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.fileio.handlers import BaseFileHandler, file_handlers
from mmengine.registry import Registry

from ..documents import parse_json, parse_yaml
from ..errors import ConfigError

__all__ = ['SUFFIXES', 'check_data_config', 'data_only']

SUFFIXES = ('.yaml', '.yml', '.json')
_SCOPE = __name__.split('.')[0]
_SCOPES = {*MODULE2PACKAGE, 'mmcv', 'mmengine', _SCOPE}
_NAMING = ('type', 'constructor', 'hypergradient')
_PLAIN = (str, int, float, bool, type(None))


class _Data(BaseFileHandler):
    """Reads one of the formats in place of mmengine's handler, and writes as that does."""

    def __init__(self, parse: Any, replaced: Any) -> None:
        self._parse, self._replaced = parse, replaced

    def load_from_fileobj(self, file: Any, **_: Any) -> Any:
        """Read a config, whose bases are data as well."""
        content = self._parse(file.read())
        if not isinstance(content, Mapping):
            raise ConfigError(
                f'Expected a config to be a mapping, but got {type(content).__name__}'
            )
        bases = content.get('_base_') or []
        for base in bases if isinstance(bases, (list, tuple)) else [bases]:
            if not isinstance(base, str) or not base.endswith(SUFFIXES):
                raise ConfigError(
                    f'A config in YAML or JSON runs no code, so its `_base_` is one as well, '
                    f'but got {base!r}; write a Python config for that'
                )
        return content

    def dump_to_fileobj(self, obj: Any, file: Any, **kwargs: Any) -> None:
        """Write to a file."""
        self._replaced.dump_to_fileobj(obj, file, **kwargs)

    def dump_to_str(self, obj: Any, **kwargs: Any) -> Any:
        """Write to a string."""
        return self._replaced.dump_to_str(obj, **kwargs)


@contextmanager
def data_only() -> Iterator[None]:
    """Let mmengine read YAML and JSON as data alone; later it is as before."""
    kept = dict(file_handlers)
    try:
        for form, parse in (('yaml', parse_yaml), ('yml', parse_yaml), ('json', parse_json)):
            file_handlers[form] = _Data(parse, kept[form])
        yield
    finally:
        file_handlers.update(kept)


def check_data_config(value: Any, path: str = '') -> None:
    """Refuse what a config in YAML or JSON could run code by, once it is built.

    Args:
        value: The config, or a part of it.
        path: Of the part.

    Raises:
        ConfigError: A ``type`` that is no registered part but would be imported and
            called, a key that cannot be written as Python, or a value that is none of
            a dict, a list, a string, a number, a bool and null.

    >>> check_data_config({'model': {'type': 'os.system', 'command': 'ls'}})
    Traceback (most recent call last):
    ...
    mmrazor_mutators.errors.ConfigError: The config names 'os.system' as `model.type`, which \
would be imported: a config in YAML or JSON names registered parts, and runs no code
    """
    if isinstance(value, Mapping):
        for key, entry in value.items():
            inner = f'{path}.{key}' if path else str(key)
            _check_key(key, inner)
            if isinstance(entry, str):
                _check_name(key, entry, inner)
            check_data_config(entry, inner)
    elif isinstance(value, (list, tuple)):
        for number, entry in enumerate(value):
            check_data_config(entry, f'{path}[{number}]')
    elif not isinstance(value, _PLAIN):
        raise ConfigError(
            f'Expected `{path}` of a config in YAML or JSON to be a dict, a list, a string, a '
            f'number, a bool or null, but got {value!r}'
        )


def _check_key(key: Any, path: str) -> None:
    # The config is written as Python, with its keys between quotes.
    unsafe = isinstance(key, str) and (not key.isprintable() or {*key} & {*'\'"\\'})
    if unsafe or type(key) not in (str, int):
        raise ConfigError(
            f'The key {key!r} at `{path}` cannot be used: expected letters, digits and such, '
            'without quotes and backslashes'
        )


def _check_name(key: Any, name: str, path: str) -> None:
    if key in ('default_scope', '_scope_'):
        fits = name in _SCOPES or not _is_module(name)
    elif key not in _NAMING or _is_registered(name):
        fits = True
    elif '.' in name:
        scope, _, part = name.partition('.')
        fits = scope in _SCOPES and part.isidentifier() and _may_be_built(scope, part)
    else:
        fits = not _is_module(name)
    if not fits:
        raise ConfigError(
            f'The config names {name!r} as `{path}`, which would be imported: a config in YAML '
            'or JSON names registered parts, and runs no code'
        )


def _is_module(name: str) -> bool:
    return name.isidentifier() and find_spec(name) is not None


def _is_registered(name: str) -> bool:
    ours = import_module(f'{_SCOPE}.registry')
    for parts in (*vars(ours).values(), *vars(host_registries).values()):
        if isinstance(parts, Registry) and name in parts.module_dict:
            return True
    return False


def _may_be_built(scope: str, part: str) -> bool:
    """Whether a name in a package is a class, or unknown: a function would be called."""
    try:
        found = getattr(import_module(scope), part, None)
    except ImportError:
        return True
    return found is None or inspect.isclass(found)
