"""docs/api.md: the public names; the site adds a page for each group of them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmrazor_mutators as mm
from mmrazor_mutators.registry import PartRegistry
from mmrazor_mutators.views.listing import summary_of

from .options import docstring_of, table, to_markdown

ROOT = Path(__file__).resolve().parents[2]

HEAD = """# API

Public names, as `import mmrazor_mutators as mm` has them: `mm.BilevelSearch` and so on.
Written by `python docs/generate.py` from docstrings. On a code host each name leads to its
source, on the site to its whole description. What stands in other modules may change.
"""

GROUPS = {
    'search': 'Search, look, ship',
    'networks': 'Networks of your own',
    'building': 'Build from configs',
    'mutators': 'Mutators',
    'extensions': 'Extensions',
    'mutables': 'Mutables',
    'architectures': 'Architectures and algorithms',
    'registries': 'Registries',
    'errors': 'Errors',
}
"""Titles of the groups by their names, which are those of pages."""

_ROOMS = {
    'algorithms': 'architectures',
    'architectures': 'architectures',
    'building': 'building',
    'errors': 'errors',
    'extensions': 'extensions',
    'mutables': 'mutables',
    'mutators': 'mutators',
    'searchable': 'networks',
}

# Where most of what others inherit is described.
_WITH_INHERITED = {'DartsMutator', 'DifferentiableMutable', 'Extension', 'OneShotMutator'}


def grouped() -> dict[str, dict[str, Any]]:
    """Return ``{group: {name: object}}`` of all public names."""
    found: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for name in mm.__all__:
        value = getattr(mm, name)
        if isinstance(value, PartRegistry):
            found['registries'][name] = value
        elif name != '__version__':
            room = value.__module__.split('.')[1]
            group = 'extensions' if _is_extension(value) else _ROOMS.get(room, 'search')
            found[group][name] = value
    errors = inspect.getmembers(mm.errors, inspect.isclass)
    found['errors'].update((n, e) for n, e in errors if issubclass(e, mm.NASError))
    return found


def _is_extension(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, mm.Extension)


def _row(name: str, value: Any) -> tuple[str, str]:
    if isinstance(value, PartRegistry):
        source, told = 'mmrazor_mutators/registry.py', _told_of_registry(name)
    else:
        source = os.path.relpath(inspect.getsourcefile(value) or '', ROOT)
        told = to_markdown(docstring_of(value).short_description or summary_of(value))
    return f'[{name}](../{Path(source).as_posix()})', ' '.join(told.split())


def _told_of_registry(name: str) -> str:
    if name == 'MODELS':
        return 'The common lookup of all of the others, for configs.'
    return f'Registry of {name.lower().replace("_", " ")}.'


def page() -> str:
    """Return the whole page."""
    parts = [HEAD.rstrip()]
    for group, members in grouped().items():
        rows = [_row(name, value) for name, value in members.items()]
        parts += [f'## {GROUPS[group]}', '\n'.join(table(('name', 'what it is'), rows))]
    return '\n\n'.join(parts) + '\n'


def reference(group: str) -> Iterator[str]:
    """Yield the lines of the site's page of a group, in reStructuredText."""
    title = GROUPS[group]
    yield from (title, '=' * len(title), '')
    for name, value in grouped()[group].items():
        module = 'mmrazor_mutators.errors' if group == 'errors' else 'mmrazor_mutators'
        if isinstance(value, PartRegistry):
            yield from (f'.. py:data:: {module}.{name}', '', f'   {_told_of_registry(name)}')
        elif inspect.isclass(value):
            yield from (
                f'.. autoclass:: {module}.{name}',
                '   :members:',
                '   :show-inheritance:',
            )
            if name in _WITH_INHERITED:
                yield '   :inherited-members: Module'
        else:
            yield f'.. autofunction:: {module}.{name}'
        yield ''
