"""Files of results: a line for each run, in JSON, with when, where and by which code."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from mmrazor_mutators.durable import write_durably

__all__ = ['ROOT', 'Results', 'Row', 'add_keep', 'circumstances', 'results']

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / 'benchmarks' / 'results'

Row = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """A file of results.

    Attributes:
        path: Of the file; it need not be there.
        key: What tells a run from all others; what a row lacks counts as ``None``.
    """

    path: Path
    key: tuple[str, ...]

    def key_of(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what tells a run from all others."""
        return tuple(row.get(name) for name in self.key)

    def read(self) -> list[Row]:
        """Return all runs; of a file that is not there none."""
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding='utf-8').splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    def put(self, rows: Iterable[Row], *, instead: bool = False) -> None:
        """Put runs into the file; what is new takes the place of what it says of the same run.

        Rows that do not tell their circumstances get those of now.  The order of the lines
        does not depend on when they were put there.

        Args:
            rows: Of the runs.
            instead: Whether they take the place of all that is there.
        """
        known = {} if instead else {self.key_of(row): row for row in self.read()}
        for row in rows:
            old = known.get(self.key_of(row), {})
            known[self.key_of(row)] = old | circumstances() | row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        ordered = [known[key] for key in sorted(known, key=_order)]
        write_durably(self.path, ''.join(json.dumps(row) + '\n' for row in ordered))


def results(name: str, *key: str) -> Results:
    """Return a file of the repository, ``benchmarks/results/NAME.jsonl``."""
    return Results(FOLDER / f'{name}.jsonl', key)


def _order(key: tuple[Any, ...]) -> tuple[tuple[float, str], ...]:
    numbers = (int, float)
    return tuple((v, '') if isinstance(v, numbers) else (float('inf'), str(v)) for v in key)


def add_keep(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark be asked to keep what it measures."""
    parser.add_argument(
        '--keep',
        action='store_true',
        help='write the rows into benchmarks/results, of which `python -m benchmarks.pages` '
        'makes the tables of the docs',
    )


def circumstances() -> Row:
    """Return when, on what and with which code a run is made."""
    return {
        'date': datetime.now(timezone.utc).strftime('%Y-%m-%d'),
        'commit': _commit(),
        'processor': _processor(),
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
    }


def _commit() -> str:
    try:
        done = subprocess.run(
            ['git', '-C', str(ROOT), 'rev-parse', '--short=10', 'HEAD'],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return done.stdout.strip()


def _processor() -> str:
    """Return the kind of the processor and its vectors, and not which machine it is."""
    vectors = torch.backends.cpu.get_cpu_capability()
    return f'{platform.machine()}, {vectors}'
