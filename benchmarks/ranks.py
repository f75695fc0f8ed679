"""Time of a search step, and bytes sent in it, on several ranks of one machine.

python benchmarks/ranks.py --ranks 1 2 4

Each rank has one thread.  All of them together see one batch ("the same batch"), or each one
sees a batch of that size ("each its own").
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import mmrazor_mutators as mm

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
    """Take steps, and print what they took."""
    torch.set_num_threads(1)
    if world_size > 1:
        dist.init_process_group(
            'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=world_size
        )
        count_bytes()
    lines = []
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
        kind = 'the same batch' if size * world_size == args.batch else 'each its own'
        lines.append(
            f'{world_size} ranks, {kind:<14}: {1e3 * median(seconds[2:]):7.1f} ms a step, of '
            f'them {1e3 * median(busy[2:]):7.1f} ms of its processor, '
            f'{_BYTES["sent"]:>9,} bytes a step and rank'
        )
    if rank == 0:
        print('\n'.join(lines), flush=True)
    if world_size > 1:
        dist.destroy_process_group()


def main() -> None:
    """Run each number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--ranks', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--steps', type=int, default=10)
    parser.add_argument('--hypergradient', default='first_order')
    args = parser.parse_args()
    weights = sum(w.numel() for w in search_of('first_order').weights)
    print(f'{weights:,} weights, {args.hypergradient}', flush=True)
    for world_size in args.ranks:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(run_rank, (args, world_size, str(Path(folder))), nprocs=world_size)


if __name__ == '__main__':
    main()
