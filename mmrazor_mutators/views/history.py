"""What a work directory tells of its search, as far as its files are whole."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..search.records import EPOCHS_FILE, SPACE_COLUMNS, SPACES_FILE, whole_rows
from ..search.watching import entropy, margin

__all__ = ['History', 'SpaceHistory', 'read_history']

_MAX_BYTES = 2**28
"""Of a file; six hundred epochs of a hundred spaces of eight choices have a tenth of it."""


@dataclass(frozen=True, eq=False)
class SpaceHistory:
    """What was believed of one space.

    Attributes:
        choices: All that it ever had, in their order.
        epochs: Numbers of epochs, growing, shape ``(E,)``.
        probabilities: Shape ``(E, C)``; NaN where a choice had left the search.
        logits: Shape ``(E, C)``; NaN there as well, and in a space without any.
    """

    choices: tuple[str, ...]
    epochs: np.ndarray
    probabilities: np.ndarray
    logits: np.ndarray

    @property
    def is_learnt(self) -> bool:
        """Whether it has architecture parameters."""
        return bool(np.isfinite(self.logits).any())

    @property
    def entropies(self) -> np.ndarray:
        """How undecided it was, from 0 to 1, shape ``(E,)``."""
        return np.array([entropy(row) for row in self._present()])

    @property
    def margins(self) -> np.ndarray:
        """By how much the leader was ahead in probability, shape ``(E,)``."""
        return np.array([margin(row) for row in self._present()])

    @property
    def leader(self) -> str | None:
        """The likeliest choice of the last epoch."""
        last = self.probabilities[-1]
        return self.choices[int(np.nanargmax(last))] if np.isfinite(last).any() else None

    def _present(self) -> list[list[float]]:
        return [row[~np.isnan(row)].tolist() for row in self.probabilities]


@dataclass(frozen=True, eq=False)
class History:
    """A search as it was noted, epoch by epoch.

    Attributes:
        work_dir: Where it was read.
        epochs: ``{column: numbers}`` of ``epochs.csv``, of equal length, with a column
            ``epoch``; NaN where a cell is empty. Empty without such a file.
        spaces: ``{space_id: SpaceHistory}`` of ``spaces.csv``.
        problems: What is wrong with the files, in words.
    """

    work_dir: Path
    epochs: dict[str, np.ndarray] = field(default_factory=dict)
    spaces: dict[str, SpaceHistory] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def num_epochs(self) -> int:
        """How many epochs were noted."""
        return len(self.epochs.get('epoch', ()))

    def column(self, name: str) -> np.ndarray | None:
        """Return a column that has at least one number, else ``None``."""
        values = self.epochs.get(name)
        return values if values is not None and np.isfinite(values).any() else None


def read_history(work_dir: str | os.PathLike[str]) -> History:
    """Read what a monitor has written, also while it writes or after a kill.

    Rows that are not whole, or make no sense, are left out; of an epoch that is there twice
    the later row counts.

    Args:
        work_dir: A work directory of ``search``, or the ``out_dir`` of a ``SearchMonitor``.

    Raises:
        ConfigError: There is no such folder.
    """
    folder = Path(work_dir)
    if not folder.is_dir():
        raise ConfigError(f'There is no folder {os.fspath(work_dir)!r} to read a search from')
    problems: list[str] = []
    epochs = _epochs_of(_rows_of(folder / EPOCHS_FILE, problems), problems)
    spaces = _spaces_of(_rows_of(folder / SPACES_FILE, problems), problems)
    return History(folder, epochs, spaces, tuple(problems))


def _rows_of(path: Path, problems: list[str]) -> list[list[str]]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            problems.append(f'{path.name} is larger than {_MAX_BYTES:,} bytes')
            return []
        rows = whole_rows(path)
        lines = path.read_bytes().count(b'\n')
        cut = path.stat().st_size > 0 and not path.read_bytes().endswith(b'\n')
    except FileNotFoundError:
        problems.append(f'{path.name} is not there')
        return []
    except OSError as error:
        problems.append(f'{path.name} cannot be read: {error.strerror or error}')
        return []
    if not rows:
        problems.append(f'{path.name} holds no rows of a monitor')
    elif len(rows) < lines or cut:
        problems.append(f'{path.name}: {lines + cut - len(rows)} rows are not whole')
    return rows


def _number(text: str) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan


def _epochs_of(rows: list[list[str]], problems: list[str]) -> dict[str, np.ndarray]:
    if not rows:
        return {}
    columns = rows[0]
    if len(set(columns)) < len(columns):
        problems.append(f'{EPOCHS_FILE} has a column twice')
        return {}
    found = {int(row[0]): [_number(cell) for cell in row[1:]] for row in rows[1:]}
    table = np.array([[epoch, *found[epoch]] for epoch in sorted(found)], dtype=float)
    table = table.reshape(len(found), len(columns))
    return {name: table[:, index] for index, name in enumerate(columns)}


def _spaces_of(rows: list[list[str]], problems: list[str]) -> dict[str, SpaceHistory]:
    if rows and tuple(rows[0]) != SPACE_COLUMNS:
        problems.append(f'{SPACES_FILE} has other columns than {", ".join(SPACE_COLUMNS)}')
        return {}
    cells: dict[str, dict[int, dict[str, tuple[float, float]]]] = {}
    for epoch, space_id, choice, logit, probability in rows[1:]:
        of_epoch = cells.setdefault(space_id, {}).setdefault(int(epoch), {})
        of_epoch[choice] = _number(logit), _number(probability)
    return {space_id: _space_of(of_space) for space_id, of_space in cells.items()}


def _space_of(cells: dict[int, dict[str, tuple[float, float]]]) -> SpaceHistory:
    epochs = sorted(cells)
    choices = tuple(dict.fromkeys(_names(cells[epoch] for epoch in epochs)))
    nothing = math.nan, math.nan
    table: Any = [[cells[epoch].get(c, nothing) for c in choices] for epoch in epochs]
    values = np.array(table, dtype=float).reshape(len(epochs), len(choices), 2)
    return SpaceHistory(choices, np.array(epochs), values[..., 1], values[..., 0])


def _names(rows: Iterable[dict[str, Any]]) -> Iterable[str]:
    for row in rows:
        yield from row
