"""A pytest plugin: leave out the test modules that import mmengine, or what needs it.

For the runs on mmcv 1.x, as ``-p without_mmengine``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ENGINE = ('mmengine', 'mmrazor_mutators.engine')
"""What is not there; of our engine, listing and drawing are."""


def imports_at_once(path: Path) -> Iterator[str]:
    """Yield what a module imports when it is imported itself, as dotted names."""
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def needs_mmengine(path: Path) -> bool:
    """Tell whether a test module cannot be imported without mmengine."""
    return any(
        name == needed or name.startswith(f'{needed}.')
        for name in imports_at_once(path)
        for needed in ENGINE
    )


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Pass over test modules that need mmengine."""
    if collection_path.name.startswith('test_') and collection_path.suffix == '.py':
        return needs_mmengine(collection_path) or None
    return None


def pytest_report_header(config: pytest.Config) -> str:
    """Name the host that is tested."""
    from mmrazor_mutators import host

    return f'host: {host.NAME} {host.VERSIONS}'
