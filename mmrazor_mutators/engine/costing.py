"""The jobs about costs: a latency profile, and the front of accuracy against cost."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from rich.console import Console

from ..builder import build_architecture, build_mutator
from ..costs import LatencyFile, profile_latency
from ..durable import write_durably
from ..errors import ConfigError, did_you_mean
from ..extensions import Budget
from ..mutables import load_subnet, plan_of
from .checkpoints import has_begun
from .config import retrain_config
from .exporting import example_of
from .jobs import Result, retrain, search
from .reading_off import said_by_clock

__all__ = ['FrontPoint', 'front', 'parse_budgets', 'profile']

_METRICS = ('params', 'macs', 'memory', 'latency_ms')


class FrontPoint(NamedTuple):
    """One network of a front.

    Attributes:
        budget: As it was given.
        limit: The budget as an absolute number.
        cost: What the network found costs.
        accuracy: On the test split, in percent.
        folder: Where its subnet and checkpoints are.
    """

    budget: float
    limit: float
    cost: float
    accuracy: float
    folder: str


def profile(
    cfg: Config,
    out: Path,
    *,
    device: str = 'cpu',
    input_shape: Sequence[int] | None = None,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> LatencyFile:
    """Measure the layers of a config's supernet on a device; see ``profile_latency``.

    Args:
        cfg: The config of a search.
        out: The file to write, or to add to.
        device: Where networks are to run.
        input_shape: Of one sample, ``(C, H, W)``; by default that of the test data.
        threads: Of the processor; by default as PyTorch is set.
        say: Is told what goes on.

    Raises:
        ConfigError: A device that is not there, or a file of another one.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f'There is no device {device!r} here: {line}') from error
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        supernet = build_architecture(cfg.model['architecture'])
        mutator = build_mutator(_without_budgets(cfg.model['mutator']))
        mutator.prepare_from_supernet(supernet)
        mutator.release(supernet)
        example = _inputs(cfg, supernet, input_shape)
        return profile_latency(supernet, out, example, device, report=say)
    finally:
        torch.set_num_threads(before)


def _without_budgets(mutator: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a mutator; a budget of latency asks for what is being written."""
    kept = [e for e in mutator.get('extensions', ()) if e.get('type') != 'Budget']
    return {**mutator, 'extensions': kept}


def _inputs(cfg: Config, supernet: Any, input_shape: Sequence[int] | None) -> Any:
    """Return one sample of the data; ``None`` where the supernet was made with one."""
    if input_shape is None and plan_of(supernet) is not None:
        return None
    return example_of(retrain_config(cfg), input_shape)[:1]


def parse_budgets(text: str) -> tuple[str, list[float]]:
    """Return metric and budgets of a text such as ``'macs=0.3,0.5,0.7'``.

    Raises:
        ConfigError: Another form.

    >>> parse_budgets('macs=0.3,0.5')
    ('macs', [0.3, 0.5])
    """
    metric, _, numbers = text.partition('=')
    if metric not in _METRICS:
        raise ConfigError(
            f'Expected budgets such as macs=0.3,0.5,0.7, but got {text!r}; '
            f'{did_you_mean(metric, _METRICS)}'
        )
    try:
        budgets = [float(number) for number in numbers.split(',')]
    except ValueError as error:
        raise ConfigError(
            f'Expected numbers after {metric}=, such as {metric}=0.3,0.5,0.7, but got {text!r}'
        ) from error
    return metric, budgets


def front(
    cfg: Config,
    metric: str,
    budgets: Sequence[float],
    work_dir: Path,
    *,
    resume: bool = False,
    input_shape: Sequence[int] | None = None,
    console: Console | None = None,
) -> list[FrontPoint]:
    """Search and retrain a network for each of several budgets.

    Args:
        cfg: The config of a search, with a ``retrain`` section. A ``Budget`` that it has keeps
            its other options and budgets.
        metric: ``'params'``, ``'macs'``, ``'memory'`` or ``'latency_ms'``.
        budgets: Each above 0; at most 1 for a fraction of the original.
        work_dir: Gets a folder for each budget, and ``front.json``.
        resume: Whether to keep what is finished, and to go on with what was begun.
        input_shape: Of one sample, ``(C, H, W)``, where the supernet does not know it.
        console: Where to show the progress.

    Returns:
        A point for each budget, in their order.
    """
    configs = [_with_budget(cfg, metric, budget, input_shape) for budget in budgets]
    counted = [_prepared(each) for each in configs]  # All are checked before the first runs.
    points: list[FrontPoint] = []
    for budget, each, extension in zip(budgets, configs, counted, strict=True):
        folder = work_dir / f'{metric}_{budget:g}'
        accuracy = _accuracy_of(folder) if resume else None
        if accuracy is None:
            goes_on = resume and has_begun(folder)
            done = folder / 'subnet.yaml'
            if not (goes_on and done.is_file() and has_begun(folder / 'retrain')):
                subnet = search(each, folder, resume=goes_on, console=console)
            else:
                subnet = load_subnet(done)
            begun = resume and has_begun(folder / 'retrain')
            results = retrain(each, subnet, folder / 'retrain', resume=begun, console=console)
            accuracy = results[0].accuracy
        subnet = load_subnet(folder / 'subnet.yaml')
        chosen = {sid: entry['chosen'] for sid, entry in subnet.items()}
        limit, cost = extension.limits[metric], extension.costs_of(chosen)[metric]
        if metric == 'latency_ms':
            limit, cost = said_by_clock(folder) or (limit, cost)
        points.append(FrontPoint(budget, limit, cost, accuracy, str(folder)))
        if is_main_process():
            content = {'metric': metric, 'points': [point._asdict() for point in points]}
            write_durably(work_dir / 'front.json', json.dumps(content, indent=2) + '\n')
    return points


def _with_budget(
    cfg: Config, metric: str, budget: float, input_shape: Sequence[int] | None
) -> Config:
    changed = copy.deepcopy(cfg)
    mutator = dict(changed.model['mutator'])
    extensions = [dict(extension) for extension in mutator.get('extensions', ())]
    own = next((e for e in extensions if e.get('type') == 'Budget'), None)
    if own is None:
        own = {'type': 'Budget'}
        extensions.append(own)
    own[metric] = budget
    sample = None
    if metric != 'params' and 'example_inputs' not in own:
        supernet = build_architecture(cfg.model['architecture'])
        sample = _inputs(cfg, supernet, input_shape)
    if sample is not None:
        own['example_inputs'] = [*sample.shape]
    changed.model['mutator'] = {**mutator, 'extensions': extensions}
    return changed


def _prepared(cfg: Config) -> Any:
    """Return the budget of a config, prepared: it knows all costs."""
    mutator = build_mutator(cfg.model['mutator'])
    mutator.prepare_from_supernet(build_architecture(cfg.model['architecture']))
    return Budget.of(mutator)


def _accuracy_of(folder: Path) -> float | None:
    """Return the accuracy of a network that was retrained before, if there is one."""
    try:
        content = json.loads((folder / 'retrain' / 'results.json').read_text(encoding='utf-8'))
        return Result(**content['found']).accuracy
    except (OSError, ValueError, KeyError, TypeError):
        return None
