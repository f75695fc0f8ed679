"""Time of a search step, and bytes sent in it, on several ranks of one machine.

python -m benchmarks.ranks --ranks 1 2 4

Each rank has one thread.  All of them together see one batch ("the same batch"), or each one
sees a batch of that size ("each its own").
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import mmrazor_mutators as mm

from .markdown import made_from, markdown
from .rows import Row, add_keep, results

RESULTS = results('ranks', 'ranks', 'batch', 'shared')
_BYTES = {'sent': 0}


def search_of(hypergradient: str) -> mm.BilevelSearch:
    """Return a search over the DARTS space with four layers."""
    torch.manual_seed(0)
    space = {'type': 'DartsSupernet', 'in_channels': 3, 'num_classes': 10, 'num_layers': 4}
    supernet = mm.build_architecture({**space, 'base_channels': 8, 'num_nodes': 3})
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    return mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.025, momentum=0.9),
        torch.optim.Adam(mutator.arch_params.values(), lr=3e-4),
        hypergradient,
    )


def count_bytes() -> None:
    """Count what a rank gives to all others."""
    for name in ('all_reduce', 'broadcast'):
        ask = getattr(dist, name)

        def counted(tensor: Any, *args: Any, _ask: Any = ask, **kwargs: Any) -> Any:
            _BYTES['sent'] += tensor.numel() * tensor.element_size()
            return _ask(tensor, *args, **kwargs)

        setattr(dist, name, counted)


def run_rank(rank: int, args: argparse.Namespace, world_size: int, folder: str) -> None:
    """Take steps; the first rank writes what they took."""
    torch.set_num_threads(1)
    if world_size > 1:
        dist.init_process_group(
            'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=world_size
        )
        count_bytes()
    rows: list[Row] = []
    for size in dict.fromkeys((args.batch // world_size, args.batch)):
        search = search_of(args.hypergradient)
        torch.manual_seed(rank)
        batch = torch.randn(size, 3, 32, 32), torch.randint(10, (size,))
        seconds, busy = [], []
        for _ in range(args.steps + 2):
            _BYTES['sent'] = 0
            begun, used = time.perf_counter(), time.process_time()
            search.step(batch, batch)
            seconds.append(time.perf_counter() - begun)
            busy.append(time.process_time() - used)
        rows.append(
            {
                'ranks': world_size,
                'batch': args.batch,
                'shared': size * world_size == args.batch,
                'hypergradient': args.hypergradient,
                'weights': sum(weight.numel() for weight in search.weights),
                'logits': sum(logits.numel() for logits in search.arch_params),
                'seconds': median(seconds[2:]),
                'cpu_seconds': median(busy[2:]),
                'bytes': _BYTES['sent'],
            }
        )
    if rank == 0:
        Path(folder, 'rows.json').write_text(json.dumps(rows))
    if world_size > 1:
        dist.destroy_process_group()


def table(rows: Sequence[Row]) -> str:
    """Return the table of times and bytes."""
    head = [
        'ranks',
        'batch',
        'a step, ms',
        "of a rank's processor, ms",
        'bytes a step and rank',
    ]
    lines = [head]
    for row in sorted(rows, key=lambda row: (row['ranks'], not row['shared'])):
        lines.append(
            [
                str(row['ranks']),
                f'{row["batch"]} {"in all" if row["shared"] else "each"}',
                f'{1e3 * row["seconds"]:.0f}',
                f'{1e3 * row["cpu_seconds"]:.0f}',
                f'{row["bytes"]:,}',
            ]
        )
    weights, logits = rows[0]['weights'], rows[0]['logits']
    return f'{markdown(lines, numbers=True)}\n{weights:,} weights, {logits:,} logits.\n'


TABLES = {'ranks': made_from(RESULTS, table)}


def main() -> None:
    """Run each number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--ranks', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--steps', type=int, default=10)
    parser.add_argument('--hypergradient', default='first_order')
    add_keep(parser)
    args = parser.parse_args()
    rows: list[Row] = []
    for world_size in args.ranks:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(run_rank, (args, world_size, folder), nprocs=world_size)
            rows += json.loads(Path(folder, 'rows.json').read_text())
    if args.keep:
        RESULTS.put({**row, 'threads': 1} for row in rows)
    print(table(rows))


if __name__ == '__main__':
    main()
