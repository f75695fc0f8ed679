"""Whose code an error arose in: that of a user is named with its line."""

from __future__ import annotations

import os
import pickle
import sysconfig
import traceback
from pathlib import Path

__all__ = ['one_line', 'place_of', 'reason_of']

_PACKAGE = str(Path(__file__).resolve().parent) + os.sep
_OTHERS = tuple(
    {
        os.path.realpath(path) + os.sep
        for key, path in sysconfig.get_paths().items()
        if key in ('stdlib', 'platstdlib', 'purelib', 'platlib')
    }
)


def place_of(error: BaseException) -> str | None:
    """Return where in a user's own code an error arose; ``None`` if it did not.

    That is the innermost call outside of Python, of installed packages and of this one.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = os.path.realpath(frame.filename)
        if frame.filename.startswith('<') or path.startswith((_PACKAGE, *_OTHERS)):
            continue
        if os.path.basename(path) in ('mmrazor-mutators', '__main__.py'):
            continue
        line = (frame.line or '').strip()
        return f'{frame.filename}:{frame.lineno}, in {frame.name}: {line}'
    return None


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line; of an error in a worker, what it said there.

    >>> one_line(ValueError('no such key'))
    'ValueError: no such key'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith('Caught ') and 'Original Traceback' in str(error):
        worker = lines[0].split(' in ', 1)[-1].rstrip('.')
        return (
            f'{lines[-1].split(".")[-1] if ":" not in lines[-1] else lines[-1]} (in {worker})'
        )
    return f'{type(error).__name__}: {" ".join(lines) or "no message"}'


def reason_of(error: Exception) -> str:
    """Return what an error of torch or of the host says, without its advice.

    >>> reason_of(ValueError('no such key'))
    'ValueError: no such key'
    """
    if 'Original Traceback' in str(error):
        return one_line(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, pickle.UnpicklingError) and len(lines) > 1:
        refused = [line.split('. ')[0] for line in lines if 'WeightsUnpickler error' in line]
        lines = refused or lines[:1]
    return f'{type(error).__name__}: {" ".join(lines[:4]) or "no reason given"}'
