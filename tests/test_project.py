"""The project keeps its own rules, as far as a test can see them."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTION = 'mmrazor-mutators'
SOURCES = sorted((ROOT / 'mmrazor_mutators').rglob('*.py'))
VERSION = runpy.run_path(str(ROOT / 'mmrazor_mutators' / 'version.py'))['__version__']
MAX_LINES = 300

# The distribution that an import comes from, where the names differ. Either
# mmcv will do, so a missing one is reported when it is imported.
DISTRIBUTION_OF = {
    'PIL': 'pillow',
    'mmcv': 'mmcv-lite',
    'sklearn': 'scikit-learn',
    'yaml': 'pyyaml',
}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imported_packages(tree):
    """Top-level names of all absolute imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split('.')[0]


@pytest.fixture(params=SOURCES, ids=name_of)
def source(request):
    return request.param


@pytest.fixture
def tree(source):
    return ast.parse(source.read_text(encoding='utf-8'))


def test_files_are_short(source):
    lines = len(source.read_text(encoding='utf-8').splitlines())
    assert lines <= MAX_LINES, f'{name_of(source)} has {lines} lines'


def test_modules_have_a_docstring(source, tree):
    if source.stem.startswith('_') and source.stem != '__init__':
        pytest.skip('private')
    assert ast.get_docstring(tree), f'{name_of(source)} has no docstring'


def test_nothing_is_asserted(tree):
    lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert lines == [], 'raise one of the errors in errors.py instead'


def declared():
    """Names of all distributions that the package or one of its extras requires."""
    requirements = map(Requirement, metadata.requires(DISTRIBUTION))
    return {canonicalize_name(requirement.name) for requirement in requirements}


def test_imported_packages_are_declared(tree):
    third_party = set(imported_packages(tree)) - set(sys.stdlib_module_names)
    third_party.discard('mmrazor_mutators')
    needed = {canonicalize_name(DISTRIBUTION_OF.get(name, name)) for name in third_party}
    assert needed - declared() == set()


def constraints():
    """``{name: [requirement, ...]}`` of the lines that hold for this Python."""
    found = {}
    for line in (ROOT / 'constraints.txt').read_text(encoding='utf-8').splitlines():
        if line and not line.startswith('#'):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_constraints_pin_one_version_of_each():
    for name, lines in constraints().items():
        (requirement,) = lines
        assert re.fullmatch(r'==[\w.]+', str(requirement.specifier)), name


def required_by(name, extras):
    """Requirements of an installed distribution that hold here with these extras."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for requirement in map(Requirement, lines):
        if requirement.marker is None or any(
            requirement.marker.evaluate({'extra': extra}) for extra in extras
        ):
            yield requirement


def test_constraints_cover_everything_that_is_installed():
    pinned = constraints()
    seen, queue = set(), [Requirement(f'{DISTRIBUTION}[dev]')]
    while queue:
        requirement = queue.pop()
        name, extras = canonicalize_name(requirement.name), {'', *requirement.extras}
        # The GPU builds of torch bring libraries, each pinned by torch itself.
        if (name, *sorted(extras)) in seen or name.startswith(('nvidia-', 'cuda-', 'triton')):
            continue
        seen.add((name, *sorted(extras)))
        queue += required_by(name, extras)
    names = {name for name, *_ in seen} - {DISTRIBUTION}
    assert {'torch', 'mmcv-lite', 'pytest', 'mpmath'} <= names
    assert names - set(pinned) == set()


def test_setup_imports_nothing_that_must_be_installed_first():
    tree = ast.parse((ROOT / 'setup.py').read_text(encoding='utf-8'))
    assert set(imported_packages(tree)) - set(sys.stdlib_module_names) == {'setuptools'}


def test_installed_version_is_the_one_in_the_source():
    assert metadata.version(DISTRIBUTION) == VERSION


def test_changelog_has_the_version():
    changelog = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
    assert re.search(rf'^## \[{re.escape(VERSION)}\] - ', changelog, re.MULTILINE)
