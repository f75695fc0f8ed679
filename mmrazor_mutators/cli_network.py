"""The verb ``show`` for a network of a config: all of its layers."""

from __future__ import annotations

import argparse
from typing import Any

from .typing import Subnet

__all__ = ['show_network']


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
