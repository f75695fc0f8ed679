"""Kill runs at random instants, damage their checkpoints, and count what becomes of them.

python -m benchmarks.kills --count 210 --damages 2000
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

from .markdown import made_from, markdown
from .rows import ROOT, Row, add_keep, results

sys.path += [str(ROOT / 'tests'), str(ROOT / 'tests' / 'reliability')]

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
RESULTS = results('kills', 'kind')
ENDS = {
    'epoch': 'a checkpoint of an epoch',
    'iter': 'one of a step',
    'stopped': "a signal's step",
    'no checkpoint yet': 'before any checkpoint',
    'nothing was written': 'before anything was written',
}
"""From what a run went on last."""
TITLES = {
    'darts': 'DARTS',
    'darts by step': 'DARTS, a checkpoint every 2 steps',
    'gdas': 'GDAS, the same',
    'oles': 'OLES (an extension with a state), the same',
    'spos': 'SPOS: supernet and evolution',
    'spos by step': 'SPOS, a checkpoint every 2 steps',
    'retrain': 'retraining',
}
DAMAGES = 'damaged checkpoints'


def begin(words: list[str], out: Path) -> int:
    """Run the command line in a process of its own, which need not import anything."""
    from mmrazor_mutators import cli

    process = os.fork()
    if process:
        return process
    code = 1
    try:
        with open(out, 'w') as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = cli.main(words)
        sys.stdout.flush()
    finally:
        os._exit(code)


def end_of(process: int) -> int:
    """Wait for a process; return its exit code, or minus the signal that has ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill(kind: str, folder: Path, seconds: float, draw: random.Random, whole: Any) -> str:
    """Begin a run, end it a few times at random instants, and let it go on to its end.

    Returns:
        What was found when it went on last.
    """
    from runs import arguments, assert_same, result_of

    work_dir, out = folder / 'run', folder / 'out.txt'
    number = draw.choice(SIGNALS)
    for _ in range(draw.choice([1, 1, 2])):
        begun = (work_dir / 'config.py').exists()
        process = begin(arguments(kind, work_dir, *(['--resume'] if begun else [])), out)
        time.sleep(draw.uniform(0.2, 1) * seconds)
        os.kill(process, number)
        code = end_of(process)
        # Before the run listens, a signal ends the process as it does any other.
        if code not in (0, -number, 128 + number):
            raise AssertionError(f'exit code {code} after {number}\n{out.read_text()}')
        how = 'Go on with: ' if any(work_dir.rglob('*.pth')) else 'Start again with: '
        if code == 128 + number and how not in out.read_text():
            raise AssertionError(f'it does not say {how!r}\n{out.read_text()}')
    begun = (work_dir / 'config.py').exists()
    code = end_of(begin(arguments(kind, work_dir, *(['--resume'] if begun else [])), out))
    text = out.read_text()
    if code != 0:
        raise AssertionError(f'does not go on, exit code {code}\n{text}')
    assert_same(result_of(work_dir), whole, text)
    shutil.rmtree(work_dir)
    if not begun:
        return 'nothing was written'
    for what in ('stopped.pth', 'iter_', 'epoch_'):
        if f'goes on from {what}' in text:
            return f'{what.rstrip("_").removesuffix(".pth")}'
    return 'no checkpoint yet'


def tried(kind: str, folder: Path, seconds: float, draw: random.Random, whole: Any) -> str:
    """Return what :func:`kill` returns, or ``'FAILED'`` with the run kept for a look."""
    try:
        return kill(kind, folder, seconds, draw, whole)
    except AssertionError as error:
        kept = tempfile.mkdtemp(prefix='killed-')
        if (folder / 'run').exists():
            shutil.move(folder / 'run', kept)
        print(f'{kind}: {error}\n{kept} holds what the run left', flush=True)
        return 'FAILED'


def damage(work_dir: Path, flips: int, draw: random.Random) -> collections.Counter[str]:
    """Cut a checkpoint at every KiB and flip bits of it; count what is made of it."""
    from mmrazor_mutators.engine.checkpoints import newest_checkpoint
    from mmrazor_mutators.engine.exporting import load_weights
    from mmrazor_mutators.errors import ConfigError

    counts: collections.Counter[str] = collections.Counter()
    latest = newest_checkpoint(work_dir).path
    if latest is None:
        raise SystemExit(f'there is no checkpoint in {work_dir}')
    (work_dir / 'last.pth').unlink()
    whole = latest.read_bytes()
    damaged: list[tuple[str, bytes]] = [
        ('cut', whole[:size]) for size in range(0, len(whole), 1024)
    ]
    damaged += [('cut', whole[:size]) for size in range(len(whole) - 200, len(whole))]
    for _ in range(flips):
        place, bit = draw.randrange(len(whole)), draw.randrange(8)
        damaged.append(
            ('flipped', whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        )
    for what, data in damaged:
        latest.write_bytes(data)
        found = newest_checkpoint(work_dir)
        ok = found.path != latest and any(latest.name in reason for reason in found.skipped)
        counts[f'{what}: {"skipped" if ok else "TAKEN"} by --resume'] += 1
        try:
            load_weights(latest)
        except ConfigError:
            counts[f'{what}: refused by export'] += 1
        else:
            counts[f'{what}: LOADED by export'] += 1
    latest.write_bytes(whole)
    return counts


def table(rows: Sequence[Row]) -> str:
    """Return the table of killed runs."""
    lines = [['run', 'ended', 'the same result', *ENDS.values()]]
    for kind, title in TITLES.items():
        for row in rows:
            if row['kind'] == kind:
                found = [row['ends'].get(end, 0) for end in ENDS]
                lines.append([title, *map(str, (row['ended'], row['same'], *found))])
    sums = [sum(int(line[at]) for line in lines[1:]) for at in range(1, len(lines[0]))]
    return markdown([*lines, ['all', *map(str, sums)]], numbers=True)


def table_of_damages(rows: Sequence[Row]) -> str:
    """Return the table of what became of damaged checkpoints."""
    (row,) = (row for row in rows if row['kind'] == DAMAGES)
    lines = [['damage and use', 'files'], *([k, f'{v:,}'] for k, v in row['ends'].items())]
    return markdown(lines, numbers=True)


def both_tables(rows: Sequence[Row]) -> str:
    """Return both tables of docs/reliability.md."""
    return f'{table(rows)}\n{table_of_damages(rows)}'


TABLES = {'kills': made_from(RESULTS, both_tables)}


def main() -> None:
    """Print a line per kind of run, and what has become of damaged checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=210, help='kills, of all kinds together')
    parser.add_argument('--damages', type=int, default=2000, help='bits to flip')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kinds', nargs='+', help='of runs; all by default')
    add_keep(parser)
    args = parser.parse_args()
    # What is imported now need not be imported in each process.
    import matplotlib.pyplot  # noqa: F401
    import torch._dynamo  # noqa: F401
    from runs import KINDS, arguments, result_of

    import mmrazor_mutators.engine.jobs
    import mmrazor_mutators.views.describe
    import mmrazor_mutators.views.report  # noqa: F401
    from mmrazor_mutators.datasets import Digits

    Digits('weights')
    kinds = args.kinds or [*KINDS]
    if unknown := {*kinds} - {*KINDS}:
        parser.error(f'expected kinds among {[*KINDS]}, but got {sorted(unknown)}')

    draw = random.Random(args.seed)
    total: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        for number, kind in enumerate(kinds):
            folder = Path(name, str(number))
            folder.mkdir()
            begin_time = time.monotonic()
            code = end_of(begin(arguments(kind, folder / 'whole'), folder / 'whole.txt'))
            if code:
                raise SystemExit((folder / 'whole.txt').read_text())
            seconds = time.monotonic() - begin_time
            whole = result_of(folder / 'whole')
            count = args.count // len(kinds) + (number < args.count % len(kinds))
            found = collections.Counter(
                tried(kind, folder, seconds, draw, whole) for _ in range(count)
            )
            total.update(found)
            same = count - found['FAILED']
            if args.keep:
                ends = {end: n for end, n in found.items() if end != 'FAILED'}
                row = {'kind': kind, 'ended': count, 'same': same, 'ends': ends}
                RESULTS.put([{**row, 'seed': args.seed}])
            shown = ', '.join(f'{value} {what}' for what, value in found.most_common())
            print(
                f'{kind}: {count} ended, {same} came to the same result ({shown})', flush=True
            )
        print(f'{total.total()} in all', flush=True)
        became = damage(Path(name, '0', 'whole'), args.damages, draw)
        if args.keep:
            row = {'kind': DAMAGES, 'seed': args.seed, 'ends': dict(sorted(became.items()))}
            RESULTS.put([row])
        for what, value in sorted(became.items()):
            print(f'{value} {what}')
            total['FAILED'] += value * ('TAKEN' in what or 'LOADED' in what)
    sys.exit(1 if total['FAILED'] else 0)


if __name__ == '__main__':
    main()
