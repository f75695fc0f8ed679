"""Which parts there are to name in a config."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from .. import registry
from ..errors import ConfigError, did_you_mean

__all__ = ['KINDS', 'list_parts']

KINDS: dict[str, registry.PartRegistry] = {
    'mutators': registry.MUTATORS,
    'mutables': registry.MUTABLES,
    'ops': registry.OPS,
    'architectures': registry.ARCHITECTURES,
    'algorithms': registry.ALGORITHMS,
    'extensions': registry.EXTENSIONS,
    'hypergradients': registry.HYPERGRADIENTS,
    'datasets': registry.DATASETS,
    'transforms': registry.TRANSFORMS,
    'metrics': registry.METRICS,
    'hooks': registry.HOOKS,
    'loops': registry.LOOPS,
    'optimizers': registry.OPTIMIZERS,
    'constructors': registry.OPTIM_WRAPPER_CONSTRUCTORS,
}
"""The registry of each kind of part."""

_MARKUP = (
    (re.compile(r'(?::\w+:)?`+([^`]+)`+'), r'\1'),  # Roles and literals.
    (re.compile(r'\\mathrm{(\w+)}'), r'\1'),
    (re.compile(r'\\[, ]'), ''),
    (re.compile(r'\\(\w+)'), r'\1'),  # TeX's \alpha.
)


def list_parts(kind: str | None = None, pattern: str | None = None) -> Table:
    """List registered parts as a table for a rich console: kind, name, what it is.

    Args:
        kind: One of :data:`KINDS`; all of them by default.
        pattern: A wildcard such as ``'Darts*'`` that the whole name matches, or
            a part of the name; upper and lower case are the same.

    Raises:
        ConfigError: An unknown kind.

    >>> table = list_parts('hypergradients', '*order')
    >>> [str(name) for name in table.columns[1].cells]
    ['first_order']
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f'{kind!r} is not a kind of part; {did_you_mean(str(kind), KINDS)}')
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column('kind', no_wrap=True)
    table.add_column('name', no_wrap=True, style='bold')
    table.add_column('what it is', overflow='fold')
    for key in KINDS if kind is None else [kind]:
        parts = KINDS[key]
        parts.import_from_location()
        for name, part in sorted(parts.module_dict.items()):
            if pattern is None or _matches(name, pattern):
                table.add_row(*map(Text, (key, name, _summary(part))))
    if not table.rows:
        among = 'parts' if kind is None else kind
        which = '' if pattern is None else f' match {pattern!r}'
        table.caption = Text(f'No {among}{which or " are registered"}.')
    return table


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


def _summary(part: Any) -> str:
    """Return the first line of a docstring, without the marks of its markup."""
    line, *_ = (part.__doc__ or '').strip().splitlines() or ['']
    for mark, plain in _MARKUP:
        line = mark.sub(plain, line)
    return line
