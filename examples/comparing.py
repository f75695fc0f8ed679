"""Search a network under a budget, and compare it with what costs as much without a search.

Three networks are trained with the same data, for as many epochs in all: the one that was
there; the same with all widths times one factor, so that it costs what the budget allows; and
the one that was found: searched first, then trained on with the weights it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from data import Split
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import mmrazor_mutators as mm
from mmrazor_mutators.costs.timing import time_call

__all__ = ['Task', 'accuracy', 'compare', 'costs', 'search', 'train']


@dataclass
class Task:
    """A network, what may be chosen in it, a budget, and data.

    Attributes:
        build: Makes the network of a width.
        rules: What may be chosen; see ``make_searchable``.
        budget: Options of ``Budget``.
        data: What is learnt.
        search_epochs: How long is searched.
        tune_epochs: How long the network found is trained on.
        lr: Of the weights.
        arch_lr: Of the logits.
        mutator: Options of the mutator.
    """

    build: Callable[..., nn.Module]
    rules: list[dict[str, Any]]
    budget: dict[str, Any]
    data: Split
    search_epochs: int = 20
    tune_epochs: int = 20
    lr: float = 3e-3
    arch_lr: float = 2e-2
    batch_size: int = 64
    mutator: dict[str, Any] = field(default_factory=lambda: {'type': 'DartsMutator'})

    @property
    def example_inputs(self) -> Tensor:
        """One sample."""
        return self.data[0][:1]


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


def costs(net: nn.Module, task: Task) -> dict[str, float]:
    """Return parameters, multiply-adds and milliseconds of one sample."""
    net.eval()
    x = task.example_inputs
    with FlopCounterMode(display=False) as counter:
        net(x)
    times = sorted(time_call(net, ((x,), {}), seconds=0.2))
    return {
        'params': sum(p.numel() for p in net.parameters()),
        'macs': counter.get_total_flops() / 2,
        'latency_ms': 1e3 * times[len(times) // 2],
    }


def search(task: Task, seed: int) -> tuple[nn.Module, dict[str, float]]:
    """Return the network found, and the budgets as numbers."""
    torch.manual_seed(seed)
    supernet = mm.make_searchable(task.build(), task.rules, task.example_inputs)
    budget = {'type': 'Budget', **task.budget}
    mutator = mm.build_mutator({**task.mutator, 'extensions': [budget]})
    mutator.prepare_from_supernet(supernet)
    train(supernet, task, task.search_epochs, seed, mutator)
    limits = mutator.extensions[0].limits
    return mutator.export_subnet(supernet, mutator.search_subnet()), limits


def uniform(task: Task, limits: dict[str, float]) -> nn.Module:
    """Return the widest network within all budgets, all widths times one factor."""
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        found = costs_of_width(task, middle, limits)
        low, high = (middle, high) if found else (low, middle)
    return task.build(width=low)


def costs_of_width(task: Task, width: float, limits: dict[str, float]) -> bool:
    """Whether a width is within all budgets."""
    found = costs(task.build(width=width), task)
    return all(found[name] <= limit for name, limit in limits.items())


def compare(task: Task, seed: int) -> dict[str, dict[str, float]]:
    """Return costs and accuracy of the three networks."""
    found, limits = search(task, seed)
    train(found, task, task.tune_epochs, seed)
    torch.manual_seed(seed)
    networks = {'full network': task.build(), 'uniform scaling': uniform(task, limits)}
    for net in networks.values():
        train(net, task, task.search_epochs + task.tune_epochs, seed)
    networks['found'] = found
    return {
        name: {**costs(net, task), 'accuracy': accuracy(net, task)}
        for name, net in networks.items()
    }
