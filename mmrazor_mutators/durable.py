"""Files that are there as a whole or not at all, whenever the process or the machine stops."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = [
    'draft_of',
    'is_gone',
    'make_durably',
    'publish',
    'remove_stale_drafts',
    'sync',
    'write_durably',
]

_DRAFT = re.compile(r'\..+\.(\d+)')


def draft_of(target: Path) -> Path:
    """Return where this process writes what is to become ``target``."""
    return target.with_name(f'.{target.name}.{os.getpid()}')


def sync(path: Path) -> None:
    """Let the disk hold what was written to a file, or the names in a folder."""
    try:
        number = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders.
        return
    try:
        with suppress(OSError):  # Some network file systems refuse it for folders.
            os.fsync(number)
    finally:
        os.close(number)


def publish(draft: Path, target: Path) -> None:
    """Give a draft its name, in one go and for good."""
    sync(draft)
    os.replace(draft, target)
    sync(target.parent)


def write_durably(target: Path, content: str | bytes) -> None:
    """Write a file; whoever reads it finds the old content or the new one, never a part.

    Args:
        target: In a folder that is there.
        content: Text is written as UTF-8.

    Raises:
        OSError: It cannot be written; then the old file is still there.
    """
    data = content.encode() if isinstance(content, str) else content

    def fill(draft: Path) -> None:
        draft.write_bytes(data)

    make_durably(target, fill)


def make_durably(target: Path, fill: Callable[[Path], Any]) -> None:
    """Let ``fill`` make a draft of a file, and give it its name."""
    draft = draft_of(target)
    try:
        fill(draft)
        publish(draft, target)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def remove_stale_drafts(folder: Path) -> list[str]:
    """Remove the drafts of processes that are gone; return their names."""
    removed = []
    for path in sorted(folder.glob('.*')):
        match = _DRAFT.fullmatch(path.name)
        if match and path.is_file() and is_gone(int(match[1]), path):
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def is_gone(process: int, draft: Path) -> bool:
    """Whether a process has ended, or began after the draft: numbers are given out again."""
    if process == os.getpid():
        return True  # It is asked before anything is written.
    if os.name == 'nt':  # There the signal 0 is not a mere question.
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    try:
        return _begin_of(process) > draft.stat().st_mtime + 2
    except (OSError, ValueError, IndexError):  # There is no /proc, or the process has ended.
        return False


def _begin_of(process: int) -> float:
    """Return when a process began, in seconds since 1970, as Linux tells."""
    booted = next(
        int(line.split()[1])
        for line in Path('/proc/stat').read_text().splitlines()
        if line.startswith('btime')
    )
    fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    return booted + int(fields[19]) / os.sysconf('SC_CLK_TCK')
