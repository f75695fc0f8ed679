"""How the time of a search step grows with depth and with the number of candidates.

    python -m benchmarks.search_growth

Beside each time stands how far it is from the straight line through all of its table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from statistics import linear_regression, median
from typing import Any

import torch

import mmrazor_mutators as mm

from .markdown import made_from, markdown
from .rows import Row, add_keep, results
from .search_step import library_search, seconds

RESULTS = results('growth', 'what', 'count')
COUNTS = {'layers': (5, 8, 14, 20), 'candidates': (2, 4, 8, 16)}


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


def table(rows: Sequence[Row]) -> str:
    """Return both tables side by side, and what each more takes."""
    lines = [['layers', 'a step, s', 'off', '', 'candidates', 'a step, s', 'off']]
    halves, told = [], []
    for what in COUNTS:
        found = [(row['count'], row['seconds']) for row in rows if row['what'] == what]
        slope, start = linear_regression(*zip(*found, strict=True))
        halves.append(
            [
                [str(n), f'{took:.3f}', f'{took / (start + slope * n) - 1:+.1%}']
                for n, took in found
            ]
        )
        told.append(f'each of the {what} {slope:.3f} s')
    lines += [[*left, '', *right] for left, right in zip(*halves, strict=True)]
    return f'{markdown(lines)}\nBy the lines, {" and ".join(told)}.\n'


TABLES = {'speed-growth': made_from(RESULTS, table)}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=5, help='steps that are timed')
    parser.add_argument('--warmup', type=int, default=1)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--size', type=int, default=32, help='height and width of an image')
    parser.add_argument('--device', default='cpu')
    add_keep(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[Row] = []
    for what, counts in COUNTS.items():
        for count in counts:
            took = growing(args, *((count, None) if what == 'layers' else (8, count)))
            rows.append({'what': what, 'count': count, 'seconds': took})
    if args.keep:
        RESULTS.put(rows)
    print(table(rows))
    return 0


if __name__ == '__main__':
    sys.exit(main())
