"""The verb compare."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ['add_compare_verb', 'run_compare']


def add_compare_verb(job: Any, count: Any) -> None:
    """Add the verb to a parser.

    Args:
        job: Adds a verb that takes configs, by name, summary and their number.
        count: Reads a number from 0.
    """
    summary = 'search and retrain over several seeds, beside random networks trained alike'
    sub = job('compare', summary, '+')
    sub.add_argument(
        '--seeds', type=count, default=3, metavar='N', help='0 to N - 1; 3 seeds by default'
    )
    sub.add_argument(
        '--random',
        type=count,
        default=1,
        metavar='N',
        help='random networks to train for each seed; 1 by default',
    )
    sub.add_argument(
        '--work-dir',
        default='work_dirs/compare',
        help='what is finished there is kept, and what was interrupted goes on; by default '
        'work_dirs/compare',
    )
    sub.set_defaults(resume=True)


def run_compare(args: argparse.Namespace) -> None:
    """Run what is missing, and write and print the table."""
    from rich.console import Console

    from .engine.comparing import compare, config_names, keep, summarize
    from .engine.config import load_config
    from .views.comparison import (
        comparison_csv,
        comparison_markdown,
        comparison_notes,
        comparison_table,
    )

    names = config_names(args.config)
    configs = [load_config(path, args.cfg_options) for path in args.config]
    work_dir = args.begun_in = Path(args.work_dir)
    console = Console()

    def write(runs: Any) -> None:
        summaries = summarize(runs)
        keep(work_dir / 'compare.md', comparison_markdown(summaries))
        keep(work_dir / 'compare.csv', comparison_csv(summaries))

    runs = compare(
        dict(zip(names, configs, strict=True)),
        args.seeds,
        work_dir,
        num_random=args.random,
        console=console,
        tell=write,
    )
    summaries = summarize(runs)
    console.print(comparison_table(summaries))
    for note in comparison_notes(summaries):
        console.print(note, highlight=False, markup=False)
    files = ', '.join(str(work_dir / name) for name in ('compare.md', 'compare.csv'))
    print(f'Wrote {files} and {work_dir / "runs.jsonl"}', flush=True)
