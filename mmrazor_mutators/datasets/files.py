"""Find the files of a data set, and open them whether they are gzipped or not."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from ..errors import DataError

__all__ = ['DATA_ROOT', 'data_roots', 'first_file', 'read_bytes']

DATA_ROOT = 'MMRAZOR_MUTATORS_DATA'
"""Environment variable: a directory with one directory for each data set."""


def data_roots(root: str | os.PathLike[str] | None, name: str, *others: str) -> list[Path]:
    """List the directories in which a data set is looked for.

    Args:
        root: The only one, if given.
        name: Name of the directory under the one that the environment variable
            gives, and under ``data`` in the working directory.
        *others: Directories that come last.

    >>> [path.as_posix() for path in data_roots('my/data', 'cifar-10')]
    ['my/data']
    """
    if root is not None:
        return [Path(root).expanduser()]
    parents = [os.environ.get(DATA_ROOT), 'data']
    named = [Path(parent).expanduser() / name for parent in parents if parent]
    return [*named, *map(Path, others)]


def first_file(root: Path, names: Iterable[str]) -> Path | None:
    """Return the first of ``names`` that is a file in ``root``."""
    return next((path for name in names if (path := root / name).is_file()), None)


def read_bytes(path: Path) -> bytes:
    """Read a file, and unpack it where its content says that it is gzipped.

    Raises:
        DataError: It cannot be read, or the archive is broken.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b'\x1f\x8b' else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f'{path} cannot be read: {error}') from error
