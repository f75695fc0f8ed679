"""Time a search step over widths against a training step of the original network.

Both train on the same batch in turns, so that whatever else the machine does meets both; the
ratio is that of the medians.

python -m benchmarks.width_step --size 32 --batch 64
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

import mmrazor_mutators as mm
from examples.models import ResNet

from .markdown import made_from, markdown
from .rows import Row, add_keep, results

RESULTS = results('width_step', 'mutator', 'size', 'batch', 'base')

RULES: list[dict[str, Any]] = [
    {'match': 'layers.*.conv1', 'width': [0.25, 0.5, 0.75, 1.0]},
    {'match': ['conv1', 'layers.3.conv2', 'layers.5.conv2'], 'width': [0.25, 0.5, 0.75, 1.0]},
]


def stepper(net: Any, params: Any, x: Any, y: Any, extra: Any) -> Callable[[], float]:
    """Return what takes a step and returns its seconds."""
    optimizer = torch.optim.SGD(params, 0.01, momentum=0.9)

    def step() -> float:
        start = time.perf_counter()
        loss = F.cross_entropy(net(x), y)
        if extra is not None:
            loss = loss + extra()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


def table(rows: Sequence[Row]) -> str:
    """Return the table of times and their ratios."""
    lines = [['images', 'batch', 'a training step, ms', 'a search step, ms', 'ratio']]
    for row in rows:
        train, search = row['training_seconds'], row['search_seconds']
        shown = f'{1e3 * train:.1f}', f'{1e3 * search:.1f}', f'{search / train:.2f}x'
        lines.append([f'{row["size"]}x{row["size"]}', str(row['batch']), *shown])
    return markdown(lines, numbers=True)


TABLES = {'width-step': made_from(RESULTS, table)}


def main() -> None:
    """Print seconds of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--mutator', default='GDASMutator')
    parser.add_argument('--size', type=int, default=32, help='of the images')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--base', type=int, default=16, help='channels of the first stage')
    parser.add_argument('--steps', type=int, default=30)
    parser.add_argument('--threads', type=int, default=1)
    add_keep(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x = torch.randn(args.batch, 1, args.size, args.size)
    y = torch.randint(10, (args.batch,))
    plain = ResNet(base=args.base)
    supernet = mm.make_searchable(ResNet(base=args.base), RULES, x[:1])
    budget = {'type': 'Budget', 'params': 0.3}
    mutator = mm.build_mutator({'type': args.mutator, 'extensions': [budget]})
    mutator.prepare_from_supernet(supernet)
    both = [
        stepper(plain, plain.parameters(), x, y, None),
        stepper(
            supernet,
            [*supernet.parameters(), *mutator.parameters()],
            x,
            y,
            mutator.regularization,
        ),
    ]
    times: list[list[float]] = [[], []]
    for number in range(args.steps + 3):
        for step, seconds in zip(both, times, strict=True):
            spent = step()
            if number >= 3:
                seconds.append(spent)
    train, search = map(statistics.median, times)
    row = {name: getattr(args, name) for name in RESULTS.key}
    row |= {'training_seconds': train, 'search_seconds': search}
    if args.keep:
        RESULTS.put([row])
    print(table([row]))


if __name__ == '__main__':
    main()
