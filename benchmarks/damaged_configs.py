"""Damage configs at random, run the search of each, and count how it ends.

python -m benchmarks.damaged_configs --count 500 --seed 1
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import io
import os
import random
import signal
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

CONFIGS = Path(__file__).parents[1] / 'configs'
READY = (
    'darts/nasbench201_digits.py',
    'gdas/nasbench201_digits.py',
    'beta_darts/digits.py',
    'oles/digits.py',
)
JUNK: tuple[Any, ...] = (
    None,
    -1,
    0,
    3.5,
    1e30,
    float('nan'),
    True,
    'x',
    '',
    [],
    [1, 'x'],
    {},
    {'type': 'Nothing'},
    {'a': 1},
    ('y',),
    object,
    2**70,
)
SECONDS = 60


def tiny(cfg: Any) -> dict[str, Any]:
    """Return a ready config at a size that takes a second."""
    cfg = cfg.to_dict()
    cfg['train_cfg']['max_epochs'] = 1
    for loader in (cfg['train_dataloader'], cfg['train_cfg'].get('arch_dataloader')):
        if loader:
            loader['batch_size'] = 32
            loader['dataset']['images_per_class'] = 8
    cfg['model']['architecture']['base_channels'] = 4
    if 'num_layers' in cfg['model']['architecture']:
        cfg['model']['architecture'].update(num_layers=2, num_nodes=2)
    return cfg


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every entry."""
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, entry in items:
        yield (*path, key)
        yield from places(entry, (*path, key))


def damage(cfg: dict[str, Any], rng: random.Random) -> tuple[dict[str, Any], str]:
    """Return a damaged copy, and what was done to it."""
    cfg = copy.deepcopy(cfg)
    path = rng.choice([p for p in places(cfg) if p[0] not in ('work_dir',)])
    parent: Any = cfg
    for key in path[:-1]:
        parent = parent[key]
    key, kind = path[-1], rng.choice(('drop', 'replace', 'replace', 'rename', 'nest'))
    if isinstance(parent, tuple):
        return cfg, 'nothing'
    value = parent[key]
    if kind == 'drop':
        del parent[key]
        done = 'dropped'
    elif kind == 'rename' and isinstance(parent, dict):
        parent[f'{key}_x'] = parent.pop(key)
        done = 'renamed'
    elif kind == 'nest':
        parent[key] = rng.choice([[value], {'inner': value}])
        done = f'became {parent[key]!r:.60}'
    else:
        parent[key] = copy.deepcopy(rng.choice(JUNK))
        done = f'became {parent[key]!r}'
    return cfg, f'{".".join(map(str, path))} {done}'


class _TooLong(Exception):
    pass


def _alarm(*_: Any) -> None:
    raise _TooLong


def ending(words: list[str]) -> tuple[int, str]:
    """Run the command line in this process; return its status and what it said."""
    import torch

    from mmrazor_mutators import cli

    torch.set_num_threads(1)
    errors = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        signal.signal(signal.SIGALRM, _alarm)
        signal.alarm(SECONDS)
        try:
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                status = cli.main(words)
        except _TooLong:
            return -1, f'took more than {SECONDS} seconds'
        except BaseException as error:  # What must not happen at all.
            return 1, f'{type(error).__name__}: {error}'
        finally:
            signal.alarm(0)
    return status, errors.getvalue().strip()


def run(cfg: dict[str, Any]) -> tuple[int, str]:
    """Search by a config as the command line does; return its status and what it said."""
    from unittest import mock

    from mmengine.config import Config

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'config.py')
        path.write_text('')
        # The dict itself: not all that a config may hold can be written as text.
        with mock.patch.object(Config, 'fromfile', side_effect=lambda _: Config(cfg)):
            return ending(['search', str(path), '--work-dir', f'{folder}/work'])


def cases(count: int, seed: int) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield ``(ready config, damaged config, what was done)``."""
    from mmengine.config import Config

    rng = random.Random(seed)
    ready = {name: tiny(Config.fromfile(str(CONFIGS / name))) for name in READY}
    for _ in range(count):
        name = rng.choice(READY)
        cfg, done = damage(ready[name], rng)
        yield name, cfg, done


def is_right(status: int, said: str) -> bool:
    """Whether a run ended well, or in one line that is an error of ours."""
    one_line = len(said.splitlines()) == 1 and said.startswith('error: ')
    return status == 0 or (status == 2 and one_line and 'should not happen' not in said)


def main() -> None:
    """Run them, and print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=500)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--show', action='store_true', help='print every error')
    args = parser.parse_args()
    ends: collections.Counter[str] = collections.Counter()
    for number, (name, cfg, done) in enumerate(cases(args.count, args.seed)):
        status, said = run(cfg)
        right = is_right(status, said)
        ends['success' if status == 0 else 'our error' if right else 'wrong'] += 1
        if not right or args.show:
            print(f'{number} {name}: {done}: {status} {said[:600]}', flush=True)
    print(dict(ends))


if __name__ == '__main__':
    main()
