"""Loops, hooks, optimizers and metrics: what they hand on, and when."""

from __future__ import annotations

import random
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tiny_runs import NB201, options
from torch import nn

from mmrazor_mutators.algorithms import Darts
from mmrazor_mutators.engine import (
    Accuracy,
    DropPathProbHook,
    EpochSeedHook,
    SearchSubnetHook,
    SeparateOptimWrapperConstructor,
)
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.jobs import build_model
from mmrazor_mutators.engine.runner import build_runner
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.host import DropPath


class Record(Hook):
    """Keeps what each step got and what it was taken with."""

    def __init__(self):
        self.batches, self.rates = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Keep it."""
        self.batches.append(data_batch)
        groups = [
            runner.optim_wrapper[key].optimizer.param_groups
            for key in ('architecture', 'mutator')
        ]
        self.rates.append((runner.epoch, *[group['lr'] for (group,) in groups]))


@pytest.fixture
def runner_of(tmp_path):
    """A function that builds a runner from settings, with hooks."""

    def build(*hooks, **changes):
        cfg = load_config(NB201, options(**changes)[1:])
        return build_runner(cfg, build_model(cfg, cfg.model), tmp_path, hooks)

    return build


PLAIN = {
    'train_dataloader__dataset__transform': '[]',
    'train_cfg__arch_dataloader__dataset__transform': '[]',
}


def rows(images):
    """Images as bytes, to tell them apart."""
    return [image.numpy().tobytes() for image in images]


def chained(lists):
    """The entries of several lists in one."""
    return [entry for entries in lists for entry in entries]


def test_pairs_come_from_halves_that_share_no_image(runner_of):
    record = Record()
    # 80 images by 32 make 3 steps an epoch; the other half's 130 make 5 a pass.
    runner = runner_of(
        record,
        train_cfg__max_epochs=5,
        train_cfg__arch_dataloader__dataset__images_per_class=13,
        **PLAIN,
    )
    runner.train()
    weights, arch = ([rows(pair[side][0]) for pair in record.batches] for side in (0, 1))
    assert [len(batch) for batch in weights] == [32, 32, 16] * 5
    assert [len(batch) for batch in arch] == [32, 32, 32, 32, 2] * 3
    assert not {*chained(weights)} & {*chained(arch)}
    # Each epoch and each pass holds every image of its half, in another order.
    epochs = [chained(weights[i : i + 3]) for i in range(0, 15, 3)]
    passes = [chained(arch[i : i + 5]) for i in range(0, 15, 5)]
    for parts, size in ((epochs, 80), (passes, 130)):
        assert all(len(part) == size for part in parts)
        assert all(sorted(part) == sorted(parts[0]) for part in parts)
        assert len({tuple(part) for part in parts}) == len(parts)


def test_arch_loader_is_entered_once_a_pass(runner_of, monkeypatch):
    runner = runner_of(
        train_cfg__max_epochs=5, train_cfg__arch_dataloader__dataset__images_per_class=13
    )
    loop = runner.train_loop
    entered = []
    loader = type(loop.arch_dataloader)
    plain = loader.__iter__
    monkeypatch.setattr(loader, '__iter__', lambda self: entered.append(self) or plain(self))
    runner.train()
    assert entered.count(loop.arch_dataloader) == 3
    assert entered.count(loop.dataloader) == 5


def test_loader_without_a_batch(runner_of):
    runner = runner_of(
        train_cfg__arch_dataloader__drop_last=True,
        **{'train_cfg__arch_dataloader__batch_size': 500},
    )
    with pytest.raises(ConfigError, match=r'`arch_dataloader` has no batch.* 80 samples'):
        runner.train()


def test_schedule_reaches_the_optimizers_without_a_warning(runner_of):
    record = Record()
    runner = runner_of(
        record, train_cfg__max_epochs=5, optim_wrapper__mutator__optimizer__lr=6e-3
    )
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        runner.train()
    by_epoch = {epoch: (lr, alpha_lr) for epoch, lr, alpha_lr in record.rates}
    for epoch, (lr, alpha_lr) in by_epoch.items():
        cosine = (1 + np.cos(np.pi * epoch / 5)) / 2
        assert lr == pytest.approx(1e-3 + (0.025 - 1e-3) * cosine, rel=1e-9)
        assert alpha_lr == 6e-3
    assert sorted(by_epoch) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ('arguments', 'names', 'last'),
    [
        ({}, [], 5),
        ({'interval': 2}, ['epoch_2', 'epoch_4', 'epoch_5'], 5),
        ({'interval': 2, 'save_last': False}, ['epoch_2', 'epoch_4'], 5),
        ({'interval': 1, 'max_keep_subnets': 2}, ['epoch_4', 'epoch_5'], 5),
        ({'interval': 1, 'max_keep_ckpts': 3}, ['epoch_3', 'epoch_4', 'epoch_5'], 5),
        ({'interval': 2, 'filename_tmpl': 'at_{}.yaml'}, ['at_2', 'at_4', 'at_5'], 5),
        ({'interval': 4, 'by_epoch': False}, ['iter_12', 'iter_15', 'iter_4', 'iter_8'], 15),
    ],
)
def test_search_subnet_hook(arguments, names, last, runner_of, tmp_path):
    hook = SearchSubnetHook(out_dir=str(tmp_path / 'out'), **arguments)
    runner = runner_of(hook, train_cfg__max_epochs=5)
    runner.train()
    files = sorted(path.stem for path in (tmp_path / 'out').iterdir())
    assert files == sorted([*names, 'subnet'])
    found = runner.model.mutator.search_subnet()
    for name in ['subnet', *[name for name in names if name.endswith(f'_{last}')]]:
        assert yaml.safe_load((tmp_path / 'out' / f'{name}.yaml').read_text()) == found


def test_how_many_subnets_to_keep_is_said_once():
    with pytest.raises(ConfigError, match='`max_keep_ckpts`, but got 2 and 3'):
        SearchSubnetHook(max_keep_subnets=2, max_keep_ckpts=3)


def test_drop_path_prob():
    model = nn.Sequential(DropPath(0.5), nn.Sequential(DropPath(0.0)))
    hook = DropPathProbHook(max_prob=0.2)
    for epoch, expected in [(0, 0.0), (300, 0.1), (599, 0.2 * 599 / 600)]:
        hook.before_train_epoch(SimpleNamespace(model=model, epoch=epoch, max_epochs=600))
        assert [model[0].drop_prob, model[1][0].drop_prob] == pytest.approx([expected] * 2)
    skipping = DropPathProbHook(max_prob=0.3, interval=2)
    skipping.before_train_epoch(SimpleNamespace(model=model, epoch=3, max_epochs=6))
    assert model[0].drop_prob == pytest.approx(0.2 * 599 / 600)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'max_prob': 1.0}, '`max_prob` .* got 1.0'),
        ({'max_prob': -0.1}, '`max_prob` .* got -0.1'),
        ({'max_prob': 0.1, 'interval': 0}, '`interval` .* got 0'),
        ({'max_prob': 0.1, 'by_epoch': False}, '`by_epoch` to be True, but got False'),
    ],
)
def test_drop_path_prob_out_of_range(arguments, message):
    with pytest.raises(ConfigError, match=message):
        DropPathProbHook(**arguments)


def test_epoch_seed():
    def draw(seed, epoch):
        EpochSeedHook().before_train_epoch(SimpleNamespace(seed=seed, epoch=epoch))
        return random.random(), np.random.rand(), torch.rand(()).item()

    first = draw(3, 1)
    torch.rand(5), random.random(), np.random.rand(2)
    assert draw(3, 1) == first
    for other in (draw(3, 2), draw(4, 1)):
        assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        ({}, 'but got {}'),
        ({'architecture': 5}, "optim_wrapper\\['architecture'\\] .* got 5"),
        ({'mutatr': {'optimizer': {'type': 'SGD', 'lr': 1}}}, "did you mean 'mutator'"),
    ],
)
def test_optimizers_that_do_not_fit(cfg, message):
    model = Darts(
        {'type': 'NasBench201Supernet', 'in_channels': 1, 'num_classes': 2, 'base_channels': 4},
        {'type': 'DartsMutator'},
    )
    with pytest.raises(ConfigError, match=message):
        SeparateOptimWrapperConstructor(cfg)(model)


def test_accuracy():
    metric = Accuracy()
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    metric.process((None, torch.tensor([1, 1, 1])), list(logits))
    metric.process((None, torch.tensor([0])), [torch.tensor([2.0, 1.0])])
    assert metric.evaluate(4) == {'accuracy': 75.0}


def test_plain_runner_of_the_host_drives_the_config(tmp_path):
    cfg = load_config(NB201, options()[1:])
    cfg = Config({k: v for k, v in cfg.to_dict().items() if k not in ('arch_dataloader',)})
    for key in ('retrain', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg.pop(key)
    cfg.work_dir, cfg.log_level = str(tmp_path), 'ERROR'
    cfg.env_cfg = {'dist_cfg': {'backend': 'gloo'}}
    runner = Runner.from_cfg(cfg)
    before = {key: value.clone() for key, value in runner.model.named_parameters()}
    runner.train()
    assert (runner.epoch, runner.iter) == (1, 3)
    after = dict(runner.model.named_parameters())
    assert all(not after[key].equal(value) for key, value in before.items())
    assert (tmp_path / 'epoch_1.pth').is_file()
