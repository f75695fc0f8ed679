"""Imports go strictly downward through the floors of the package.

A module may import from lower floors and from its own room.  Two rooms on the
same floor do not know each other.  Imports inside functions and under
``TYPE_CHECKING`` count as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'mmrazor_mutators'

ROOMS: list[tuple[int, set[str]]] = [
    (
        0,
        {
            'blame',
            'checks',
            'distributed',
            'documents',
            'durable',
            'errors',
            'functional',
            'interrupts',
            'typing',
        },
    ),
    # What goes around a forward pass needs nothing of the house.
    (0, {'copies', 'recomputation', 'sharing', 'structures'}),
    (0, {'sheets'}),
    (1, {'builder', 'host', 'registry', 'version'}),
    (1, {'kernels'}),
    (2, {'mutables'}),
    (2, {'ops'}),
    (2, {'datasets'}),
    (2, {'optim'}),
    (3, {'architectures'}),
    (3, {'costs'}),
    (3, {'export'}),
    (3, {'searchable'}),
    (3, {'shipping'}),
    (4, {'mutators'}),
    (5, {'search'}),
    (6, {'algorithms'}),
    (6, {'extensions'}),
    (6, {'migration'}),
    (7, {'engine'}),
    (8, {'views'}),
    (6, {'building'}),
    (9, {'public'}),
    (
        9,
        {'arguments', 'cli', 'cli_compare', 'cli_costs', 'cli_jobs', 'cli_network', '__main__'},
    ),
]
FLOOR = {name: floor for floor, names in ROOMS for name in names}
ROOM = {name: index for index, (_, names) in enumerate(ROOMS) for name in names}
TOP = '__init__'
"""The package itself: it stands on top of all floors, so nobody imports it."""


def imported_names(package: Path, path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and top-level name of each import of ``path`` from its package."""
    # The packages that a leading dot, two dots, ... mean in this file.
    parents = (package.name, *path.relative_to(package).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            targets = [tuple(alias.name.split('.')) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else ()
            base += tuple(node.module.split('.')) if node.module else ()
            # A name that is imported from the package itself is a module of it
            # or something that __init__ offers.
            targets = [(*base, alias.name) for alias in node.names]
        else:
            continue
        for target in targets:
            if target[0] == package.name:
                name = target[1] if len(target) > 1 else TOP
                is_module = (package / name).is_dir() or (package / f'{name}.py').is_file()
                yield node.lineno, name if is_module else TOP


def violations(package: Path) -> list[str]:
    """Describe every import of the package that does not go downward."""
    found = []
    for path in sorted(package.rglob('*.py')):
        relative = path.relative_to(package)
        here = relative.parts[0].removesuffix('.py')
        if here == TOP:
            continue
        if here not in FLOOR:
            found.append(f'{relative}: no floor is given for {here!r}; add it to ROOMS')
            continue
        for line, there in imported_names(package, path):
            where = f'{relative}:{line}: floor {FLOOR[here]} imports'
            if there == TOP:
                found.append(f'{where} the package itself; name the module instead')
            elif there not in FLOOR:
                found.append(f'{where} {there!r}, which has no floor; add it to ROOMS')
            elif FLOOR[there] >= FLOOR[here] and ROOM[there] != ROOM[here]:
                found.append(f'{where} {there!r} from floor {FLOOR[there]}')
    return found


def test_imports_of_the_package_go_downward():
    assert violations(PACKAGE) == []


@pytest.fixture
def tree(tmp_path):
    """A made-up package with a few rooms, all of them empty."""
    package = tmp_path / 'house'
    for room in ('functional', 'mutables', 'ops', 'mutators', 'engine'):
        (package / room).mkdir(parents=True)
        (package / room / '__init__.py').touch()
    for module in ('__init__', 'errors', 'registry', 'cli'):
        (package / f'{module}.py').touch()
    return package


@pytest.mark.parametrize(
    ('path', 'source'),
    [
        ('mutators/base.py', 'import torch\nfrom torch.nn import functional'),
        ('mutators/base.py', 'from ..mutables.base import MutableModule'),
        ('mutators/base.py', 'from .. import errors, registry'),
        ('mutators/base.py', 'from .binding import bind\nfrom . import binding'),
        ('mutators/base.py', 'from house.functional import relax'),
        ('mutators/__init__.py', 'from .base import BaseMutator'),
        ('registry.py', 'from .errors import ConfigError\nfrom . import errors'),
        ('__init__.py', 'from .cli import main\nfrom . import engine'),
        ('cli.py', 'def main():\n    from .engine import hooks'),
    ],
)
def test_downward_imports_are_allowed(tree, path, source):
    (tree / path).write_text(source)
    assert violations(tree) == []


@pytest.mark.parametrize(
    ('path', 'source', 'complaint'),
    [
        ('mutables/base.py', 'from ..mutators import X', "2 imports 'mutators' from floor 4"),
        ('mutables/base.py', 'from .. import mutators', "2 imports 'mutators' from floor 4"),
        ('mutables/base.py', 'import house.engine.hooks', "2 imports 'engine' from floor 7"),
        ('mutables/base.py', 'from house import engine', "2 imports 'engine' from floor 7"),
        ('mutables/__init__.py', 'from ..engine import X', "2 imports 'engine' from floor 7"),
        ('mutables/base.py', 'from ..ops import X', "2 imports 'ops' from floor 2"),
        ('errors.py', 'from .registry import OPS', "0 imports 'registry' from floor 1"),
        ('errors.py', 'def f():\n    from . import cli', "0 imports 'cli' from floor 9"),
        ('engine/a.py', 'import house as mm', '7 imports the package itself'),
        ('engine/a.py', 'from .. import build_op', '7 imports the package itself'),
        ('cellar.py', '', "no floor is given for 'cellar'"),
        ('engine/a.py', 'from ..cellar import X', '7 imports the package itself'),
    ],
)
def test_other_imports_are_found(tree, path, source, complaint):
    (tree / path).write_text(source)
    (found,) = violations(tree)
    assert path in found
    assert complaint in found


def test_a_violation_names_its_line(tree):
    (tree / 'errors.py').write_text('import torch\n\n\ndef f():\n    from .cli import main\n')
    assert violations(tree) == ["errors.py:5: floor 0 imports 'cli' from floor 9"]
