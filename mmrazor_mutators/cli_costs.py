"""The verbs about costs: profile and front."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ['add_cost_verbs', 'run_front', 'run_profile']


def add_cost_verbs(job: Any) -> None:
    """Add the verbs to a parser.

    Args:
        job: Adds a verb that takes a config, by name and summary.
    """
    sub = job('profile', 'measure how long layers take on this device, for a budget of latency')
    sub.add_argument('--device', default='cpu', help='such as cuda:0; cpu by default')
    sub.add_argument('--threads', type=int, help='of the processor; by default as it is')
    sub.add_argument('--out', default='latency.json', metavar='FILE', help='to write or add to')
    sub.add_argument('--input-shape', nargs=3, type=int, metavar=('C', 'H', 'W'))
    sub = job('front', 'search and retrain under several budgets, and draw accuracy over cost')
    sub.add_argument(
        '--budget', required=True, metavar='NAME=A,B', help='such as macs=0.3,0.5,0.7'
    )
    sub.add_argument('--input-shape', nargs=3, type=int, metavar=('C', 'H', 'W'))
    sub.add_argument('--work-dir', help='where to write; by default below work_dirs/')
    sub.add_argument('--resume', action='store_true', help='keep what is finished, and go on')
    sub.add_argument('--seed', type=int, help="instead of the config's")


def run_profile(args: argparse.Namespace) -> None:
    """Write a latency profile."""
    from .engine.config import load_config
    from .engine.costing import profile

    def say(line: str) -> None:
        print(line, flush=True)

    cfg = load_config(args.config, args.cfg_options)
    found = profile(
        cfg,
        Path(args.out),
        device=args.device,
        input_shape=args.input_shape,
        threads=args.threads,
        say=say,
    )
    where = found.where
    say(
        f'Wrote {args.out}: {len(found.entries)} layers on {where["device"]}, '
        f'{where["threads"]} threads'
    )


def run_front(args: argparse.Namespace, cfg: Any, work_dir: Path) -> None:
    """Search under several budgets, and draw what was found."""
    from rich.console import Console

    from .engine.costing import front, parse_budgets
    from .views.front import draw_front, front_table

    metric, budgets = parse_budgets(args.budget)
    console = Console()
    points = front(
        cfg,
        metric,
        budgets,
        work_dir,
        resume=args.resume,
        input_shape=args.input_shape,
        console=console,
    )
    console.print(front_table(metric, points))
    draw_front(metric, points, work_dir / 'front.png')
    print(f'Wrote {work_dir / "front.json"} and {work_dir / "front.png"}', flush=True)
