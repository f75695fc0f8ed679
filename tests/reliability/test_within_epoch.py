"""Runs go on in the middle of an epoch, and between an epoch and its validation."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from runs import CONFIGS, arguments, assert_same, result_of, subnet_file

from mmrazor_mutators import cli
from mmrazor_mutators.engine.config import load_config, retrain_config
from mmrazor_mutators.engine.random_state import random_state, set_random_state


class StopWithin(Hook):
    """Sends the process a signal within a step, or interrupts it before a validation."""

    def __init__(self, step: int = 0, validation: int = -1) -> None:
        self.step = step
        self.validation = validation

    def before_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter + 1 == self.step:
            os.kill(os.getpid(), signal.SIGTERM)

    def before_val_epoch(self, runner: Any) -> None:
        if runner.epoch == self.validation:
            raise KeyboardInterrupt


def hook(**options: Any) -> str:
    return str([{'type': 'test_within_epoch.StopWithin', **options}]).replace(' ', '')


WORKERS = {
    'train_dataloader__num_workers': 2,
    'train_cfg__arch_dataloader__num_workers': 1,
    'train_cfg__arch_dataloader__sampler__shuffle': True,
}


@pytest.mark.parametrize(
    'step', [pytest.param(step, marks=pytest.mark.slow) for step in (3, 5)]
)  # 5 is the last one of an epoch.
def test_workers_go_on_with_their_random_numbers(step: int, tmp_path: Path) -> None:
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    assert cli.main(arguments('darts', whole, **WORKERS)) == 0
    words = arguments('darts', cut, custom_hooks=hook(step=step), **WORKERS)
    assert cli.main(words) == 143
    assert cli.main(arguments('darts', cut, '--resume', **WORKERS)) == 0
    assert_same(result_of(cut), result_of(whole))


LOOPS: dict[str, dict[str, Any]] = {
    'by epoch': {'by_epoch': True, 'max_epochs': 3},
    'by step': {'by_epoch': False, 'max_iters': 9, 'val_interval': 2},
}


def retrain(folder: Path, name: str, loop: str, *words: str) -> int:
    cfg = retrain_config(load_config(CONFIGS / 'darts' / 'nasbench201_digits.py'))
    cfg.train_cfg = LOOPS[loop]
    cfg.train_dataloader.batch_size = 16
    cfg.train_dataloader.dataset.images_per_class = 8
    cfg.param_scheduler = {'type': 'LinearLR', 'by_epoch': False, 'end': 9}
    cfg.val_dataloader, cfg.val_cfg = cfg.test_dataloader, {}
    cfg.val_evaluator = {'type': 'Accuracy'}
    cfg.default_hooks.checkpoint.update(
        by_epoch=cfg.train_cfg.by_epoch, interval=1, save_best='accuracy'
    )
    cfg.model.architecture.base_channels = 4
    config = folder / 'config.py'
    cfg.dump(config)
    subnet = ('--subnet', str(subnet_file(folder)))
    where = ('--work-dir', str(folder / name))
    return cli.main(['retrain', str(config), *subnet, *where, *words])


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('options', [{'step': 4}, {'validation': 1}], ids=str)
def test_a_retraining_with_validation(loop: str, options: Any, tmp_path: Path) -> None:
    if loop == 'by step' and 'validation' in options:
        pytest.skip('there is no epoch')
    assert retrain(tmp_path, 'whole', loop) == 0
    stop = f'custom_hooks={hook(**options)}'
    code = 143 if 'step' in options else 130
    assert retrain(tmp_path, 'cut', loop, '--cfg-options', stop) == code
    assert retrain(tmp_path, 'cut', loop, '--resume') == 0
    cut, whole = (result_of(tmp_path / name) for name in ('cut', 'whole'))
    assert_same(cut, whole)
    hubs = [
        torch.load(tmp_path / name / 'last.pth', weights_only=True)['message_hub']
        for name in ('cut', 'whole')
    ]
    scores = [hub['runtime_info']['best_score'] for hub in hubs]
    assert scores[0] == scores[1]


def test_state_of_all_generators() -> None:
    import random

    import numpy as np

    def draws() -> list[float]:
        return [random.gauss(0, 1), np.random.randn(), torch.randn(()).item()]

    draws()  # Both gauss and randn keep a second number for later.
    state = random_state()
    first = draws()
    assert draws() != first
    set_random_state(state)
    assert draws() == first
