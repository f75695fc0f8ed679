"""The options of a part, from its signatures and docstrings, as tables in Markdown."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from docstring_parser import Docstring, DocstringStyle, parse

import mmrazor_mutators as mm
from mmrazor_mutators.registry import MODELS

_PACKAGE = 'mmrazor_mutators'

# What all of them take.
_COMMON = {'self', 'init_cfg', 'extensions', 'placeholder_mapping'}

_KINDS = (
    (r'Literal\[([^\]]+)\]', lambda m: m[1].replace(', ', ' or ')),
    (r'\b\w+\.(?=\w)', ''),  # `nn.` and the like.
    (r'\b(Sequence|Iterable)\[', 'list['),
    (r'\bMapping\[', 'dict['),
    (r'\bConfigDict\b', 'config'),
    (r'\bPathLike\[str\]', 'path'),
    (r'\bSteps?\b', 'config'),
    (r'\bLogitInit\b', 'text, tensor, list, dict or function'),
    (r'\bLossFn\b', 'function'),
    (r'\bConsole\b', 'console'),
    (r'\bstr \| path\b', 'path'),
    (r' \| ', ' or '),
)


@dataclass(frozen=True)
class Option:
    """One row of a table.

    Attributes:
        name: As a config has it.
        kind: What it has to be, or ``''`` where that is told in its meaning.
        default: In Markdown.
        meaning: In Markdown.
    """

    name: str
    kind: str
    default: str
    meaning: str


def to_markdown(text: str) -> str:
    """Turn the little of reStructuredText that docstrings use into Markdown."""
    text = re.sub(r'\.\. math:: (.+)\n', r'\n$$\n\1\n$$\n', text + '\n')
    text = re.sub(r'\.\. math::\n\n?((?:[ ]+.*\n?|\n)+)', _display, text)
    text = re.sub(r':math:`([^`]+)`', lambda m: f'${m[1]}$', text)
    text = re.sub(r':\w+:`~?(?:mmrazor_mutators\.)?([^`]+)`', r'`\1`', text)
    return re.sub(r'\n{3,}', '\n\n', text.replace('``', '`')).strip()


def _display(match: re.Match[str]) -> str:
    lines = [line.strip() for line in match[1].strip().splitlines()]
    return '\n$$\n' + '\n'.join(lines) + '\n$$\n\n'


def docstring_of(part: Any) -> Docstring:
    """Return the parsed docstring, without its example."""
    text = inspect.cleandoc(part.__doc__ or '').split('>>>')[0]
    return parse(text, style=DocstringStyle.GOOGLE)


def options_of(part: Any, given: Iterable[str] = ()) -> Iterator[Option]:
    """Yield every option, inherited ones last.

    Args:
        part: A class or function.
        given: Arguments that no config gives.
    """
    # What this one does not take although its base does.
    seen = {*_COMMON, *given, *getattr(part, 'refused_options', ())}
    for base in inspect.getmro(part) if inspect.isclass(part) else (part,):
        init = vars(base).get('__init__') if inspect.isclass(base) else base
        if init is None or base.__module__.split('.')[0] != _PACKAGE:
            continue
        for name, parameter in inspect.signature(init).parameters.items():
            # What can only be None is there for its name, and what is private for heirs.
            of_no_use = parameter.annotation == 'None' or str(parameter.annotation)[0] == '_'
            if name in seen or parameter.kind in (2, 4) or of_no_use:
                continue
            seen.add(name)
            shown = _default(parameter.default)
            meaning = ' '.join(to_markdown(_told(base, name)).split())
            kind = _kind(parameter.annotation, vars(sys.modules[base.__module__]))
            yield Option(name, kind, shown, meaning)


def _told(owner: Any, name: str) -> str:
    """Return what a docstring says of an argument, or what the one that it refers to does."""
    params = [p for p in docstring_of(owner).params if p.args[0] == 'param']
    text = next((p.description or '' for p in params if p.arg_name == name), '')
    other = re.match(r'As for :\w+:`~?(?:[\w.]+\.)?(\w+)`', text)
    if other:
        source = getattr(mm, other[1], None) or MODELS.module_dict.get(other[1])
        source = source or next((b for b in owner.__mro__ if b.__name__ == other[1]), None)
        told = _told(source, name) if inspect.isclass(source) and source is not owner else ''
        if told:
            rest = text[other.end() :].removeprefix('.')
            return told.removesuffix('.') + rest if rest.startswith((',', ';')) else told + rest
    return text


def _kind(annotation: Any, names: Mapping[str, Any]) -> str:
    """Return the type of an option in words, with the values where there are a few.

    Args:
        annotation: As the signature has it.
        names: Of the module, to look up names of such values.

    >>> _kind('Sequence[str] | None', {})
    'list[str] or None'
    >>> _kind('Form | None', {'Form': Literal['sum', 'mean']})
    "'sum' or 'mean' or None"
    """
    if annotation in (inspect.Parameter.empty, 'Any', 'Any | None', Any):
        return ''
    text = re.sub(r'\w+', lambda word: _values(names.get(word[0])) or word[0], str(annotation))
    for pattern, words in _KINDS:
        text = re.sub(pattern, words, text)
    return text


def _values(alias: Any) -> str:
    return ' or '.join(map(repr, get_args(alias))) if get_origin(alias) is Literal else ''


def _default(default: Any) -> str:
    """Return a default as a config has it.

    >>> _default({'type': 'BN'})
    "`dict(type='BN')`"
    """
    if default is inspect.Parameter.empty:
        return 'required'
    if isinstance(default, Mapping) and all(str(key).isidentifier() for key in default):
        return f'`dict({", ".join(f"{key}={value!r}" for key, value in default.items())})`'
    return f'`{default!r}`'


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table, without the columns that are empty in every row."""
    kept = [n for n, _ in enumerate(header) if n == 0 or any(row[n] for row in rows)]
    lines = [_row([header[n] for n in kept]), _row(['---'] * len(kept))]
    return lines + [_row([row[n].replace('|', '\\|') for n in kept]) for row in rows]


def _row(cells: list[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def options_table(part: Any, given: Iterable[str] = ()) -> list[str]:
    """Return the lines of the table of a part's options; none where it takes none."""
    rows = [(f'`{o.name}`', o.kind, o.default, o.meaning) for o in options_of(part, given)]
    return table(('option', 'type', 'default', 'meaning'), rows) if rows else []
