"""One run at a time in a work directory."""

from __future__ import annotations

import errno
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from mmengine.dist import is_main_process

from ..durable import is_gone
from ..errors import ConfigError

try:
    import fcntl
except ImportError:  # There are no such locks on Windows.
    fcntl = None  # type: ignore[assignment]

__all__ = ['alone_in_work_dir', 'holder_of', 'locked']

_P = ParamSpec('_P')
_R = TypeVar('_R')
_NAME = '.lock'
_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_held: set[int] = set()


def alone_in_work_dir(job: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a job hold the lock of its argument ``work_dir``."""

    @functools.wraps(job)
    def alone(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        bound = inspect.signature(job).bind(*args, **kwargs)
        with locked(Path(bound.arguments['work_dir'])):
            return job(*args, **kwargs)

    return alone


@contextmanager
def locked(work_dir: Path) -> Iterator[None]:
    """Hold the lock of a work directory, which ends with the process at the latest.

    The directory is made if it is missing, and removed again if it stays empty.
    Of the ranks of a job the first holds it.

    Raises:
        ConfigError: Another process holds it, whose number is named, or the directory
            cannot be made or written to.
    """
    if not is_main_process() or int(os.environ.get('RANK', '0')) != 0:
        yield
        return
    made = [folder for folder in (work_dir, *work_dir.parents) if not folder.exists()]
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        number = _take(work_dir / _NAME)
    except OSError as error:
        raise ConfigError(
            f'Cannot write into the work directory {str(work_dir)!r}: {error.strerror}'
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            (work_dir / _NAME).unlink(missing_ok=True)
        _held.discard(number)
        os.close(number)
        with suppress(OSError):  # It is not empty.
            for folder in made:
                folder.rmdir()


def holder_of(work_dir: Path) -> int | None:
    """Return the number of the process of this machine that is at work in a directory.

    Nothing is locked to find out: a search that begins just then is not kept from it.
    """
    path = work_dir / _NAME
    try:
        number = int(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    alive = number == os.getpid() or (number > 0 and not is_gone(number, path))
    return number if alive else None


def _take(path: Path) -> int:
    """Return the open and locked file."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(number), os.stat(path)):
                raise FileNotFoundError  # Another process has ended and removed it.
        except FileNotFoundError:
            os.close(number)
            continue
        except OSError as error:
            if error.errno in _TAKEN:
                holder = os.read(number, 20).decode(errors='replace').strip()
                os.close(number)
                raise ConfigError(
                    f'The process {holder or "of another job"} is at work in '
                    f'{str(path.parent)!r}: wait for it, stop it, or give another --work-dir'
                ) from error
            # Some network file systems have no locks; the search runs all the same.
        with suppress(OSError):
            os.ftruncate(number, 0)
            os.pwrite(number, f'{os.getpid()}\n'.encode(), 0)
        _held.add(number)
        return number


def _close_in_child() -> None:
    """Leave the lock to the parent: it has to end with that, not with its workers."""
    for number in _held:
        with suppress(OSError):
            os.close(number)
    _held.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_close_in_child)
