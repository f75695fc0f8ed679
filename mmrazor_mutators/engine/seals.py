"""Seals: what a checkpoint says of itself, and a checksum that tells whether it is whole.

A checkpoint is a ZIP archive, whose comment holds the seal; ``torch.load`` and
all that reads archives passes over it.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import ConfigError

__all__ = ['Facts', 'check_whole', 'read_facts', 'seal']

_END = b'PK\x05\x06'
_TAIL = 22  # Bytes of the end of an archive without a comment.
_MARK = b'mmrazor_mutators checkpoint\n'
_LARGEST = _TAIL + 0xFFFF
_DIGITS = 64


class Facts(NamedTuple):
    """What a checkpoint says of itself.

    Attributes:
        run: The number of the run in its work directory; a run that is
            resumed keeps its number.
        step: Number of steps that were taken.
        epoch: Number of epochs that were finished.
    """

    run: int
    step: int
    epoch: int


def seal(path: Path, facts: Facts) -> None:
    """Append a seal to a checkpoint that ``torch.save`` has written.

    Raises:
        ConfigError: The file is something else.
    """
    with open(path, 'r+b') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _TAIL, 0))
        tail = file.read()
        if not (tail.startswith(_END) and tail.endswith(b'\0\0')):
            raise ConfigError(
                f'Expected {str(path)!r} to be a checkpoint as torch.save writes it, but it '
                'does not end as a ZIP archive; were the old serialization or another backend '
                'asked for?'
            )
        told = _MARK + json.dumps(facts._asdict()).encode() + b'\n'
        file.seek(size - 2)
        file.write((len(told) + _DIGITS).to_bytes(2, 'little'))
        file.write(told)
        file.seek(0)
        digest = _digest(file, size + len(told))
        file.write(digest)


def read_facts(path: Path) -> Facts | None:
    """Return what the seal of a checkpoint says; ``None`` where there is none.

    Whether it is true, :func:`check_whole` tells.

    Raises:
        ConfigError: There was a seal, but it is damaged or cut off.
    """
    try:
        with open(path, 'rb') as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _LARGEST, 0))
            tail = file.read()
    except OSError as error:
        raise ConfigError(f'it cannot be read ({error.strerror})') from error
    if len(tail) >= _TAIL and tail[-_TAIL:].startswith(_END) and tail.endswith(b'\0\0'):
        return None
    place = tail.rfind(_MARK)
    begin = place - _TAIL
    if begin < 0 or not tail.startswith(_END, begin):
        raise ConfigError('it is damaged or cut off')
    comment = tail[place:]
    told = comment[len(_MARK) : -_DIGITS]
    try:
        facts = Facts(**json.loads(told))
    except (TypeError, ValueError) as error:
        raise ConfigError('its seal is damaged or cut off') from error
    if int.from_bytes(tail[place - 2 : place], 'little') != len(comment) or any(
        type(value) is not int for value in facts
    ):
        raise ConfigError('its seal is damaged or cut off')
    return facts


def check_whole(path: Path) -> None:
    """Refuse a checkpoint that is not, to the last bit, what was sealed.

    One without a seal, as earlier versions wrote it, passes if its records have
    the checksums of the archive.

    Raises:
        ConfigError: It is damaged or cut off; says no name.
    """
    if read_facts(path) is None:
        _check_records(path)
        return
    with open(path, 'rb') as file:
        size = file.seek(0, os.SEEK_END) - _DIGITS
        file.seek(0)
        digest = _digest(file, size)
        if file.read() != digest:
            raise ConfigError('its checksum is not that of what was written')


def _digest(file: BinaryIO, size: int) -> bytes:
    """Return the digits of the checksum of the next bytes of a file."""
    digest = hashlib.sha256()
    while size > 0 and (part := file.read(min(size, 1 << 20))):
        digest.update(part)
        size -= len(part)
    return digest.hexdigest().encode()


def _check_records(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # An archive that is damaged raises what it likes.
        raise ConfigError('it is damaged or cut off') from error
    if broken is not None:
        raise ConfigError(f'its record {broken!r} is damaged')
