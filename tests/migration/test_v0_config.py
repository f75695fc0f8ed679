"""Config files of MMRazor v0.2.0 on our command line."""

from __future__ import annotations

import copy
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS
from tiny_runs import CONFIGS, complaint, weights_of

from mmrazor_mutators import cli
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.jobs import build_model
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.migration.v0_config import translate
from mmrazor_mutators.migration.v0_data import transforms_of
from mmrazor_mutators.migration.v0_schedule import optim_wrapper_of, schedulers_of
from mmrazor_mutators.mutables import load_subnet
from mmrazor_mutators.registry import TRANSFORMS

sys.path.append(str(Path(__file__).parents[1] / 'datasets'))
from cifar_files import PIXELS, binary_batch

FOLDER = CONFIGS / 'mmrazor_v0_2_0'

BASE = """
img_norm_cfg = dict(mean=[51.0, 102.0, 153.0], std=[25.5, 51.0, 102.0], to_rgb=False)
train_pipeline = [
    dict(type='RandomFlip', flip_prob=0.5, direction='horizontal'),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label']),
]
test_pipeline = [dict(type='Normalize', **img_norm_cfg), dict(type='Collect', keys=['img'])]
data = dict(
    samples_per_gpu=8,
    workers_per_gpu=2,
    train=dict(type='CIFAR10', data_prefix={root!r}, pipeline=train_pipeline),
    val=dict(type='CIFAR10', data_prefix={root!r}, pipeline=test_pipeline, test_mode=True),
    test=dict(type='CIFAR10', data_prefix={root!r}, pipeline=test_pipeline, test_mode=True),
)
"""
SMALL = [
    'algorithm.architecture.model.backbone.base_channels=2',
    'algorithm.architecture.model.backbone.num_layers=3',
    'algorithm.architecture.model.backbone.out_indices=(2,)',
]


@pytest.fixture
def files(tmp_path):
    """Return configs of v0.2.0 as a checkout has them, upon files with a few images."""
    root = tmp_path / 'data'
    folder = root / 'cifar-10-batches-bin'
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for name in [*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch']:
        pixels = torch.randint(256, (20, PIXELS), generator=generator, dtype=torch.uint8)
        rows = [bytes(row.tolist()) for row in pixels]
        (folder / f'{name}.bin').write_bytes(binary_batch(rows, [i % 10 for i in range(20)]))
    base = tmp_path / '_base_' / 'cifar10.py'
    base.parent.mkdir()
    base.write_text(BASE.format(root=str(root)))
    written = {}
    for name in ('darts_supernet', 'darts_subnet'):
        text = (FOLDER / f'{name}.py').read_text()
        written[name] = tmp_path / f'{name}.py'
        written[name].write_text(text)
    return written


def legacy(**changes):
    """Return a small config of v0.2.0 as a dict."""
    step = {'type': 'Normalize', 'mean': [51.0], 'std': [25.5], 'to_rgb': False}
    part = {'type': 'CIFAR10', 'data_prefix': 'there', 'pipeline': [step]}
    cfg = {
        'algorithm': {'type': 'Darts', 'architecture': {}, 'mutator': {}, 'unroll': False},
        'data': {'samples_per_gpu': 7, 'split': True, 'train': part, 'val': part, 'test': part},
        'optimizer': {
            'architecture': {'type': 'SGD', 'lr': 0.1},
            'mutator': {'type': 'Adam', 'lr': 0.2},
        },
        'lr_config': {'policy': 'CosineAnnealing', 'min_lr': 0.01},
        'runner': {'type': 'MultiLoaderEpochBasedRunner', 'max_epochs': 5},
    }
    return {**cfg, **changes}


def retraining(**changes):
    algorithm = {'type': 'Darts', 'architecture': {}, 'mutator': {}, 'retraining': True}
    optimizer = {'type': 'SGD', 'lr': 0.1, 'paramwise_cfg': {'bias_decay_mult': 0.0}}
    return legacy(**{'algorithm': algorithm, 'optimizer': optimizer, **changes})


def test_search_config_of_darts():
    cfg = load_config(FOLDER / 'darts_supernet.py')
    train, arch = cfg.train_dataloader, cfg.train_cfg.arch_dataloader
    assert (train.batch_size, train.dataset.split, arch.dataset.split) == (
        64,
        'weights',
        'arch',
    )
    assert train.dataset.root == 'data/cifar10'
    assert [step.type for step in train.dataset.transform] == [
        'RandomCrop',
        'RandomHorizontalFlip',
        'Normalize',
    ]
    assert cfg.train_cfg.max_epochs == 50
    assert cfg.optim_wrapper.architecture.optimizer.to_dict() == {
        'type': 'SGD',
        'lr': 0.025,
        'momentum': 0.9,
        'weight_decay': 3e-4,
    }
    assert cfg.optim_wrapper.architecture.clip_grad == {'max_norm': 5.0}
    assert 'clip_grad' not in cfg.optim_wrapper.mutator
    assert cfg.param_scheduler.mutator == []
    assert cfg.param_scheduler.architecture[0].eta_min == 1e-3
    model = build_model(cfg, cfg.model)
    assert model.searching
    assert model.search_options['hypergradient'] == 'finite_difference'


def test_search_retrain_and_export(files, tmp_path, capsys):
    options = ['--cfg-options', *SMALL, 'runner.max_epochs=1', 'algorithm.unroll=False']
    found = tmp_path / 'found'
    nodes = ['algorithm.architecture.model.backbone.num_nodes=1']
    searching = [
        *options, *nodes, 'algorithm.architecture.model.head.in_channels=8',
        'data.samples_per_gpu=25', 'randomness.seed=3',
        'algorithm.mutator.placeholder_mapping.node_edge.num_chosen=1',
    ]  # fmt: skip
    arguments = ['search', str(files['darts_supernet']), '--work-dir', str(found), *searching]
    assert cli.main(arguments) == 0, capsys.readouterr()
    subnet = load_subnet(found / 'subnet.yaml')
    assert {space_id[:9] for space_id in subnet} == {'normal_n2', 'reduce_n2'}
    assert len(subnet) == 4
    assert load_subnet(found / 'epoch_1.yaml') == subnet
    keys = weights_of(found)
    assert 'architecture.model.head.fc.weight' in keys
    assert 'mutator.arch_params.normal_n2_p0' in keys
    out = tmp_path / 'trained'
    training = [
        *options, *nodes, 'algorithm.architecture.model.head.in_channels=8',
        'data.samples_per_gpu=50', 'algorithm.architecture.model.backbone.aux_channels=3',
        'algorithm.architecture.model.backbone.aux_out_channels=4',
        'algorithm.architecture.model.head.aux_in_channels=4',
    ]  # fmt: skip
    chosen = str(found / 'subnet.yaml')
    arguments = [
        'retrain',
        str(files['darts_subnet']),
        '--subnet',
        chosen,
        '--work-dir',
        str(out),
    ]
    assert cli.main([*arguments, *training]) == 0, capsys.readouterr()
    results = json.loads((out / 'results.json').read_text())
    assert 0 <= results['found']['accuracy'] <= 100
    weights = weights_of(out)
    assert 'architecture.model.head.aux_linear.weight' in weights
    net = tmp_path / 'net.pt'
    arguments = [
        'export', str(files['darts_subnet']), '--subnet', chosen,
        '--checkpoint', str(out / 'last.pth'), '--out', str(net), *training,
    ]  # fmt: skip
    assert cli.main(arguments) == 0, capsys.readouterr()
    plain = torch.load(net, weights_only=False)
    with torch.no_grad():
        assert plain(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_what_is_not_taken_over_is_logged(files, caplog):
    load_config(files['darts_supernet'], SMALL)
    assert 'Not taken over: data.workers_per_gpu' in caplog.text
    assert 'use_ddp_wrapper (gradients are averaged without a reducer)' in caplog.text
    caplog.clear()
    cfg = legacy(
        fp16={'loss_scale': 512.0},
        workflow=[('train', 1), ('val', 1)],
        custom_hooks=[
            {'type': 'EMAHook'},
            {'type': 'DropPathProbHook', 'max_prob': 0.1, 'x': 1},
        ],
        log_config={'interval': 3, 'hooks': [{'type': 'TensorboardLoggerHook'}]},
        checkpoint_config={'interval': 2, 'max_keep_ckpts': 4, 'create_symlink': False},
        lr_config={'policy': 'CosineAnnealing', 'min_lr': 0, 'warmup': 'linear'},
        evaluation={'interval': 1},
        searcher={'type': 'EvolutionSearcher'},
        seed=4,
        load_from='a.pth',
        work_dir='w',
    )
    before = copy.deepcopy(cfg)
    ours, notes = translate(cfg)
    assert cfg == before
    assert {*notes} == {
        'fp16 (see `autocast` of Darts)',
        'workflow',
        'custom_hooks: EMAHook',
        'custom_hooks: DropPathProbHook.x',
        'log_config: TensorboardLoggerHook',
        'checkpoint_config.create_symlink',
        'lr_config.warmup',
        'evaluation (a search is not validated)',
        'searcher',
    }
    assert ours['custom_hooks'] == [{'type': 'DropPathProbHook', 'max_prob': 0.1}]
    assert ours['default_hooks']['checkpoint'] == {
        'type': 'CheckpointHook',
        'by_epoch': True,
        'interval': 2,
        'max_keep_ckpts': 4,
    }
    assert ours['default_hooks']['logger']['interval'] == 3
    assert (ours['randomness'], ours['load_from'], ours['work_dir']) == (
        {'seed': 4},
        'a.pth',
        'w',
    )


def test_retraining_with_evaluation_by_iterations():
    cfg = retraining(
        runner={'type': 'IterBasedRunner', 'max_iters': 30},
        lr_config={'policy': 'poly', 'power': 1.0, 'by_epoch': False},
        evaluation={'interval': 10, 'metric': 'accuracy'},
        optimizer_config={'grad_clip': {'max_norm': 3}},
    )
    ours, notes = translate(cfg)
    assert notes == []
    assert ours['train_cfg'] == {'by_epoch': False, 'max_iters': 30, 'val_interval': 10}
    assert ours['optim_wrapper'] == {
        'type': 'OptimWrapper',
        'optimizer': {'type': 'SGD', 'lr': 0.1},
        'paramwise_cfg': {'bias_decay_mult': 0.0},
        'clip_grad': {'max_norm': 3},
    }
    assert ours['val_dataloader']['dataset']['split'] == 'test'
    assert ours['train_dataloader']['dataset']['split'] == 'train'
    assert ours['val_evaluator'] == {'type': 'Accuracy'}


def test_parts_of_ours_in_the_same_file_come_last(files):
    file = files['darts_supernet']
    file.write_text(f'{file.read_text()}\nrandomness = dict(seed=9)\n')
    cfg = load_config(file, ['train_dataloader.batch_size=5', 'train_cfg.max_epochs=2'])
    assert cfg.randomness == {'seed': 9}
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.type) == (2, 'BilevelTrainLoop')
    assert cfg.train_dataloader.batch_size == 5
    assert cfg.train_dataloader.dataset.split == 'weights'


def test_one_shot_search():
    searcher = {
        'type': 'EvolutionSearcher',
        'candidate_pool_size': 50,
        'candidate_top_k': 10,
        'constraints': {'flops': 330e6},
        'metrics': 'accuracy',
        'score_key': 'accuracy_top-1',
        'max_epoch': 20,
        'num_mutation': 25,
        'num_crossover': 25,
        'mutate_prob': 0.1,
    }
    algorithm = {'type': 'mmrazor.SPOS', 'architecture': {}, 'mutator': {}, 'distiller': None}
    cfg = legacy(algorithm=algorithm, searcher=searcher, optimizer={'type': 'SGD', 'lr': 0.5})
    ours, notes = translate(cfg)
    assert ours['model']['type'] == 'mmrazor_mutators.SPOS'
    loop = ours['train_cfg']
    assert (loop['type'], loop['arch_dataloader']['dataset']['split']) == (
        'OneShotTrainLoop',
        'arch',
    )
    options = {k: v for k, v in searcher.items() if k not in ('type', 'metrics', 'score_key')}
    assert loop['evolution'] == options
    first = 'searcher without load_from (the supernet is trained first)'
    assert notes == [first, 'searcher.metrics', 'searcher.score_key']
    with pytest.raises(ConfigError, match=r"'EvolutionSearcher', but got 'GreedySearcher'"):
        translate({**cfg, 'searcher': {'type': 'GreedySearcher'}})


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'runner': None}, r'max_epochs or max_iters, but got None'),
        ({'runner': {'max_iters': 30}}, r'counted in epochs here, but runner has max_iters=30'),
        ({'data': None}, r'`data` to be a dict of data sets, but got None'),
        ({'data': {'split': True, 'train': 5}}, r"data\['train'\] .* but got 5"),
        (
            {'data': {'split': False, 'train': {'type': 'CIFAR10'}}},
            r'split=True, but got False',
        ),
        (
            {'data': {'split': True, 'train': {'type': 'CocoDataset'}}},
            r"data set 'CocoDataset' of data",
        ),
        ({'optimizer': None}, r'`optimizer` to be a dict, but got None'),
        ({'lr_config': {'policy': 'cyclic'}}, r"policy 'cyclic' of lr_config"),
    ],
)
def test_configs_that_cannot_be_translated(changes, message):
    with pytest.raises(ConfigError, match=message):
        translate(legacy(**changes))


def test_message_on_the_command_line(files, tmp_path, capsys):
    arguments = ['search', str(files['darts_supernet']), '--work-dir', str(tmp_path / 'w')]
    options = ['--cfg-options', 'data.train.type=CocoDataset']
    assert cli.main([*arguments, *options]) == 2
    message = "The data set 'CocoDataset' of data['train'] cannot be translated"
    assert message in complaint(capsys)


def rates(lr_config, total, by_epoch=True, base=0.5):
    """Return the learning rates of a run, as the host's schedulers set them."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    schedulers = [
        PARAM_SCHEDULERS.build({**cfg, 'optimizer': optimizer})
        for cfg in schedulers_of(lr_config, total, by_epoch, [])
    ]
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


@pytest.mark.parametrize(
    ('lr_config', 'formula'),
    [
        (
            {'policy': 'CosineAnnealing', 'min_lr': 0.1},
            lambda t: 0.1 + 0.4 * (1 + math.cos(math.pi * t)) / 2,
        ),
        (
            {'policy': 'CosineAnnealing', 'min_lr_ratio': 0.2},
            lambda t: 0.1 + 0.4 * (1 + math.cos(math.pi * t)) / 2,
        ),
        ({'policy': 'poly', 'power': 0.9, 'min_lr': 0.1}, lambda t: 0.1 + 0.4 * (1 - t) ** 0.9),
        ({'policy': 'Poly'}, lambda t: 0.5 * (1 - t)),
        ({'policy': 'fixed'}, lambda t: 0.5),
        ({'policy': 'step', 'step': [3, 6]}, lambda t: 0.5 * 0.1 ** ((t >= 0.3) + (t >= 0.6))),
        (
            {'policy': 'step', 'step': 4, 'gamma': 0.5},
            lambda t: 0.5 * 0.5 ** (round(10 * t) // 4),
        ),
        (None, lambda t: 0.5),
    ],
)
@pytest.mark.parametrize('by_epoch', [True, False])
def test_learning_rates(lr_config, formula, by_epoch):
    found = rates(lr_config, 10, by_epoch)
    assert found == pytest.approx([formula(step / 10) for step in range(10)])


def test_learning_rate_by_iteration_of_a_run_in_epochs():
    lr_config = {'policy': 'Poly', 'by_epoch': False}
    (scheduler,) = schedulers_of(lr_config, 10, True, [])
    assert scheduler['convert_to_iter_based'] is True
    (scheduler,) = schedulers_of({'policy': 'Poly'}, 10, True, [])
    assert 'convert_to_iter_based' not in scheduler


def test_options_of_optimizers():
    notes: list[str] = []
    optim_wrapper_of({'type': 'SGD', 'lr': 0.1}, {'grad_clip': None, 'type': 'X'}, notes)
    assert notes == ['optimizer_config.type']


def test_transforms_compute_the_same():
    notes: list[str] = []
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'RandomFlip', 'flip_prob': 1.0},
        {'type': 'mmcls.Normalize', 'mean': [51, 102], 'std': [25.5, 51], 'to_rgb': False},
        {'type': 'Cutout', 'shape': 2, 'pad_val': 0, 'prob': 1.0},
    ]
    flip, normalize, cutout = map(TRANSFORMS.build, transforms_of(pipeline, 8, 'p', notes))
    assert notes == []
    pixels = torch.randint(256, (2, 8, 8)).float()
    mean, std = torch.tensor([51.0, 102.0]), torch.tensor([25.5, 51.0])
    expected = (pixels.flip(2) - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(normalize(flip(pixels / 255)), expected, rtol=1e-4, atol=1e-5)
    assert 1 <= int((cutout(torch.ones(1, 8, 8)) == 0).sum()) <= 4
    (crop,) = transforms_of([{'type': 'RandomCrop', 'size': 8, 'padding': 4}], 8, 'p', notes)
    assert crop == {'type': 'RandomCrop', 'padding': 4}


@pytest.mark.parametrize(
    'step',
    [
        {'type': 'RandomCrop', 'size': 24, 'padding': 4},
        {'type': 'RandomCrop', 'size': 32},
        {'type': 'RandomCrop', 'size': 32, 'padding': 4, 'padding_mode': 'reflect'},
        {'type': 'RandomFlip', 'direction': 'vertical'},
        {'type': 'Normalize', 'mean': [1], 'std': [1], 'to_rgb': True},
        {'type': 'Cutout', 'shape': 2, 'prob': 1.0},
        {'type': 'Cutout', 'shape': 2, 'pad_val': 0, 'prob': 0.5},
        {'type': 'Cutout', 'shape': (2, 3), 'pad_val': 0, 'prob': 1.0},
        {'type': 'ColorJitter', 'brightness': 0.4, 'hue': 0.1},
    ],
)
def test_transforms_that_are_not_taken_over(step):
    notes: list[str] = []
    assert transforms_of([step], 32, 'data.train.pipeline', notes) == []
    (note,) = notes
    assert note.startswith(f'data.train.pipeline: {step["type"]}(')
    assert all(f'{key}={value!r}' in note for key, value in step.items() if key != 'type')


def test_retraining_with_the_config_of_a_search(files, tmp_path, capsys):
    subnet = str(FOLDER / 'darts_paper.yaml')
    arguments = ['retrain', str(files['darts_supernet']), '--subnet', subnet]
    assert cli.main([*arguments, '--work-dir', str(tmp_path / 'w')]) == 2
    assert '`train_cfg` has an arch_dataloader' in complaint(capsys)
