"""The verb ``show`` for a network of a config, layer by layer, and for a work directory."""

from __future__ import annotations

import argparse
from typing import Any

from .typing import Subnet

__all__ = ['show_network', 'show_work_dir']


def show_network(args: argparse.Namespace, subnet: Subnet) -> None:
    """Print or draw the network of a subnet, layer by layer."""
    from .host import require_runner

    require_runner('`show --config`')
    from .engine.config import load_config
    from .engine.picturing import network_of_config
    from .views.network_rows import network_table
    from .views.networks import view_network

    cfg = load_config(args.config, [])
    supernet, example = network_of_config(cfg, args.input_shape)
    view = view_network(supernet, subnet, example)
    if args.out is None:
        from rich.console import Console

        console: Any = Console()
        console.print(network_table(view))
        return
    from .views.draw_networks import draw_network

    draw_network(view, args.out)
    print(f'Wrote {args.out}', flush=True)


def show_work_dir(args: argparse.Namespace) -> None:
    """Print how a search fares, or what a retraining ended with, and draw it."""
    from pathlib import Path

    from rich.console import Console

    from .views.work_dirs import draw_work_dir, read_work_dir, work_dir_table

    console: Any = Console()
    results = Path(args.file, 'results.json')
    if results.is_file():
        from .views.report import load_results, results_table

        console.print(results_table(load_results(results)))
        if args.out is None:
            return
    history = read_work_dir(args.file)
    if history.epochs or not results.is_file():
        console.print(work_dir_table(history))
    if args.out is None:
        return
    written, notes = draw_work_dir(history, args.out)
    for line in (*(f'Wrote {path}' for path in written), *(f'note: {note}' for note in notes)):
        print(line, flush=True)
