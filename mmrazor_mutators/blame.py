"""Whose code an error arose in: that of a user is named with its class and its line."""

from __future__ import annotations

import ast
import os
import pickle
import re
import sysconfig
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ['in_worker', 'of_loader', 'one_line', 'place_of', 'reason_of']

_PACKAGE = str(Path(__file__).resolve().parent) + os.sep
_OTHERS = tuple(
    {
        os.path.realpath(path) + os.sep
        for key, path in sysconfig.get_paths().items()
        if key in ('stdlib', 'platstdlib', 'purelib', 'platlib')
    }
)


_LOADER = f'{os.sep}torch{os.sep}utils{os.sep}data{os.sep}'
_FRAME = re.compile(r'  File "(.+)", line (\d+), in (.+)')
_CAUGHT = re.compile(r'Caught \w+ in (.+?)\.?\n')
_UNEQUAL = 'stack expects each tensor to be equal size'


def in_worker(error: BaseException) -> bool:
    """Whether an error arose in a worker of a data loader, which sends it as text."""
    text = str(error)
    return _CAUGHT.match(text) is not None and 'Original Traceback' in text


def place_of(error: BaseException) -> str | None:
    """Return where in a user's own code an error arose; ``None`` if it did not.

    That is the innermost call outside of Python, of installed packages and of this
    one, in a worker of a data loader as well.
    """
    if in_worker(error):
        lines = _traceback_in(str(error))[0]
        matches = [match for match in map(_FRAME.match, lines) if match]
        frames = [
            traceback.FrameSummary(m[1], int(m[2]), m[3].rpartition('.')[2]) for m in matches
        ]
    else:
        frames = [*traceback.extract_tb(error.__traceback__)]
    for frame in reversed(frames):
        path = os.path.realpath(frame.filename)
        if frame.filename.startswith('<') or path.startswith((_PACKAGE, *_OTHERS)):
            continue
        if os.path.basename(path) in ('mmrazor-mutators', '__main__.py'):
            continue
        line = (frame.line or '').strip()
        name = _qualified(path, frame.lineno or 0, frame.name)
        return f'{frame.filename}:{frame.lineno}, in {name}: {line}'
    return None


def of_loader(error: BaseException) -> bool:
    """Whether an error arose where a data loader reads samples or makes a batch of them.

    Not so if the last to be called by the loader was this package.
    """
    if in_worker(error):
        return True
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    last = max((i for i, file in enumerate(files) if _LOADER in file), default=None)
    return last is not None and not any(
        os.path.realpath(file).startswith(_PACKAGE) for file in files[last:]
    )


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line; of an error in a worker, what it said there.

    >>> one_line(ValueError('no such key'))
    'ValueError: no such key'
    """
    if in_worker(error):
        caught = _CAUGHT.match(str(error))
        text = ' '.join(_joined(_traceback_in(str(error))[1]).split())
        # Our own errors speak for themselves.
        text = re.sub(rf'^{__name__.split(".")[0]}\.errors\.\w+: ', '', text)
        where = f' (in {caught[1]})' if caught else ''
    else:
        text = f'{type(error).__name__}: {_joined(str(error).splitlines()) or "no message"}'
        where = ''
    if _UNEQUAL in text:
        text += (
            '. All images of a batch have one size: end their transforms with '
            "dict(type='CenterCrop', size=...) or RandomResizedCrop"
        )
    return f'{text}{where}'


def reason_of(error: Exception) -> str:
    """Return what an error of torch or of the host says, without its advice.

    >>> reason_of(ValueError('no such key'))
    'ValueError: no such key'
    """
    if in_worker(error):
        return one_line(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, pickle.UnpicklingError) and len(lines) > 1:
        refused = [line.split('. ')[0] for line in lines if 'WeightsUnpickler error' in line]
        lines = refused or lines[:1]
    return f'{type(error).__name__}: {" ".join(lines[:4]) or "no reason given"}'


def _joined(lines: Iterable[str]) -> str:
    return ' '.join(line.strip() for line in lines if line.strip())


def _traceback_in(text: str) -> tuple[list[str], list[str]]:
    """Return the lines of the last traceback in a text, and those of the message after it."""
    lines = text.split('Traceback (most recent call last):')[-1].splitlines()[1:]
    end = next((i for i, line in enumerate(lines) if not line.startswith('  ')), len(lines))
    return lines[:end], lines[end:]


def _qualified(path: str, line: int, name: str) -> str:
    """Return the name of a function with that of its class, which a traceback lacks."""
    with suppress(OSError, SyntaxError, ValueError):
        for node in ast.walk(ast.parse(Path(path).read_text(encoding='utf-8'))):
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if getattr(inner, 'name', None) == name and _spans(inner, line):
                        return f'{node.name}.{name}'
    return name


def _spans(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)
