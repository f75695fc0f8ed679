"""The command line in this process, on settings that take a second."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.hooks import Hook

from mmrazor_mutators import cli

CONFIGS = Path(__file__).parents[1] / 'configs'
DIGITS = str(CONFIGS / 'darts' / 'digits.py')
NB201 = str(CONFIGS / 'darts' / 'nasbench201_digits.py')

TINY = {
    'train_cfg.max_epochs': 1,
    'train_dataloader.dataset.images_per_class': 8,
    'train_dataloader.batch_size': 32,
    'train_cfg.arch_dataloader.dataset.images_per_class': 8,
    'train_cfg.arch_dataloader.batch_size': 32,
    'test_dataloader.dataset.images_per_class': 8,
    'model.architecture.base_channels': 4,
    'retrain.train_cfg.max_epochs': 1,
}
"""Steps and channels by the handful; for the retraining as well."""


def options(config=None, **changes):
    """Return ``--cfg-options`` for tiny runs; ``__`` in a name stands for a dot."""
    merged = {**TINY, **{key.replace('__', '.'): value for key, value in changes.items()}}
    if config is not None and Path(config).parent.name == 'searchable':
        del merged['model.architecture.base_channels']  # Their models say it themselves.
    return ['--cfg-options', *[f'{key}={value}' for key, value in merged.items()]]


def run(verb, config, work_dir, *arguments, **changes):
    """Run a verb in this process and return its exit code."""
    return cli.main(
        [verb, str(config), '--work-dir', str(work_dir)]
        + [*arguments, *options(config, **changes)]
    )


def search(work_dir, *arguments, config=NB201, **changes):
    """Search the small space of NAS-Bench-201."""
    return run('search', config, work_dir, *arguments, **changes)


def retrain(work_dir, subnet, *arguments, config=NB201, **changes):
    """Retrain with the same settings."""
    return run('retrain', config, work_dir, '--subnet', str(subnet), *arguments, **changes)


def weights_of(work_dir, name='last.pth'):
    """Return the state of the model in a checkpoint of a run."""
    return torch.load(Path(work_dir) / name, weights_only=True)['state_dict']


def complaint(capsys):
    """Return the one line on stderr, which has to be an error without a traceback."""
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith('error: '), captured.err
    assert 'Traceback' not in captured.out + captured.err
    return lines[0]


class StopAfter(Hook):
    """Interrupts a run, as Ctrl-C does, after some epochs and their checkpoint."""

    priority = 'LOWEST'

    def __init__(self, epochs):
        self.epochs = epochs

    def after_train_epoch(self, runner):
        """Interrupt."""
        if runner.epoch + 1 == self.epochs:
            raise KeyboardInterrupt
