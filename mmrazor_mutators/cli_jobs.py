"""The verbs that train: search and retrain."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import Any

__all__ = ['rank', 'run_retrain', 'run_search', 'say', 'set_seed', 'work_dir_of']


def run_search(args: argparse.Namespace) -> None:
    """Search, and say what was found and how to go on."""
    from rich.console import Console

    from .engine.config import load_config
    from .engine.jobs import search
    from .engine.lines import split_command
    from .views.describe import subnet_table

    cfg = load_config(args.config, args.cfg_options)
    set_seed(cfg, args.seed)
    work_dir = work_dir_of(args, cfg)
    console = Console()
    watch = {name: getattr(args, name) for name in ('tensorboard', 'measure')}
    subnet = search(
        cfg,
        work_dir,
        **_resuming(args),
        launcher=args.launcher,
        console=console,
        watch={name: value for name, value in watch.items() if value},
    )
    if rank() == 0:
        console.print(subnet_table(subnet))
        folder, path, config = (
            shlex.quote(str(work_dir / name)) for name in ('', 'subnet.yaml', 'config.py')
        )
        console.print(f'Found: {path}', soft_wrap=True, highlight=False, markup=False)
        for lead, *words in (
            ('Train it: ', f'mmrazor-mutators retrain {config}', f'--subnet {path}'),
            ('Draw it:  ', f'mmrazor-mutators show {path}', '--out cells.png'),
            ('Look back:', f'mmrazor-mutators show {folder}', f'--out {folder}'),
        ):
            say(split_command(lead, words))


def run_retrain(args: argparse.Namespace) -> None:
    """Train the network found, and say how it fared."""
    from rich.console import Console

    from .engine.config import load_config
    from .engine.jobs import retrain
    from .engine.lines import split_command
    from .mutables import load_subnet
    from .views.report import results_table

    cfg = load_config(args.config, args.cfg_options)
    set_seed(cfg, args.seed)
    subnet = load_subnet(args.subnet)
    work_dir = work_dir_of(args, cfg, 'retrain')
    console = Console()
    results = retrain(
        cfg,
        subnet,
        work_dir,
        compare_random=args.compare_random,
        **_resuming(args),
        launcher=args.launcher,
        console=console,
    )
    if rank() == 0:
        console.print(results_table(results))
        config, subnet_file = shlex.quote(args.config), shlex.quote(args.subnet)
        checkpoint = shlex.quote(str(work_dir / 'last.pth'))
        words = (
            f'mmrazor-mutators export {config}',
            f'--subnet {subnet_file}',
            f'--checkpoint {checkpoint}',
            '--out found.pt',
        )
        say(split_command('Export it:', words))


def rank() -> int:
    """Return the number of this process among those of torchrun."""
    return int(os.environ.get('RANK', '0'))


def _resuming(args: argparse.Namespace) -> dict[str, Any]:
    changed = args.resume_changed
    return {'resume': args.resume or changed, 'resume_changed': changed}


def set_seed(cfg: Any, seed: int | None) -> None:
    """Let a seed take the place of the config's."""
    if seed is not None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}


def work_dir_of(args: argparse.Namespace, cfg: Any, *parts: str) -> Path:
    """Return where a job writes, and note it for what is said when it is ended."""
    config = Path(args.config)
    if args.work_dir is not None:
        args.begun_in = Path(args.work_dir)
    elif cfg.get('work_dir'):
        args.begun_in = Path(cfg.work_dir, *parts)
    else:
        args.begun_in = Path('work_dirs', config.parent.name, config.stem, *parts)
    return args.begun_in


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
