"""Search a network under a budget, and compare it with what costs as much without a search.

Three networks are trained with the same data, for as many epochs in all: the one that was
there; the same with all widths times one factor, so that it costs what the budget allows; and
the one that was found: searched first, then trained on with the weights it has.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import mmrazor_mutators as mm
from mmrazor_mutators.costs import time_in_turns
from mmrazor_mutators.engine.config import load_config

from .data import Split

__all__ = ['Task', 'compare', 'main', 'search', 'table', 'train']


_CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'examples'


@dataclass
class Task:
    """A network, what may be chosen in it, a budget, and data.

    Attributes:
        config: Name of a file in ``configs/examples``: it says the network, the rules and the
            mutator with its budget.
        build: The class of the network; ``width`` scales it.
        data: What is learnt.
        search_epochs: How long is searched.
        tune_epochs: How long the network found is trained on.
        lr: Of the weights, by AdamW.
        arch_lr: Of the logits.
        batch_size: Of the training.
        example_batch: How many samples a forward pass has that is measured.
    """

    config: str
    build: Any
    data: Split
    search_epochs: int = 20
    tune_epochs: int = 20
    lr: float = 3e-3
    arch_lr: float = 2e-2
    batch_size: int = 64
    example_batch: int = 1

    def __post_init__(self) -> None:
        cfg = load_config(_CONFIGS / f'{self.config}.py').model
        self.rules = cfg['architecture']['rules']
        self.mutator = cfg['mutator']

    @property
    def budget(self) -> dict[str, Any]:
        """The entry of the budget among the extensions."""
        return next(e for e in self.mutator['extensions'] if e['type'] == 'Budget')

    @property
    def shares(self) -> dict[str, float]:
        """The budget, ``{name: share of the full network}``."""
        budget = self.budget
        return {n: budget[n] for n in ('params', 'macs', 'latency_ms') if n in budget}

    @property
    def example_inputs(self) -> Tensor:
        """What a forward pass is measured with."""
        return self.data[0][: self.example_batch]


def train(net: nn.Module, task: Task, epochs: int, seed: int, mutator: Any = None) -> None:
    """Train a network, and with a mutator its choices as well: one plain loop."""
    torch.manual_seed(seed)
    inputs, targets = task.data[:2]
    groups: list[dict[str, Any]] = [{'params': [*net.parameters()], 'lr': task.lr}]
    if mutator is not None:
        groups.append(
            {'params': [*mutator.parameters()], 'lr': task.arch_lr, 'weight_decay': 0}
        )
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = epochs * math.ceil(len(inputs) / task.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group['lr'] for group in groups], total_steps=steps, pct_start=0.2
    )
    net.train()
    for epoch in range(epochs):
        if mutator is not None:
            mutator.on_epoch(epoch, epochs)
        for index in torch.randperm(len(inputs)).split(task.batch_size):
            loss = F.cross_entropy(net(inputs[index]), targets[index])
            if mutator is not None:
                loss = loss + mutator.regularization()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(net: nn.Module, task: Task) -> float:
    """Return the share of right predictions on the test data, in percent."""
    net.eval()
    inputs, targets = task.data[2:]
    right = sum(
        (net(x).argmax(1) == y).sum().item()
        for x, y in zip(inputs.split(256), targets.split(256), strict=True)
    )
    return 100 * right / targets.numel()


def costs(
    networks: Sequence[nn.Module], task: Task, seconds: float = 0.5
) -> list[dict[str, float]]:
    """Return of each network its parameters, multiply-adds and milliseconds.

    All are timed in turns, so that what slows the machine down is the same for all.
    """
    x, found = task.example_inputs, []
    for net in networks:
        net.eval()
        with FlopCounterMode(display=False) as counter:
            net(x)
        params = sum(p.numel() for p in net.parameters())
        found.append({'params': params, 'macs': counter.get_total_flops() / 2})
    runs = time_in_turns(networks, ((x,), {}), seconds)
    return [
        {**each, 'latency_ms': 1e3 * median(calls)}
        for each, calls in zip(found, runs, strict=True)
    ]


def search(task: Task, seed: int) -> tuple[nn.Module, dict[str, float]]:
    """Return the network found, and how much of its time it took by the clock."""
    torch.manual_seed(seed)
    supernet = mm.make_searchable(task.build(), task.rules, task.example_inputs)
    mutator = mm.build_mutator(task.mutator)
    mutator.prepare_from_supernet(supernet)
    train(supernet, task, task.search_epochs, seed, mutator)
    said = mm.agree_with_clock(mutator, supernet)
    share = {} if said is None else {'clock of budget': said.takes / said.limit}
    return mutator.export_subnet(supernet, mutator.search_subnet()), share


def uniform(task: Task) -> nn.Module:
    """Return the widest network within all budgets, all widths times one factor."""
    low, high, seconds = 0.0, 1.0, 0.3 if 'latency_ms' in task.shares else 0.0
    for _ in range(12):
        middle = (low + high) / 2
        narrow, full = costs([task.build(width=middle), task.build()], task, seconds)
        within = all(narrow[name] <= share * full[name] for name, share in task.shares.items())
        low, high = (middle, high) if within else (low, middle)
    return task.build(width=low)


def compare(task: Task, seed: int) -> dict[str, dict[str, float]]:
    """Return costs and accuracy of the three networks."""
    found, clock = search(task, seed)
    train(found, task, task.tune_epochs, seed)
    torch.manual_seed(seed)
    networks = {'full network': task.build(), 'uniform scaling': uniform(task)}
    for net in networks.values():
        train(net, task, task.search_epochs + task.tune_epochs, seed)
    networks['found'] = found
    rows = {
        name: {**cost, 'accuracy': accuracy(net, task)}
        for (name, net), cost in zip(
            networks.items(), costs([*networks.values()], task), strict=True
        )
    }
    for name, share in task.shares.items():
        limit = share * rows['full network'][name]
        rows['found'][f'{name} of budget'] = rows['found'][name] / limit
    rows['found'].update(clock)
    return rows


def table(runs: list[dict[str, dict[str, float]]]) -> Table:
    """Return what was found, as means over seeds."""
    shown = Table(title=f'Means of {len(runs)} seeds' if len(runs) > 1 else 'One seed')
    shown.add_column('network')
    for column in ('parameters', 'multiply-adds', 'latency, ms', 'accuracy, %'):
        shown.add_column(column, justify='right')
    for name in runs[0]:
        row = {key: mean(run[name][key] for run in runs) for key in runs[0][name]}
        accuracies = [run[name]['accuracy'] for run in runs]
        spread = f' ({min(accuracies):.2f} to {max(accuracies):.2f})' if len(runs) > 1 else ''
        shown.add_row(
            name,
            f'{row["params"]:,.0f}',
            f'{row["macs"]:,.0f}',
            f'{row["latency_ms"]:.3g}',
            f'{row["accuracy"]:.2f}{spread}',
        )
    return shown


def main(task: Task, description: str | None) -> None:
    """Run the comparison as the command line says."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seeds', type=int, default=1, help='how many; one by default')
    parser.add_argument('--first-seed', type=int, default=0, help='0 by default')
    parser.add_argument('--budget', type=float, help="another share than the config's")
    parser.add_argument('--epochs', type=int, help='of the search, and as many to train on')
    parser.add_argument('--samples', type=int, help='to train and to test on; all by default')
    parser.add_argument('--out', type=Path, help='add a line of JSON for each seed to a file')
    args = parser.parse_args()
    if args.epochs:
        task.search_epochs = task.tune_epochs = args.epochs
    if args.budget:
        task.budget.update(dict.fromkeys(task.shares, args.budget))
    if args.samples:
        task.data = tuple(part[: args.samples] for part in task.data)  # type: ignore[assignment]
    runs = []
    console = Console()
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        with console.status(f'seed {seed}: search, train on, and train two others'):
            runs.append(compare(task, seed))
        gain = runs[-1]['found']['accuracy'] - runs[-1]['uniform scaling']['accuracy']
        shares = ', '.join(
            f'{share:.1%} of the budget of {name.split()[0]}'
            for name, share in runs[-1]['found'].items()
            if name.endswith('of budget')
        )
        console.print(f'seed {seed}: {gain:+.2f} points against uniform scaling; {shares}')
        if args.out:
            with args.out.open('a', encoding='utf-8') as file:
                file.write(json.dumps({'task': task.config, 'seed': seed, **runs[-1]}) + '\n')
    console.print(table(runs))
