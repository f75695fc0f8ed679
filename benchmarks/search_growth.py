"""How the time of a search step grows with depth and with the number of candidates.

    python benchmarks/search_growth.py

Beside each time stands how far it is from the straight line through all of its table.
"""

from __future__ import annotations

import argparse
import sys
from statistics import linear_regression, median
from typing import Any

import torch
from search_step import library_search, seconds

import mmrazor_mutators as mm


def growing(args: argparse.Namespace, layers: int, copies: int | None) -> float:
    """Return the seconds of a step of the library on DARTS.

    With ``copies`` the candidates are as many separable 3x3 convolutions: such that cost the
    same.
    """
    torch.manual_seed(0)
    device = torch.device(args.device)
    cfg: dict[str, Any] = {'type': 'DartsSupernet', 'num_layers': layers, 'base_channels': 16}
    if copies is not None:
        norm = {'type': 'BN', 'affine': False}
        conv = {'type': 'DartsSepConv', 'kernel_size': 3, 'norm_cfg': norm}
        cfg['candidates'] = {f'sep_conv_{i}': conv for i in range(copies)}
    supernet = mm.build_architecture({**cfg, 'in_channels': 3, 'num_classes': 10})
    mutator = mm.build_mutator({'type': 'DartsMutator'})
    mutator.prepare_from_supernet(supernet)
    supernet.to(device)
    mutator.to(device)
    search = library_search(supernet, mutator, 'first_order')
    images = torch.randn(args.batch, 3, args.size, args.size, device=device)
    batch = (images, torch.randint(10, (args.batch,), device=device))
    which = 1 if args.device.startswith('cuda') else 0
    times = [
        seconds(lambda: search.step(batch, batch), args.device)[which]
        for _ in range(args.warmup + args.steps)
    ]
    return median(times[args.warmup :])


def growth(args: argparse.Namespace) -> None:
    """Print both tables."""
    for title, sizes, run in (
        ('layers', (5, 8, 14, 20), lambda size: growing(args, size, None)),
        ('candidates', (2, 4, 8, 16), lambda size: growing(args, 8, size)),
    ):
        found = [(size, run(size)) for size in sizes]
        slope, start = linear_regression(*zip(*found, strict=True))
        print(f'| {title} | a step, s | off the line |\n|---|---|---|')
        for size, took in found:
            off = took / (start + slope * size) - 1
            print(f'| {size} | {took:.3f} | {off:+.1%} |')
        print(f'\nEach more: {slope:.4f} s; what is there without any: {start:.3f} s.\n')


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=5, help='steps that are timed')
    parser.add_argument('--warmup', type=int, default=1)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--size', type=int, default=32, help='height and width of an image')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    growth(args)
    return 0


if __name__ == '__main__':
    sys.exit(main())
