"""Which parts there are to name in a config."""

from __future__ import annotations

import inspect
import re
import sys
from fnmatch import fnmatchcase
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from ..errors import ConfigError, did_you_mean
from .catalogue import KINDS, TRAITS, Part, read_parts

__all__ = ['KINDS', 'list_parts', 'live_parts', 'plain', 'summary_of', 'trait_of']

_PACKAGE = __name__.split('.')[0]

COLUMNS = {
    'mutators': ('name', 'samples', 'runs', 'paper'),
    'extensions': ('name', 'what it is', 'paper'),
}
"""What a list of one kind alone tells, where that is not just what all lists tell."""

_MARKUP = (
    (re.compile(r'(?::\w+:)?`+([^`]+)`+'), r'\1'),  # Roles and literals.
    (re.compile(r'\\mathrm{(\w+)}'), r'\1'),
    (re.compile(r'\\[, ]'), ''),
    (re.compile(r'\\(\w+)'), r'\1'),  # TeX's \alpha.
)


def list_parts(kind: str | None = None, pattern: str | None = None) -> Table:
    """List registered parts as a table for a rich console: kind, name, what it is.

    A list of mutators alone says what each samples, what a forward pass runs
    and where it was published; one of extensions, where they were.

    Args:
        kind: One of :data:`KINDS`; all of them by default.
        pattern: A wildcard such as ``'Darts*'`` that the whole name matches, or
            a part of the name; upper and lower case are the same.

    Raises:
        ConfigError: An unknown kind.

    >>> table = list_parts('hypergradients', '*order')
    >>> [str(name) for name in table.columns[1].cells]
    ['first_order']
    >>> [column.header for column in list_parts('mutators').columns]
    ['name', 'samples', 'runs', 'paper']
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f'{kind!r} is not a kind of part; {did_you_mean(str(kind), KINDS)}')
    # What a program has registered itself is known where the package is in use.
    parts = live_parts() if f'{_PACKAGE}.public' in sys.modules else read_parts()
    table = Table(box=box.SIMPLE_HEAD)
    columns = COLUMNS.get(kind or '', ('kind', 'name', 'what it is'))
    for column in columns:
        style = 'bold' if column == 'name' else ''
        fixed = column in ('kind', 'name')
        table.add_column(column, no_wrap=fixed, overflow='fold', style=style)
    for key in KINDS if kind is None else [kind]:
        for name, part in sorted(parts[key].items()):
            if pattern is None or _matches(name, pattern):
                cells = {'kind': key, 'name': name, 'what it is': plain(part.summary)}
                if key in COLUMNS:
                    traits = {'samples': 'samples', 'runs': 'cost', 'paper': 'paper'}
                    cells.update({c: part.traits.get(t, '') for c, t in traits.items()})
                table.add_row(*(Text(cells[column]) for column in columns))
    if not table.rows:
        among = 'parts' if kind is None else kind
        which = '' if pattern is None else f' match {pattern!r}'
        table.caption = Text(f'No {among}{which or " are registered"}.')
    return table


def live_parts() -> dict[str, dict[str, Part]]:
    """Return ``{kind: {name: part}}`` of all parts that are registered in this process."""
    from .. import registry

    found: dict[str, dict[str, Part]] = {}
    for kind, name in KINDS.items():
        parts = getattr(registry, name)
        parts.import_from_location()
        found[kind] = {
            name: Part(name, summary_of(part), {t: trait_of(part, t) for t in TRAITS})
            for name, part in parts.module_dict.items()
        }
    return found


def _matches(name: str, pattern: str) -> bool:
    """Tell whether a name fits a wildcard, or holds a pattern without any.

    >>> _matches('DartsSepConv', 'darts*'), _matches('DartsSepConv', 'SEP')
    (True, True)
    >>> _matches('DartsSepConv', 'sep*')
    False
    """
    name, pattern = name.lower(), pattern.lower()
    if any(character in pattern for character in '*?['):
        return fnmatchcase(name, pattern)
    return pattern in name


def trait_of(part: Any, trait: str) -> str:
    """Return what a class says of itself; a registered part's paper is not its heirs'."""
    if inspect.isabstract(part) or (trait != 'paper' and not getattr(part, 'paper', '')):
        return ''
    if trait == 'paper':
        source = next(
            (base for base in getattr(part, '__mro__', ()) if trait in vars(base)), part
        )
        from ..registry import MODELS

        if source is not part and MODELS.module_dict.get(source.__name__) is source:
            return ''
    return str(getattr(part, trait, ''))


def summary_of(part: Any) -> str:
    """Return the first line of a docstring, without the marks of its markup."""
    line, *_ = (part.__doc__ or '').strip().splitlines() or ['']
    return plain(line)


def plain(line: str) -> str:
    r"""Return text without the marks of its markup.

    >>> plain(r'Mixes by :math:`\mathrm{softmax}(\alpha)`.')
    'Mixes by softmax(alpha).'
    """
    for mark, text in _MARKUP:
        line = mark.sub(text, line)
    return line
