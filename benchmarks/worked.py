"""The main job against random networks, and the worked examples against uniform scaling.

python -m benchmarks.worked main                          # ten seeds of what `make run` does
python -m benchmarks.worked resnet series unet            # three seeds each
python -m benchmarks.worked resnet --budget 0.05          # another budget than the config's

Each run is a line of benchmarks/results/worked.jsonl, with its date, commit and processor; what
is there is not run again.  ``python -m benchmarks.pages`` makes tables of them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mmrazor_mutators.engine.config import load_config

from .rows import ROOT, Results, Row, results

__all__ = ['MAIN', 'NAMES', 'RESULTS', 'budget_of', 'keep', 'main']

RESULTS = results('worked', 'task', 'budget', 'seed')
NAMES = ('resnet', 'mobilenet', 'characters', 'series', 'unet')
CONFIGS = ROOT / 'configs' / 'examples'
MAIN = CONFIGS / 'resnet.py'
"""What ``make run`` searches."""

RANDOM = 5
"""Random networks of the same cost for each seed of the main job."""


def budget_of(name: str) -> tuple[str, float]:
    """Return metric and share of the budget of an example.

    >>> budget_of('resnet')[0]
    'params'
    """
    extensions = load_config(CONFIGS / f'{name}.py').model['mutator']['extensions']
    budget = next(each for each in extensions if each['type'] == 'Budget')
    return next((m, budget[m]) for m in ('params', 'macs', 'latency_ms') if m in budget)


def run_main(seeds: int, out: Path) -> list[Row]:
    """Compare the main job with random networks, and return its runs."""
    arguments = [str(MAIN), '--seeds', str(seeds), '--random', str(RANDOM)]
    module('mmrazor_mutators', 'compare', *arguments, '--work-dir', str(out))
    rows = Results(out / 'runs.jsonl', ('seed',)).read()
    # Where the parts lie says something about one machine alone.
    return [{'task': 'main', **{k: row[k] for k in row if k != 'folder'}} for row in rows]


def run_example(name: str, seed: int, budget: float | None) -> Row:
    """Run the script of an example, and return what it found."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'run.jsonl'
        share = ['--budget', str(budget)] if budget else []
        module(f'examples.{name}', '--first-seed', str(seed), '--out', str(file), *share)
        (row,) = Results(file, ('seed',)).read()
    return {**row, 'budget': budget or budget_of(name)[1]}


def module(name: str, *arguments: str) -> None:
    """Run a module on one thread, and end with it where it fails."""
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    subprocess.run([sys.executable, '-m', name, *arguments], check=True, cwd=ROOT, env=env)


def keep(rows: Sequence[Row], file: Results) -> None:
    """Add runs to the file; those that are there are kept as they are."""
    known = {file.key_of(row) for row in file.read()}
    file.put({**row, 'threads': 1} for row in rows if file.key_of(row) not in known)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.worked',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('names', nargs='+', choices=('main', *NAMES), metavar='NAME')
    parser.add_argument('--seeds', type=int, help='ten of the main job, three of examples')
    parser.add_argument('--budget', type=float, help="another share than the config's")
    parser.add_argument('--file', type=Path, default=RESULTS.path, help='of results')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'worked')
    args = parser.parse_args(argv)
    file = Results(args.file, RESULTS.key)
    for name in args.names:
        if name == 'main':
            keep(run_main(args.seeds or 10, args.out), file)
            continue
        for seed in range(args.seeds or 3):
            known = {file.key_of(row) for row in file.read()}
            if (name, args.budget or budget_of(name)[1], seed) not in known:
                keep([run_example(name, seed, args.budget)], file)
    return 0


if __name__ == '__main__':
    sys.exit(main())
