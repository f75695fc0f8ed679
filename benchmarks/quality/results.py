"""The file of results: a line for each run, in JSON, and nothing is run twice."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from mmrazor_mutators.durable import write_durably

__all__ = ['FILE', 'ROOT', 'circumstances', 'key_of', 'read_rows', 'update_row']

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / 'benchmarks' / 'results' / 'quality.jsonl'
KEY = ('size', 'space', 'data', 'method', 'seed')

Row = dict[str, Any]


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells a run from all others."""
    return tuple(row[name] for name in KEY)


def read_rows(path: Path) -> list[Row]:
    """Return all runs; of a file that is not there none."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding='utf-8').splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def update_row(path: Path, row: Row) -> None:
    """Put a run into the file, in the place of what it says of the same run."""
    rows = {key_of(old): old for old in read_rows(path)}
    rows[key_of(row)] = rows.get(key_of(row), {}) | row
    write_rows(path, rows.values())


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write all runs, in an order that does not depend on when they were run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(rows, key=lambda row: tuple(map(str, key_of(row)[:-1])) + (row['seed'],))
    write_durably(path, ''.join(json.dumps(row) + '\n' for row in ordered))


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
