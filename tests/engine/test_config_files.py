"""Every config in configs/ builds, and the CIFAR-10 one searches real files."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import tiny_runs
import torch
from tiny_runs import CONFIGS, complaint

from mmrazor_mutators.builder import build_algorithm
from mmrazor_mutators.engine.config import load_config, retrain_config
from mmrazor_mutators.engine.jobs import build_model, space_of
from mmrazor_mutators.mutables import find_mutables
from mmrazor_mutators.registry import OPTIM_WRAPPER_CONSTRUCTORS

sys.path.append(str(Path(__file__).parents[1] / 'datasets'))
from cifar_files import PIXELS, python_batch

FILES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob('*.py')
    if not path.parent.name.startswith('_')
    # For models of other packages; see test_v0_config.py, test_task_models.py and
    # test_examples.py.
    and path.parent.name not in ('examples', 'mmdet', 'mmpretrain', 'mmrazor_v0_2_0')
)
AS_LARGE_AS_IN_PAPERS = ('darts/cifar10.py', 'pdarts/cifar10.py')
every_config = pytest.mark.parametrize('name', FILES)


def test_there_are_configs():
    assert {'darts/cifar10.py', 'darts/digits.py', 'darts/fashion_mnist.py'} <= {*FILES}


@every_config
def test_search(name):
    cfg = load_config(CONFIGS / name)
    before = cfg.to_dict()
    model = build_model(cfg, cfg.model)
    assert model.searching
    if not hasattr(model.mutator, 'arch_params'):
        return  # Nothing is stepped.
    cfg_of_optimizers = {k: v for k, v in cfg.optim_wrapper.items() if k != 'constructor'}
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        {'type': cfg.optim_wrapper.constructor, 'optim_wrapper_cfg': cfg_of_optimizers}
    )
    wrappers = constructor(model)
    held = {
        key: [id(p) for group in wrappers[key].optimizer.param_groups for p in group['params']]
        for key in ('architecture', 'mutator')
    }
    everything = held['architecture'] + held['mutator']
    assert len(everything) == len({*everything})
    assert {*everything} == {id(p) for p in model.parameters()}
    assert {*held['mutator']} == {id(p) for p in model.mutator.arch_params.values()}
    assert cfg.to_dict() == before


@pytest.mark.parametrize(
    'name',
    [
        # What is retrained does not depend on the data.
        pytest.param(name, marks=[pytest.mark.slow] * name.endswith('cifar10.py'))
        for name in FILES
    ],
)
def test_retraining_of_a_random_network(name):
    cfg = retrain_config(load_config(CONFIGS / name))
    if name not in AS_LARGE_AS_IN_PAPERS and 'num_layers' in cfg.model.architecture:
        # Of 20 layers that all configs have alike, 3 are of as many kinds.
        cfg.model.architecture.update(num_layers=3, base_channels=8)
    assert 'arch_dataloader' not in cfg.train_cfg
    assert cfg.train_dataloader.dataset.split == 'train'
    assert cfg.test_dataloader.dataset.split == 'test'
    subnet = space_of(cfg).random_subnet(1)
    model = build_model(cfg, {**cfg.model, 'mutable_cfg': subnet})
    assert next(find_mutables(model), None) is None
    # A model of somebody else's says it in its layers.
    architecture = {'in_channels': 1, 'num_classes': 10, **cfg.model.architecture}
    side = {'Digits': 8, 'FashionMNIST': 28, 'CIFAR10': 32}[cfg.train_dataloader.dataset.type]
    with torch.no_grad():
        images = torch.randn(2, architecture['in_channels'], side, side)
        logits = model.eval()(images)
        images[1] = 0
        changed = model(images)
    assert logits.shape == (2, architecture['num_classes'])
    assert not logits[1].equal(changed[1])
    torch.testing.assert_close(logits[0], changed[0])
    optimizer = dict(cfg.optim_wrapper.optimizer)
    built = getattr(torch.optim, optimizer.pop('type'))(model.parameters(), **optimizer)
    assert built.param_groups[0]['lr'] == cfg.optim_wrapper.optimizer.lr


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in FILES if name.endswith('digits.py')])
def test_an_epoch_of_search_and_retraining(name, tmp_path, monkeypatch):
    if load_config(CONFIGS / name).train_cfg.arch_dataloader is None:
        kept = {k: v for k, v in tiny_runs.TINY.items() if 'arch_dataloader' not in k}
        monkeypatch.setattr(tiny_runs, 'TINY', kept)
    assert tiny_runs.search(tmp_path, config=CONFIGS / name) == 0
    subnet = tmp_path / 'subnet.yaml'
    assert tiny_runs.retrain(tmp_path / 'retrain', subnet, config=CONFIGS / name) == 0
    assert (tmp_path / 'retrain' / 'results.json').is_file()


def test_paper_settings_of_cifar10():
    # Liu et al., section 3.1: 8 cells, 16 channels, 50 epochs; then 20, 36, 600.
    cfg = load_config(CONFIGS / 'darts' / 'cifar10.py')
    retraining = retrain_config(cfg)
    found = [
        (c.model.architecture.num_layers, c.model.architecture.base_channels)
        + (c.train_cfg.max_epochs, c.train_dataloader.batch_size)
        for c in (cfg, retraining)
    ]
    assert found == [(8, 16, 50, 64), (20, 36, 600, 96)]
    assert retraining.model.architecture.auxiliary
    assert retraining.custom_hooks[0] == {'type': 'DropPathProbHook', 'max_prob': 0.2}
    # Architecture parameters alone: 2 cells, 14 edges each, 8 operations.
    alphas = build_algorithm(cfg.model).mutator.arch_params.values()
    assert sum(alpha.numel() for alpha in alphas) == 2 * 14 * 8


def write_cifar10(root):
    """Write 20 images for training, two of each class, and 4 to test."""
    folder = root / 'cifar-10-batches-py'
    folder.mkdir(parents=True)
    names = [f'data_batch_{number}' for number in range(1, 6)]
    for index, name in enumerate([*names, 'test_batch']):
        numbers = range(4 * index, 4 * index + 4)
        rows = [bytes((31 * n + 7 * place) % 256 for place in range(PIXELS)) for n in numbers]
        (folder / name).write_bytes(python_batch(rows, [n % 10 for n in numbers]))


@pytest.mark.parametrize('name', ['darts/cifar10.py', 'gdas/cifar10.py'])
def test_search_on_cifar10(name, tmp_path, monkeypatch, capsys):
    write_cifar10(tmp_path / 'data' / 'cifar-10')
    monkeypatch.setenv('MMRAZOR_MUTATORS_DATA', str(tmp_path / 'data'))
    changes = {
        'config': CONFIGS / name,
        'model__architecture__num_layers': 3,
        'model__architecture__num_nodes': 1,
        'train_dataloader__dataset__images_per_class': 1,
        'train_cfg__arch_dataloader__dataset__images_per_class': 1,
    }
    assert tiny_runs.search(tmp_path / 'run', **changes) == 0
    out = capsys.readouterr().out
    assert re.search(r'search +1/1  arch_loss [1-9]\.\d{3}  loss [1-9]\.\d{3}', out)
    weights = tiny_runs.weights_of(tmp_path / 'run')
    assert any(tuple(w.shape[1:]) == (3, 3, 3) for w in weights.values() if w is not None)
    (tmp_path / 'data' / 'cifar-10' / 'cifar-10-batches-py' / 'data_batch_3').unlink()
    assert tiny_runs.search(tmp_path / 'run', **changes) == 2
    assert 'data_batch_3' in complaint(capsys)
    assert (tmp_path / 'run' / 'subnet.yaml').is_file()
