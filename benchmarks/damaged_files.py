"""Damage configs, subnet files, checkpoints and evolutions at random; count how runs end.

python -m benchmarks.damaged_files --count 2100 --seed 1

Each is given to the command line, in this process.  What is right is success, or one line with
an error of ours and exit code 2.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from . import damaged_configs
from .damaged_configs import ending, is_right
from .damaged_values import damaged, scrambled
from .markdown import made_from, markdown
from .rows import ROOT, Row, add_keep, results

sys.path += [str(ROOT / 'tests'), str(ROOT / 'tests' / 'reliability')]

RESULTS = results('damaged_files', 'kind', 'use')
ENDS = ('success', 'an error of ours, exit code 2', 'anything else')
KEPT = {
    'darts': 'epoch_1.pth',
    'oles': 'iter_2.pth',
    'spos': 'epoch_1.pth',
    'retrain': 'epoch_1.pth',
}
"""Kinds of run whose checkpoint is damaged, and which one of them."""


class Case(NamedTuple):
    """A damaged file.

    Attributes:
        kind: Of file.
        use: What is done with it.
        done: What was done to it.
        run: Returns the exit code, and what was said.
    """

    kind: str
    use: str
    done: str
    run: Callable[[], tuple[int, str]]


class Files:
    """Whole runs, made once, and damaged copies of what they have left.

    Args:
        folder: Where to keep them.
    """

    def __init__(self, folder: Path) -> None:
        from mmrazor_mutators.engine.checkpoints import newest_checkpoint
        from mmrazor_mutators.engine.runner import allow_checkpoint_types

        allow_checkpoint_types()
        self.folder = folder
        self.whole: dict[str, Any] = {}
        for kind, kept in KEPT.items():
            runs = folder / kind / 'run'
            runs.parent.mkdir(parents=True, exist_ok=True)
            status, said = self._begin(kind, runs, keep_all=True)
            if status:
                raise SystemExit(said)
            if kind == 'darts':
                shutil.copy(runs / 'subnet.yaml', folder / 'subnet.yaml')
            if kind != 'spos':
                for path in runs.glob('*.pth'):
                    if path.name != kept:
                        path.unlink()
            path = newest_checkpoint(runs).path
            self.whole[kind] = torch.load(path, weights_only=True), path.name
        whole = json.loads((folder / 'spos' / 'run' / 'evolution.json').read_text())
        self.evolution = {key: value for key, value in whole.items() if key != 'sha256'}

    @staticmethod
    def _begin(kind: str, work_dir: Path, *more: str, keep_all: bool = False) -> Any:
        from runs import arguments

        changes = {'default_hooks.checkpoint.max_keep_ckpts': -1} if keep_all else {}
        return ending(arguments(kind, work_dir, *more, **changes))

    @contextlib.contextmanager
    def copied(self, kind: str) -> Iterator[Path]:
        """Yield a copy of a run, to be changed and gone on with."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            work_dir = Path(name, 'run')
            shutil.copytree(self.folder / kind / 'run', work_dir)
            yield work_dir

    def subnet_case(self, rng: random.Random) -> Case:
        """Return a damaged subnet file, to be shown, exported or trained."""
        text, suffix = (self.folder / 'subnet.yaml').read_text(), '.yaml'
        if rng.random() < 0.4:
            text, done = scrambled(text, rng)
        else:
            value, done = damaged_configs.damage(yaml.safe_load(text), rng)
            text = yaml.dump(value, sort_keys=False)
            if rng.random() < 0.2:
                with contextlib.suppress(TypeError):
                    text, suffix = json.dumps(value), '.json'
        use = rng.choice(('show', 'show --out', 'show --config', 'export', 'retrain'))

        def run() -> tuple[int, str]:
            with tempfile.TemporaryDirectory(dir=self.folder) as name:
                path = Path(name, f'given{suffix}' if use != 'show' else 'given.yaml')
                path.write_text(text)
                return ending(self._words_of(use, path))

        return Case('subnet', use, done, run)

    def _words_of(self, use: str, path: Path) -> list[str]:
        from runs import KINDS, arguments

        config = str(damaged_configs.CONFIGS / KINDS['darts'][0])
        small = ['--cfg-options', 'model.architecture.base_channels=4']
        verb, out = use.split()[0], str(path.with_name('out.svg'))
        if use == 'show':
            return ['show', str(path)]
        if use == 'show --out':
            return ['show', str(path), '--out', out]
        if use == 'show --config':
            return ['show', str(path), '--config', config]
        if verb == 'export':
            weights = str(self.folder / 'darts' / 'run' / KEPT['darts'])
            more = ['--checkpoint', weights, '--out', str(path.with_name('out.pt'))]
            return ['export', config, '--subnet', str(path), *more, *small]
        words = arguments('retrain', path.with_name('run'))
        words[words.index('--subnet') + 1] = str(path)
        return [*words, 'retrain.train_cfg.max_epochs=1']

    def checkpoint_case(self, rng: random.Random) -> Case:
        """Return a checkpoint with a damaged field, to be gone on from or exported."""
        from mmrazor_mutators.engine.seals import Facts, seal

        kind = rng.choice([*KEPT])
        content, name = self.whole[kind]
        facts = Facts(1, content['meta']['iter'], content['meta']['epoch'])
        content, done = damaged(content, rng)
        use, sealed = rng.choice(('--resume', '--resume', 'export')), rng.random() < 0.5

        def write(path: Path) -> None:
            torch.save(content, path)
            if sealed:
                seal(path, facts)

        def run() -> tuple[int, str]:
            if use == 'export':
                with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                    path = Path(folder, 'given.pth')
                    write(path)
                    run = self.folder / kind / 'run'
                    words = ['export', str(run / 'config.py'), '--checkpoint', str(path)]
                    words += ['--subnet', str(run / 'subnet.yaml')]
                    return ending([*words, '--out', str(path.with_name('out.pt'))])
            with self.copied(kind) as work_dir:
                for other in work_dir.glob('*.pth'):
                    other.unlink()
                write(work_dir / name)
                return self._begin(kind, work_dir, '--resume')

        return Case('checkpoint', f'{use} of {kind}', done, run)

    def evolution_case(self, rng: random.Random) -> Case:
        """Return a damaged ``evolution.json``, to be gone on with."""
        from mmrazor_mutators.engine.evolution import _checksum

        state = copy.deepcopy(self.evolution)
        if rng.random() < 0.7:  # As after the first generation.
            state['epoch'] = 1
            state['evaluated'] = [e for e in state['evaluated'] if e['epoch'] < 1]
        state, done = damaged(state, rng)
        with contextlib.suppress(TypeError):
            text = json.dumps(state)
        try:
            text = json.dumps({**state, 'sha256': _checksum(state)})
        except TypeError:
            text = json.dumps(state, default=repr, skipkeys=True)

        def run() -> tuple[int, str]:
            with self.copied('spos') as work_dir:
                (work_dir / 'evolution.json').write_text(text)
                return self._begin('spos', work_dir, '--resume')

        return Case('evolution', '--resume of spos', done, run)


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Yield damaged files: a third each of configs, subnets, and what runs leave."""
    configs = damaged_configs.cases(-(-count // 3), seed)
    rng, files = random.Random(seed), Files(folder)
    for number in range(count):
        if number % 3 == 0:
            name, cfg, done = next(configs)
            yield Case(
                'config', 'search', f'{name}: {done}', lambda cfg=cfg: damaged_configs.run(cfg)
            )
        elif number % 3 == 1:
            yield files.subnet_case(rng)
        else:
            left = files.evolution_case if rng.random() < 0.25 else files.checkpoint_case
            yield left(rng)


def table(rows: Sequence[Row]) -> str:
    """Return the table of how runs with damaged files have ended."""
    lines = [['file', 'use', *ENDS]]
    for row in sorted(rows, key=lambda row: (row['kind'], row['use'])):
        lines.append([row['kind'], row['use'], *(f'{row[end]:,}' for end in ENDS)])
    sums = [sum(row[end] for row in rows) for end in ENDS]
    return markdown([*lines, ['all', '', *(f'{each:,}' for each in sums)]], numbers=True)


TABLES = {'damaged-files': made_from(RESULTS, table)}


def main() -> None:
    """Print what went wrong, and a table of how all ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=2100)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--only', help='a kind: config, subnet, checkpoint or evolution')
    parser.add_argument('--show', action='store_true', help='print every error')
    add_keep(parser)
    args = parser.parse_args()
    ends: dict[tuple[str, str], collections.Counter[str]]
    ends = collections.defaultdict(collections.Counter)
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases(args.count, args.seed, Path(folder))):
            if args.only not in (None, case.kind):
                continue
            status, said = case.run()
            right = is_right(status, said)
            end = ENDS[0 if status == 0 else 1 if right else 2]
            ends[case.kind, case.use][end] += 1
            if not right or args.show:
                what = f'{number} {case.kind}, {case.use}: {case.done}'
                print(f'{what}: {status} {said[:600]}', flush=True)
    rows = [
        {'kind': kind, 'use': use, 'seed': args.seed, **{end: found[end] for end in ENDS}}
        for (kind, use), found in ends.items()
    ]
    if args.keep:
        RESULTS.put(rows, instead=True)
    print(table(rows))
    sys.exit(1 if any(row[ENDS[2]] for row in rows) else 0)


if __name__ == '__main__':
    main()
