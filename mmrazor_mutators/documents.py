"""YAML and JSON files: data, whose reading runs no code, takes no time and fills no memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from .errors import NASError

__all__ = ['MAX_BYTES', 'parse_json', 'parse_yaml', 'read_json', 'read_text', 'read_yaml']

MAX_BYTES = 2**20
"""How large such a file may be; a subnet of ten thousand choices has two thirds of it."""

_MAX_DEPTH = 100
_MAX_ENTRIES = 2**17
_MAX_DIGITS = 100


class _Limited(Composer):
    """Composes nodes whose aliases, written out, stay within the limits."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = self._count = 0
        self._extents: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node; measure how many entries it has, and how deep they nest."""
        is_alias = self.check_event(yaml.AliasEvent)  # type: ignore[attr-defined]
        self._depth += 1
        self._count += 1
        if self._count > _MAX_ENTRIES:
            raise yaml.YAMLError(f'it has more than {_MAX_ENTRIES:,} entries')
        if self._depth > _MAX_DEPTH:
            raise yaml.YAMLError(f'it nests deeper than {_MAX_DEPTH} levels')
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._extents:
            raise yaml.YAMLError(f'line {node.start_mark.line + 1} refers to itself')
        self._extents[id(node)] = self._extent(node)
        return node

    def _extent(self, node: Any) -> tuple[int, int]:
        children: list[Any] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        extents = [self._extents[id(child)] for child in children]
        count = 1 + sum(count for count, _ in extents)
        depth = 1 + max((depth for _, depth in extents), default=0)
        if count > _MAX_ENTRIES:
            raise yaml.YAMLError(f'its aliases stand for more than {_MAX_ENTRIES:,} entries')
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError(f'it nests deeper than {_MAX_DEPTH} levels')
        return count, depth


class _Data(SafeConstructor):
    """Constructs plain values; what a tag would have run is named and refused."""

    def refuse(self, node: Any) -> Any:
        """Refuse a tag that is none of YAML's own."""
        tag = node.tag.replace('tag:yaml.org,2002:', '!!')
        raise yaml.YAMLError(
            f'line {node.start_mark.line + 1} has the tag {tag!r}, but such a file holds data '
            'and runs no code'
        )

    def number(self, node: Any) -> Any:
        """Construct an int or a float that is not absurdly long."""
        if len(node.value) > _MAX_DIGITS:
            raise yaml.YAMLError(
                f'line {node.start_mark.line + 1} has a number of {len(node.value)} characters'
            )
        whole = node.tag == 'tag:yaml.org,2002:int'
        return (self.construct_yaml_int if whole else self.construct_yaml_float)(node)

    def tuple_of(self, node: Any) -> tuple[Any, ...]:
        """Construct a tuple, which the host writes with a tag."""
        return tuple(self.construct_sequence(node, deep=True))


_OWN: dict[str | None, Any] = {
    'tag:yaml.org,2002:int': _Data.number,
    'tag:yaml.org,2002:float': _Data.number,
    'tag:yaml.org,2002:python/tuple': _Data.tuple_of,
    None: _Data.refuse,
}
_Data.yaml_constructors = {**SafeConstructor.yaml_constructors, **_OWN}

if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]

    class _Loader(_Limited, CParser, _Data, Resolver):
        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            _Limited.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

else:
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.scanner import Scanner

    class _Loader(Reader, Scanner, Parser, _Limited, _Data, Resolver):  # type: ignore[no-redef]
        def __init__(self, text: str) -> None:
            Reader.__init__(self, text)
            Scanner.__init__(self)
            Parser.__init__(self)
            _Limited.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)


def parse_yaml(text: str) -> Any:
    """Return what a YAML text holds: dicts, lists, strings, numbers, dates, no objects.

    Raises:
        ValueError: Text that is too long, no YAML, nested too deep, has tags of other
            than plain values, or aliases that stand for too much.

    >>> parse_yaml('cell: {chosen: [skip_connect]}')
    {'cell': {'chosen': ['skip_connect']}}
    >>> parse_yaml('!!python/object/apply:os.system [ls]')
    Traceback (most recent call last):
    ...
    ValueError: line 1 has the tag '!!python/object/apply:os.system', but such a file \
holds data and runs no code
    """
    _check_length(len(text))
    try:
        loader: Any = _Loader
        return yaml.load(text, loader)
    except Exception as error:  # A constructor raises what its value leads to.
        raise ValueError(' '.join(str(error).split())) from error


def parse_json(text: str) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: Text that is too long, no JSON, or nested too deep.
    """
    _check_length(len(text))
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError('it nests too deep') from error


def read_text(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> str:
    """Return the text of a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger than ``limit`` bytes, of which no more are read, or
            no text.
    """
    with Path(path).open('rb') as file:
        content = file.read(limit + 1)
    _check_length(len(content), limit)
    try:
        return content.decode('utf-8')
    except UnicodeDecodeError as error:
        raise ValueError(f'it is no text in UTF-8: {error}') from error


def read_yaml(
    path: str | os.PathLike[str], what: str, kind: type[NASError], hint: str = ''
) -> Any:
    """Return what a YAML (or JSON) file holds.

    Args:
        path: The file.
        what: It is, for messages.
        kind: Of the error.
        hint: What to do if the file cannot be opened.

    Raises:
        NASError: Of ``kind``, if the file is missing or :func:`parse_yaml` refuses it.
    """
    return _read(path, what, kind, 'YAML', hint)


def read_json(path: str | os.PathLike[str], what: str, kind: type[NASError]) -> Any:
    """Return what a JSON file holds; as :func:`read_yaml`."""
    return _read(path, what, kind, 'JSON')


def _read(
    path: str | os.PathLike[str], what: str, kind: type[NASError], form: str, hint: str = ''
) -> Any:
    name = f'the {what} {os.fspath(path)!r}'
    try:
        text = read_text(path)
    except OSError as error:
        raise kind(f'Cannot read {name}: {error.strerror}{hint}') from error
    except ValueError as error:
        raise kind(f'Cannot use {name}: {error}') from error
    try:
        return parse_yaml(text) if form == 'YAML' else parse_json(text)
    except ValueError as error:
        raise kind(f'{name[0].upper()}{name[1:]} is not valid {form}: {error}') from error


def _check_length(length: int, limit: int = MAX_BYTES) -> None:
    if length > limit:
        raise ValueError(f'it is larger than {limit:,} bytes, the limit for such a file')
