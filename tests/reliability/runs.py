"""Tiny runs in processes of their own, which tests end as they like, and what they leave."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from processes import Process

CONFIGS = Path(__file__).parents[2] / 'configs'
ENVIRONMENT = {**os.environ, 'CUDA_VISIBLE_DEVICES': ''}

_SMALL = {
    'train_cfg.max_epochs': 2,
    'train_dataloader.dataset.images_per_class': 8,
    'train_dataloader.batch_size': 16,
    'model.architecture.base_channels': 4,
}
# An arch loader that is not in step with the epochs.
_TWO_LOADERS = {
    **_SMALL,
    'train_cfg.arch_dataloader.dataset.images_per_class': 11,
    'train_cfg.arch_dataloader.batch_size': 16,
}
_SPOS = {
    **_TWO_LOADERS,
    'train_cfg.evolution.candidate_pool_size': 4,
    'train_cfg.evolution.candidate_top_k': 2,
    'train_cfg.evolution.num_mutation': 2,
    'train_cfg.evolution.num_crossover': 2,
    'train_cfg.evolution.max_epoch': 2,
    'train_cfg.evolution.max_draws': 50,
}
_BY_STEP = {'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 2}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    'darts': ('darts/nasbench201_digits.py', _TWO_LOADERS),
    'darts by step': ('darts/nasbench201_digits.py', {**_TWO_LOADERS, **_BY_STEP}),
    'gdas': ('gdas/nasbench201_digits.py', {**_TWO_LOADERS, **_BY_STEP}),
    'oles': (
        'oles/digits.py',
        {**_TWO_LOADERS, **_BY_STEP, 'model.architecture.num_nodes': 1},
    ),
    'spos': ('spos/digits.py', _SPOS),
    'spos by step': ('spos/digits.py', {**_SPOS, **_BY_STEP}),
    'retrain': (
        'darts/nasbench201_digits.py',
        {
            'model.architecture.base_channels': 4,
            'retrain.train_dataloader.dataset.images_per_class': 8,
            'retrain.train_dataloader.batch_size': 16,
            'retrain.train_cfg.max_epochs': 2,
            'test_dataloader.dataset.images_per_class': 8,
        },
    ),
}
"""Config and changed options of each kind of run."""


def arguments(kind: str, work_dir: Path, *more: str, **changes: Any) -> list[str]:
    """Return the command line of a run, without the program."""
    config, options = KINDS[kind]
    options = {**options, **{key.replace('__', '.'): value for key, value in changes.items()}}
    verb = 'search'
    if kind.startswith('retrain'):
        verb = 'retrain'
        more = ('--subnet', str(subnet_file(work_dir.parent)), *more)
    words = [verb, str(CONFIGS / config), '--work-dir', str(work_dir), *more, '--cfg-options']
    return [*words, *[f'{key}={value}' for key, value in options.items()]]


def subnet_file(folder: Path) -> Path:
    """Return a file of a subnet for a retraining."""
    path = folder / 'given.yaml'
    if not path.exists():
        names = ['nor_conv_3x3', 'skip_connect', 'nor_conv_1x1']
        edges = [f'n{i}_p{j}' for i in range(1, 4) for j in range(i)]
        lines = [f'{e}: {{chosen: [{names[k % 3]}]}}\n' for k, e in enumerate(edges)]
        path.write_text(''.join(lines))
    return path


def start(words: list[str], **kwargs: Any) -> Process:
    """Begin a run in a process of its own."""
    return Process(['-m', 'mmrazor_mutators', *words], env=ENVIRONMENT, **kwargs)


def wait_for(process: Process, path: Path, pattern: str) -> None:
    """Wait until a process has written a file of some name."""
    for _ in range(2400):
        if any(path.glob(pattern)):
            return
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    raise AssertionError(f'no {pattern}')


def _plain(value: Any) -> Any:
    """Return a value without what differs from run to run: times, places and names."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def result_of(work_dir: Path) -> dict[str, Any]:
    """Return all that a run has come to, for a comparison to the last bit."""
    last = torch.load(work_dir / 'last.pth', weights_only=False)
    kept = ('state_dict', 'optimizer', 'param_schedulers')
    result = {key: _plain(last[key]) for key in kept if key in last}
    result['place'] = [last['meta'][key] for key in ('epoch', 'iter')]
    result['subnet'] = (work_dir / 'subnet.yaml').read_text()
    for name in ('evolution.json', 'results.json'):
        if (work_dir / name).exists():
            result[name] = json.loads((work_dir / name).read_text())
    for name in ('epochs.csv', 'spaces.csv'):
        if (work_dir / name).exists():
            result[name] = (work_dir / name).read_text()
    # The host keeps the config by the time of the start.
    result['files'] = sorted(
        path.name
        for path in work_dir.iterdir()
        if path.is_file() and not path.name[0].isdigit()
    )
    return result


def assert_same(ours: dict[str, Any], whole: dict[str, Any], what: Any = '') -> None:
    """Compare two results, and name the part that differs."""
    assert ours.keys() == whole.keys()
    for key, value in whole.items():
        assert ours[key] == value, (key, (ours[key], value) if key == 'files' else '', what)
