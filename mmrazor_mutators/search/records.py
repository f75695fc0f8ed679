"""The files of a monitor, which hold each epoch once, whenever the process was ended."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..durable import write_durably
from ..errors import ConfigError
from .watching import SpaceLook

__all__ = ['EPOCHS_FILE', 'SPACES_FILE', 'EpochFile', 'SpaceFile', 'whole_rows']

EPOCHS_FILE, SPACES_FILE = 'epochs.csv', 'spaces.csv'
SPACE_COLUMNS = ('epoch', 'space_id', 'choice', 'logit', 'probability')


def whole_rows(path: Path) -> list[list[str]]:
    """Return the rows of a file that are whole, the first of them with the columns.

    A row that a kill has cut off, or that has other columns, is left out.

    Raises:
        OSError: It cannot be read.
    """
    text = path.read_bytes().decode('utf-8', errors='replace')
    text = text[: text.rfind('\n') + 1].replace('\0', '\ufffd')
    rows: list[list[str]] = []
    for line in text.split('\n'):
        try:
            row = next(csv.reader([line], strict=True), [])
        except csv.Error:
            continue
        if row and (not rows or (len(row) == len(rows[0]) and _is_epoch(row[0]))):
            rows.append(row)
    return rows if rows and rows[0][0] == 'epoch' else []


def _is_epoch(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


class EpochFile:
    """One row an epoch; columns may come later, where the earlier rows have none.

    Args:
        path: Written anew with each row, in one go.

    Raises:
        ConfigError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: list[str] = ['epoch']
        self._rows: list[dict[str, str]] = []
        columns, *rows = _read(path) or [['epoch']]
        for row in rows:
            self._add(dict(zip(columns, row, strict=True)))

    def _add(self, row: Mapping[str, str]) -> None:
        self._rows.append(dict(row))
        self._columns += [name for name in row if name not in self._columns]

    def rewind(self, epoch: int) -> None:
        """Forget the rows from an epoch on."""
        kept = [row for row in self._rows if int(row['epoch']) < epoch]
        if len(kept) < len(self._rows):
            self._rows = kept
            self._write()

    def write(self, epoch: int, numbers: Mapping[str, float | None]) -> None:
        """Write the row of an epoch; NaN stands for what is no number, nothing for ``None``."""
        self._rows = [row for row in self._rows if int(row['epoch']) < epoch]
        self._add({'epoch': str(epoch), **{n: _told(x) for n, x in numbers.items()}})
        self._write()

    def _write(self) -> None:
        rows = [[row.get(name, '') for name in self._columns] for row in self._rows]
        _replace(self._path, _text([self._columns, *rows]))


class SpaceFile:
    """One row for each choice of each space and epoch, appended.

    Args:
        path: Of the file.

    Raises:
        ConfigError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = -1
        self._forget_from(None)

    def rewind(self, epoch: int) -> None:
        """Forget the rows from an epoch on."""
        if self._last >= epoch:
            self._forget_from(epoch)

    def _forget_from(self, epoch: int | None) -> None:
        """Keep the whole rows before an epoch."""
        rows = _read(self._path)[1:]
        kept = [row for row in rows if epoch is None or int(row[0]) < epoch]
        self._last = max((int(row[0]) for row in kept), default=-1)
        text = _text([SPACE_COLUMNS, *kept])
        if not self._path.is_file() or self._path.read_bytes() != text.encode():
            _replace(self._path, text)

    def write(self, epoch: int, spaces: Mapping[str, SpaceLook]) -> None:
        """Append the rows of an epoch."""
        self.rewind(epoch)
        lines: list[Sequence[str]] = []
        for space_id, look in spaces.items():
            logits: Sequence[float | None] = look.logits or [None] * len(look.choices)
            for choice, logit, p in zip(look.choices, logits, look.probabilities, strict=True):
                lines.append((str(epoch), space_id, choice, _told(logit), _told(p)))
        if not lines:
            return
        try:
            with self._path.open('ab') as file:
                file.write(_text(lines).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot('written', self._path, error) from error
        self._last = epoch


def _told(number: float | None) -> str:
    # Nine digits tell any number of single precision from its neighbours.
    if number is None:
        return ''
    return f'{number:.9g}' if math.isfinite(number) else str(float(number))


def _text(rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator='\n').writerows(rows)
    return buffer.getvalue()


def _read(path: Path) -> list[list[str]]:
    try:
        return whole_rows(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _cannot('read', path, error) from error


def _replace(path: Path, text: str) -> None:
    try:
        write_durably(path, text)
    except OSError as error:
        raise _cannot('written', path, error) from error


def _cannot(what: str, path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f'The file {str(path)!r}, in which a search is watched, cannot be {what}: '
        f'{error.strerror or error}'
    )
