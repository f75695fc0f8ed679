"""SPOS configs of MMRazor v0.2.0 on our command line, upon a folder of a few images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import CONFIGS, complaint

from mmrazor_mutators import cli
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.evolution import OneShotTrainLoop
from mmrazor_mutators.engine.jobs import build_model
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.migration.v0_config import translate
from mmrazor_mutators.migration.v0_data import transforms_of
from mmrazor_mutators.mutables import load_subnet

FOLDER = CONFIGS / 'mmrazor_v0_2_0'
IN_MODEL = 'algorithm.architecture.model'
SMALL = {
    f'{IN_MODEL}.backbone.widen_factor': 0.1,
    f'{IN_MODEL}.head.num_classes': 2,
    f'{IN_MODEL}.head.loss.num_classes': 2,
    f'{IN_MODEL}.head.topk': '(1,)',
    'algorithm.input_shape': '(3,32,32)',
    'optimizer.lr': 0.01,
    'runner.max_iters': 5,
    'data.samples_per_gpu': 8,
    'data.workers_per_gpu': 0,
    'randomness.seed': 1,
}
SMALL_OF = {
    'mobilenet': {
        **SMALL,
        f'{IN_MODEL}.backbone.last_channels': 16,
        f'{IN_MODEL}.head.in_channels': 16,
    },
    'shufflenetv2': SMALL,
}
SMALL_EVOLUTION = {
    'searcher.candidate_pool_size': 3,
    'searcher.candidate_top_k': 2,
    'searcher.max_epoch': 2,
    'searcher.num_mutation': 2,
    'searcher.num_crossover': 1,
}
every_kind = pytest.mark.parametrize('kind', SMALL_OF)


@pytest.fixture(scope='module')
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configs as they are, but with another base: small crops of other files."""
    folder = tmp_path_factory.mktemp('configs')
    data = folder / 'data'
    generator = np.random.default_rng(0)
    names = []
    for part, count in (('train/dark', 26), ('train/light', 26), ('val', 6)):
        (data / part).mkdir(parents=True)
        for i in range(count):
            light = part == 'train/light' or (part == 'val' and i % 2)
            pixels = generator.integers(0, 100, (40 + i, 44, 3)) + 150 * bool(light)
            Image.fromarray(pixels.astype('uint8')).save(data / part / f'{i}.png')
            names += [f'{i}.png {int(bool(light))}'] * (part == 'val')
    (data / 'meta').mkdir()
    (data / 'meta' / 'val.txt').write_text('\n'.join(names) + '\n')
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    base = folder / '_base_' / 'imagenet.py'
    text = base.read_text()
    for old, new in (
        ('data/imagenet', str(data)),
        ('224', '32'),
        ('256', '36'),
    ):
        assert old in text
        text = text.replace(old, new)
    base.write_text(text)
    return folder


def options(kind: str, **changes: Any) -> list[str]:
    """Return ``--cfg-options`` for tiny runs; ``__`` in a name stands for a dot."""
    merged = {**SMALL_OF[kind], **{k.replace('__', '.'): v for k, v in changes.items()}}
    return ['--cfg-options', *[f'{key}={value}' for key, value in merged.items()]]


@every_kind
def test_what_the_configs_say(kind: str) -> None:
    cfg = load_config(FOLDER / f'spos_{kind}_supernet.py')
    train, arch = cfg.train_dataloader, cfg.train_cfg.arch_dataloader
    assert (train.batch_size, train.num_workers, train.persistent_workers) == (128, 8, True)
    assert train.dataset.to_dict() == {
        'type': 'ImageFolder',
        'split': 'weights',
        'root': 'data/imagenet/train',
        'arch_fraction': 0.04,
        'transform': [
            {'type': 'RandomResizedCrop', 'size': 224},
            {'type': 'ColorJitter', 'brightness': 0.4, 'contrast': 0.4, 'saturation': 0.4},
            {'type': 'RandomHorizontalFlip', 'p': 0.5},
            {
                'type': 'Normalize',
                'mean': pytest.approx([0.485, 0.456, 0.406]),
                'std': pytest.approx([0.229, 0.224, 0.225], abs=1e-6),
            },
        ],
    }
    # Of the training images as well, but as they are tested.
    assert (arch.dataset.root, arch.dataset.split) == ('data/imagenet/train', 'arch')
    assert 'ann_file' not in arch.dataset
    assert [step.type for step in arch.dataset.transform] == [
        'ResizeShortEdge',
        'CenterCrop',
        'Normalize',
    ]
    assert cfg.test_dataloader.dataset.ann_file == 'data/imagenet/meta/val.txt'
    assert cfg.test_dataloader.dataset.root == 'data/imagenet/val'
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ('OneShotTrainLoop', 150000)
    assert cfg.param_scheduler[0].to_dict() == {
        'type': 'PolyLR',
        'power': 1.0,
        'eta_min': 0.0,
        'end': 150001,
        'by_epoch': False,
    }
    assert cfg.default_hooks.checkpoint.to_dict() == {
        'type': 'CheckpointHook',
        'by_epoch': True,
    }


@pytest.mark.parametrize(
    'kind', [pytest.param('mobilenet', marks=pytest.mark.slow), 'shufflenetv2']
)
def test_the_spaces_are_those_of_the_listed_network(kind: str) -> None:
    cfg = load_config(FOLDER / f'spos_{kind}_supernet.py')
    model = build_model(cfg, cfg.model)
    (path,) = FOLDER.glob(f'spos_{kind}_*.yaml')
    subnet = load_subnet(path)
    assert {*subnet} == {*model.mutator.search_spaces}
    # What v0.2.0 names them after.
    expected = {'shufflenetv2': 330e6, 'mobilenet': 490e6}[kind]
    assert model.get_subnet_costs(subnet)['flops'] == pytest.approx(expected, rel=0.015)
    net = model.mutator.export_subnet(model.architecture, subnet).eval()
    with torch.no_grad():
        assert net.forward_dummy(torch.randn(1, 3, 64, 64)).shape == (1, 1000)
    cfg = load_config(FOLDER / f'spos_{kind}_subnet.py')
    assert cfg.train_cfg.to_dict()['max_iters'] == 300000
    retrained = build_model(cfg, {**cfg.model, 'mutable_cfg': str(path)})
    assert {n: p.shape for n, p in retrained.architecture.named_parameters()} == {
        n: p.shape for n, p in net.named_parameters()
    }


def search(config: Path, work_dir: Path, kind: str, **changes: Any) -> list[Any]:
    """Search on the command line, and return every path evaluated."""
    changes = {**SMALL_EVOLUTION, **changes}
    arguments = ['search', str(config), '--work-dir', str(work_dir), *options(kind, **changes)]
    assert cli.main(arguments) == 0
    return json.loads((work_dir / 'evolution.json').read_text())['evaluated']


def test_supernet_then_retraining(configs: Path, tmp_path: Path) -> None:
    kind, found, trained = 'shufflenetv2', tmp_path / 'found', tmp_path / 'trained'
    evaluated = search(configs / f'spos_{kind}_evolution.py', found, kind)
    assert [entry['epoch'] for entry in evaluated] == [0, 0, 0, 1, 1, 1]
    # 5 steps of 8 images out of 50: all of the 7 of the epoch are taken.
    checkpoint = torch.load(found / 'last.pth', weights_only=False)
    assert (checkpoint['meta']['epoch'], checkpoint['meta']['iter']) == (1, 7)
    subnet = str(found / 'subnet.yaml')
    assert load_subnet(subnet) == max(evaluated, key=lambda entry: entry['score'])['candidate']
    arguments = ['retrain', str(configs / f'spos_{kind}_subnet.py'), '--subnet', subnet]
    arguments += ['--work-dir', str(trained), *options(kind, evaluation__interval=3)]
    assert cli.main(arguments) == 0
    accuracy = json.loads((trained / 'results.json').read_text())['found']['accuracy']
    assert accuracy in (pytest.approx(100 * k / 6) for k in range(7))
    weights = torch.load(trained / 'last.pth', weights_only=False)
    assert weights['meta']['iter'] == 5
    assert 'architecture.model.backbone.conv1.conv.weight' in weights['state_dict']


@pytest.mark.slow
def test_evolution_on_a_supernet_that_is_trained(
    configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, config = 'mobilenet', configs / 'spos_mobilenet_evolution.py'
    first = search(config, tmp_path / 'supernet', kind)
    steps: list[Any] = []
    monkeypatch.setattr(OneShotTrainLoop, 'run_iter', lambda *args: steps.append(args))
    (tmp_path / 'found').mkdir()
    (tmp_path / 'found' / 'evolution.json').write_text('{"left": "by another run"}')
    checkpoint = repr(str(tmp_path / 'supernet' / 'last.pth'))
    again = search(config, tmp_path / 'found', kind, load_from=checkpoint)
    assert steps == []
    # The same weights, images and seed: the same scores.
    assert again == first
    assert not (tmp_path / 'found' / 'last.pth').exists()


def legacy(**changes: Any) -> dict[str, Any]:
    """Return a small one-shot config of v0.2.0 as a dict."""
    part = {'type': 'ImageNet', 'data_prefix': 'there', 'pipeline': []}
    cfg = {
        'algorithm': {'type': 'SPOS', 'architecture': {}, 'mutator': {}},
        'data': {'train': {**part, 'ann_file': 'all.txt'}, 'val': {**part, 'ann_file': 'v'}},
        'optimizer': {'type': 'SGD', 'lr': 0.1},
        'runner': {'max_iters': 30},
        'checkpoint_config': {'interval': 10},
    }
    return {**cfg, **changes}


def test_how_long_a_supernet_is_trained() -> None:
    searcher = {'type': 'EvolutionSearcher'}
    for changes, expected in (
        ({}, {'max_iters': 30}),
        ({'runner': {'max_epochs': 3}}, {'max_epochs': 3}),
        ({'load_from': 'a.pth'}, {'max_iters': 30}),
        ({'searcher': searcher}, {'max_iters': 30}),
        ({'searcher': searcher, 'load_from': 'a.pth'}, {'max_epochs': 0}),
    ):
        ours, notes = translate(legacy(**changes))
        found = {k: v for k, v in ours['train_cfg'].items() if k.startswith('max')}
        assert found == expected
        told = 'searcher without load_from (the supernet is trained first)' in notes
        assert told == (changes.keys() == {'searcher'})


def test_lists_of_images_and_checkpoints() -> None:
    ours, notes = translate(legacy())
    for loader in (ours['train_dataloader'], ours['train_cfg']['arch_dataloader']):
        assert loader['dataset']['ann_file'] == 'all.txt'
    assert ours['test_dataloader']['dataset']['ann_file'] == 'v'
    assert ours['default_hooks']['checkpoint']['by_epoch'] is True
    assert 'interval' not in ours['default_hooks']['checkpoint']
    expected = 'checkpoint_config.interval (10 iterations; there is one for every epoch)'
    assert expected in notes
    kept = {'interval': 2, 'by_epoch': True}
    ours, notes = translate(legacy(checkpoint_config=kept))
    assert ours['default_hooks']['checkpoint'] == {'type': 'CheckpointHook', **kept}
    assert notes == []


def test_both_lengths_or_none(configs: Path, tmp_path: Path, capsys: Any) -> None:
    config = str(configs / 'spos_shufflenetv2_supernet.py')
    arguments = ['search', config, '--work-dir', str(tmp_path)]
    changes = {'train_cfg__max_epochs': 2}
    assert cli.main([*arguments, *options('shufflenetv2', **changes)]) == 2
    message = 'either `max_epochs` or `max_iters` for an OneShotTrainLoop, but got 2 and 5'
    assert message in complaint(capsys)


def test_steps_of_other_forms_are_not_taken_over() -> None:
    steps = [
        {'type': 'RandomResizedCrop', 'size': (32, 40)},
        {'type': 'RandomResizedCrop', 'size': 32, 'efficientnet_style': True},
        {'type': 'RandomResizedCrop', 'size': 32, 'interpolation': 'bicubic'},
        {'type': 'Resize', 'size': 32},
        {'type': 'Resize', 'size': (32, -1), 'backend': 'pillow'},
        {'type': 'CenterCrop', 'crop_size': 32, 'efficientnet_style': True},
        {'type': 'ColorJitter', 'brightness': 0.1, 'hue': 0.1},
        {'type': 'Normalize', 'mean': [0.0], 'std': [1.0], 'to_rgb': False},
        {'type': 'Lighting', 'alphastd': 0.1},
    ]
    notes: list[str] = []
    assert transforms_of(steps, None, 'data.train.pipeline', notes) == []
    assert [note.split('(')[0] for note in notes] == [
        f'data.train.pipeline: {step["type"]}' for step in steps
    ]
    taken = [
        {'type': 'RandomResizedCrop', 'size': [32, 32], 'scale': (0.5, 1.0)},
        {'type': 'Resize', 'size': (40, -1), 'interpolation': 'bilinear'},
        {'type': 'CenterCrop', 'crop_size': (32, 32)},
        {'type': 'Normalize', 'mean': [51.0], 'std': [25.5]},
    ]
    assert transforms_of(taken, None, 'p', notes) == [
        {'type': 'RandomResizedCrop', 'size': 32, 'scale': (0.5, 1.0)},
        {'type': 'ResizeShortEdge', 'size': 40},
        {'type': 'CenterCrop', 'size': 32},
        {'type': 'Normalize', 'mean': [0.2], 'std': [0.1]},
    ]
    assert len(notes) == len(steps)


def test_a_bilevel_search_stays_in_epochs() -> None:
    algorithm = {'type': 'Darts', 'architecture': {}, 'mutator': {}, 'unroll': False}
    with pytest.raises(ConfigError, match=r'bilevel .* epochs here, .* max_iters=30'):
        translate(legacy(algorithm=algorithm))
