"""Configs and subnets of MMRazor 1.0, rewritten by `mmrazor-mutators migrate`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from tiny_runs import CONFIGS, complaint, weights_of

from mmrazor_mutators import cli
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.jobs import build_model
from mmrazor_mutators.errors import ConfigError, SubnetError
from mmrazor_mutators.migration.config_text import config_text
from mmrazor_mutators.migration.migrate import convert_subnet, migrate
from mmrazor_mutators.mutables import load_subnet

sys.path.append(str(Path(__file__).parents[1] / 'datasets'))
from cifar_files import PIXELS, binary_batch

SETTINGS = """
preprocess_cfg = dict(mean=[51.0, 102.0, 153.0], std=[25.5, 51.0, 102.0], to_rgb=False)
pipeline = [
    dict(type='mmcls.RandomCrop', crop_size=32, padding=4),
    dict(type='mmcls.RandomFlip', prob=0.25, direction='horizontal'),
    dict(type='mmcls.PackClsInputs'),
]
loader = dict(
    batch_size=25,
    num_workers=4,
    sampler=dict(type='mmcls.DefaultSampler', shuffle=True),
    persistent_workers=True,
)
dataset = dict(type='mmcls.CIFAR10', data_prefix={root!r}, test_mode=False, pipeline=pipeline)
train_dataloader = dict(**loader, dataset=dict(**dataset, indices=-30000))
val_dataloader = dict(
    batch_size=50,
    sampler=dict(type='mmcls.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmcls.CIFAR10',
        data_prefix={root!r},
        test_mode=True,
        pipeline=[dict(type='mmcls.PackClsInputs')],
    ),
)
val_evaluator = dict(type='mmcls.Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
optim_wrapper = dict(
    constructor='mmrazor.SeparateOptimWrapperConstructor',
    architecture=dict(
        optimizer=dict(type='mmcls.SGD', lr=0.025, momentum=0.9, weight_decay=3e-4),
        clip_grad=dict(max_norm=5, norm_type=2),
    ),
    mutator=dict(optimizer=dict(type='mmcls.Adam', lr=3e-4, weight_decay=1e-3)),
)
search_epochs = 1
param_scheduler = [
    dict(type='mmcls.CosineAnnealingLR', T_max=search_epochs, eta_min=1e-3, begin=0, end=1)
]
train_cfg = dict(
    type='mmrazor.DartsEpochBasedTrainLoop',
    mutator_dataloader=dict(**loader, dataset=dict(**dataset, indices=20000)),
    max_epochs=search_epochs,
)
val_cfg = dict()
test_cfg = dict()
"""
DARTS_BACKBONE = """
mutable_cfg = dict(
    type='mmrazor.DiffMutableOP',
    candidates=dict(
        zero=dict(type='mmrazor.DartsZero'),
        skip_connect=dict(type='mmrazor.DartsSkipConnect', use_drop_path=True),
        avg_pool_3x3=dict(type='mmrazor.DartsPoolBN', pool_type='avg', use_drop_path=True),
    ),
)
route_cfg = dict(type='mmrazor.DiffChoiceRoute', with_arch_param=True, num_chosen=1)
nas_backbone = dict(
    type='mmrazor.DartsBackbone',
    in_channels=3,
    base_channels=2,
    num_layers=3,
    num_nodes=1,
    stem_multiplier=3,
    out_indices=(2,),
    mutable_cfg=mutable_cfg,
    route_cfg=route_cfg,
    norm_cfg=dict(type='BN', affine=False),
)
"""
DARTS = """
_base_ = [
    'mmrazor::_base_/settings/cifar10_darts.py',
    'mmrazor::_base_/nas_backbones/darts.py',
    'mmcls::_base_/default_runtime.py',
]
custom_hooks = [
    dict(type='mmrazor.DumpSubnetHook', interval=10, by_epoch=True, unheard=1),
    dict(type='mmcls.EMAHook'),
]
model = dict(
    type='mmrazor.Darts',
    architecture=dict(
        type='ImageClassifier',
        backbone=_base_.nas_backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=10,
            in_channels=8,
            loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
            topk=(1, 5),
            cal_acc=True,
        ),
    ),
    mutator=dict(type='mmrazor.NasMutator'),
    unroll=True,
)
model_wrapper_cfg = dict(type='mmrazor.DartsDDP', broadcast_buffers=False)
find_unused_parameter = False
"""
DARTS_SUBNET = """
_base_ = ['./darts.py']
backbone = _base_.nas_backbone
backbone.base_channels = 3
backbone.norm_cfg = dict(type='BN', affine=True)
model = dict(
    _delete_=True,
    type='mmrazor.sub_model',
    cfg=dict(
        type='ImageClassifier',
        data_preprocessor=_base_.preprocess_cfg,
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=12),
    ),
    fix_subnet='found.yaml',
    init_cfg=dict(type='Pretrained', checkpoint='a.pth'),
)
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=7)
"""
SHUFFLENET = """
norm_cfg = dict(type='BN', eps=0.01)
_STAGE_MUTABLE = dict(
    type='mmrazor.OneHotMutableOP',
    fix_threshold=0.25,
    candidates=dict(
        shuffle_5x5=dict(type='ShuffleBlock', kernel_size=5, norm_cfg=norm_cfg),
        shuffle_xception=dict(type='mmrazor.ShuffleXception', norm_cfg=norm_cfg),
    ),
)
arch_setting = [
    [64, 4, _STAGE_MUTABLE],
    [160, 4, _STAGE_MUTABLE],
    [320, 8, _STAGE_MUTABLE],
    [640, 4, _STAGE_MUTABLE],
]
nas_backbone = dict(
    type='mmrazor.SearchableShuffleNetV2',
    widen_factor=0.1,
    arch_setting=arch_setting,
    norm_cfg=norm_cfg,
)
"""
IMAGENET = """
data_preprocessor = dict(
    type='mmcls.ClsDataPreprocessor',
    mean=[51.0, 102.0, 153.0],
    std=[25.5, 51.0, 102.0],
    to_rgb=True,
)
train_pipeline = [
    dict(type='mmcls.LoadImageFromFile'),
    dict(type='mmcls.RandomResizedCrop', scale=224, crop_ratio_range=(0.1, 1.0)),
    dict(type='mmcls.PackClsInputs'),
]
test_pipeline = [
    dict(type='mmcls.LoadImageFromFile'),
    dict(type='mmcls.ResizeEdge', scale=256, edge='short'),
    dict(type='mmcls.CenterCrop', crop_size=224),
    dict(type='mmcls.PackClsInputs'),
]
dataset = dict(type='mmcls.ImageNet', data_root='data/imagenet')
train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(
        **dataset, ann_file='meta/train.txt', data_prefix='train', pipeline=train_pipeline
    ),
    sampler=dict(type='mmcls.DefaultSampler', shuffle=True),
    persistent_workers=True,
)
val_dataloader = dict(
    batch_size=128,
    dataset=dict(
        **dataset, ann_file='meta/val.txt', data_prefix='val', pipeline=test_pipeline
    ),
)
val_evaluator = dict(type='mmcls.Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
optim_wrapper = dict(
    constructor='mmrazor.SeparateOptimWrapperConstructor',
    architecture=dict(
        optimizer=dict(type='mmcls.SGD', lr=0.5), paramwise_cfg=dict(bias_decay_mult=0.0)
    ),
    mutator=dict(optimizer=dict(type='mmcls.Adam', lr=0.001, betas=(0.5, 0.999))),
)
param_scheduler = dict(
    architecture=[
        dict(type='mmcls.LinearLR', end=5, start_factor=0.2),
        dict(type='mmcls.CosineAnnealingLR', T_max=160, begin=85, end=240),
    ],
    mutator=[],
)
train_cfg = dict(by_epoch=True, max_epochs=240)
"""
DSNAS = """
_base_ = ['mmrazor::imagenet.py', 'mmrazor::shufflenet.py', 'mmcls::_base_/default_runtime.py']
supernet = dict(
    _scope_='mmcls',
    type='ImageClassifier',
    data_preprocessor=_base_.data_preprocessor,
    backbone=_base_.nas_backbone,
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=7,
        in_channels=1024,
        loss=dict(
            type='LabelSmoothLoss', num_classes=7, label_smooth_val=0.1, mode='original'
        ),
    ),
)
model = dict(
    type='mmrazor.DSNAS',
    architecture=supernet,
    mutator=dict(type='mmrazor.NasMutator'),
    pretrain_epochs=15,
    finetune_epochs=85,
)
randomness = dict(seed=48, diff_rank_seed=True)
"""
DSNAS_SUBNET = """
_base_ = ['./dsnas.py']
model = dict(
    _scope_='mmrazor',
    type='sub_model',
    cfg=_base_.supernet,
    fix_subnet=dict(a=dict(chosen='b')),
)
"""


@pytest.fixture
def checkout(tmp_path):
    """Return the folder of configs as a checkout has them, with a few images beside."""
    root = tmp_path / 'data'
    batches = root / 'cifar-10-batches-bin'
    batches.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for name in [*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch']:
        pixels = torch.randint(256, (20, PIXELS), generator=generator, dtype=torch.uint8)
        rows = [bytes(row.tolist()) for row in pixels]
        (batches / f'{name}.bin').write_bytes(binary_batch(rows, [i % 10 for i in range(20)]))
    folder = tmp_path / 'checkout' / 'configs'
    texts = {
        '_base_/settings/cifar10_darts.py': SETTINGS.format(root=str(root)),
        '_base_/nas_backbones/darts.py': DARTS_BACKBONE,
        'nas/darts.py': DARTS,
        'nas/darts_subnet.py': DARTS_SUBNET,
        'nas/dsnas.py': DSNAS,
        'nas/dsnas_subnet.py': DSNAS_SUBNET,
        'imagenet.py': IMAGENET,
        'shufflenet.py': SHUFFLENET,
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def written(text, tmp_path):
    """Return a migrated config, read from a file."""
    path = tmp_path / 'migrated.py'
    path.write_text(text)
    return load_config(path)


def changed(path, *pairs):
    """Replace parts of a config, which have to be there."""
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_darts_migrates_and_searches(checkout, tmp_path, capsys):
    out, found = tmp_path / 'ours.py', tmp_path / 'found'
    assert cli.main(['migrate', str(checkout / 'nas' / 'darts.py'), '--out', str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f'Wrote {out}\n'
    assert captured.err.replace('note: ', '').splitlines() == [
        "left out: 'mmcls::_base_/default_runtime.py' was not found; the runtime is that "
        'of ours',
        'assumed: edges have weights of their own (with_arch_param=True), as there; DARTS '
        'ranks them by their operations',
        'assumed: the norm of the stem has a scale and a shift, as in DARTS',
        'assumed: images are normalized by `preprocess_cfg`, which no model of this config '
        'reads',
        'assumed: 40% of the images of every class train the architecture, all others the '
        'weights; there `indices` say which',
        'not taken over: val_dataloader (a search is not validated)',
        "assumed: the schedule moves the architecture's learning rate as well, as there; "
        'DARTS keeps it (param_scheduler=dict(architecture=[...], mutator=[]))',
        'not taken over: unheard of the hook SearchSubnetHook',
        'not taken over: the hook EMAHook',
        'not taken over: model_wrapper_cfg (gradients are averaged without a wrapper)',
        'assumed: "zero" is never kept (ignore_choices); MMRazor 1.0 may keep it',
    ]
    assert cli.main(['search', str(out), '--work-dir', str(found)]) == 0, capsys.readouterr()
    subnet = load_subnet(found / 'subnet.yaml')
    assert {space_id[:9] for space_id in subnet} == {'normal_n2', 'reduce_n2'}
    assert len(subnet['normal_n2']['chosen']) == 1
    keys = weights_of(found)
    assert keys['mutator.arch_params.normal_n2'].shape == (2,)
    assert keys['mutator.arch_params.normal_n2_p0'].shape == (3,)


def test_darts_in_our_terms(checkout, tmp_path):
    text, _ = migrate(checkout / 'nas' / 'darts.py')
    cfg = written(text, tmp_path)
    train, arch = cfg.train_dataloader, cfg.train_cfg.arch_dataloader
    assert (train.batch_size, train.num_workers, train.dataset.split) == (25, 0, 'weights')
    assert (arch.dataset.split, arch.dataset.arch_fraction) == ('arch', 0.4)
    assert train.dataset.arch_fraction == 0.4
    assert train.dataset.root == str(tmp_path / 'data')
    assert [dict(step) for step in train.dataset.transform] == [
        {'type': 'RandomCrop', 'padding': 4},
        {'type': 'RandomHorizontalFlip', 'p': 0.25},
        {'type': 'Normalize', 'mean': [0.2, 0.4, 0.6], 'std': [0.1, 0.2, 0.4]},
    ]
    assert [step.type for step in cfg.test_dataloader.dataset.transform] == ['Normalize']
    assert not cfg.test_dataloader.sampler.shuffle
    assert 'val_dataloader' not in cfg
    assert cfg.optim_wrapper.constructor == 'SeparateOptimWrapperConstructor'
    assert cfg.optim_wrapper.mutator.optimizer == {
        'type': 'Adam',
        'lr': 3e-4,
        'weight_decay': 1e-3,
    }
    assert cfg.param_scheduler[0].type == 'CosineAnnealingLR'
    assert cfg.custom_hooks == [{'type': 'SearchSubnetHook', 'by_epoch': True, 'interval': 10}]
    # The order of the choices is the order of their logits.
    choices = cfg.model.mutator.placeholder_mapping.node.choices
    assert list(choices) == ['zero', 'skip_connect', 'avg_pool_3x3']
    model = build_model(cfg, cfg.model)
    assert model.search_options['hypergradient'] == 'finite_difference'
    assert type(model.mutator).__name__ == 'DartsMutator'
    assert model.architecture.model.backbone.base_channels == 2


def test_what_was_found_by_darts(checkout, tmp_path):
    text, notes = migrate(checkout / 'nas' / 'darts_subnet.py')
    cfg = written(text, tmp_path)
    assert cfg.model.retraining
    assert cfg.train_cfg == {'by_epoch': True, 'max_epochs': 7}
    assert cfg.train_dataloader.dataset.split == 'train'
    assert 'arch_fraction' not in cfg.train_dataloader.dataset
    assert cfg.train_dataloader.dataset.transform[-1].type == 'Normalize'
    assert cfg.val_dataloader.dataset.split == 'test'
    assert cfg.optim_wrapper.optimizer.type == 'SGD'
    assert cfg.get('custom_hooks') is None
    assert 'not taken over: model.init_cfg' in notes
    assert [n for n in notes if "'found.yaml' is given to `retrain`" in n]
    assert not [n for n in notes if 'preprocess_cfg' in n or 'stem' in n]
    subnet = {
        f'{kind}_n2{end}': {'chosen': [choice]}
        for kind in ('normal', 'reduce')
        for end, choice in (('_p0', 'skip_connect'), ('_p1', 'skip_connect'))
    }
    subnet |= {f'{kind}_n2': {'chosen': [f'{kind}_n2_p1']} for kind in ('normal', 'reduce')}
    model = build_model(cfg, {**cfg.model, 'mutable_cfg': subnet})
    assert not model.searching
    with torch.no_grad():
        assert model.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_dsnas(checkout, tmp_path):
    text, notes = migrate(checkout / 'nas' / 'dsnas.py')
    cfg = written(text, tmp_path)
    assert cfg.train_cfg == {
        'type': 'BilevelTrainLoop',
        'max_epochs': 85,
        'arch_dataloader': None,
    }
    assert cfg.train_dataloader.num_workers == 4
    assert cfg.train_dataloader.dataset == {
        'type': 'ImageFolder',
        'split': 'train',
        'root': 'data/imagenet/train',
        'ann_file': 'data/imagenet/meta/train.txt',
        'transform': [
            {'type': 'RandomResizedCrop', 'size': 224, 'scale': (0.1, 1.0)},
            {'type': 'Normalize', 'mean': [0.2, 0.4, 0.6], 'std': [0.1, 0.2, 0.4]},
        ],
    }
    assert [step.type for step in cfg.test_dataloader.dataset.transform] == [
        'ResizeShortEdge',
        'CenterCrop',
        'Normalize',
    ]
    assert cfg.optim_wrapper.architecture.paramwise_cfg == {'bias_decay_mult': 0.0}
    assert [s.type for s in cfg.param_scheduler.architecture] == ['LinearLR']
    assert cfg.randomness == {'seed': 48, 'diff_rank_seed': True}
    assert 'not taken over: CosineAnnealingLR from epoch 85 on' in notes
    assert [n for n in notes if 'flops_constraints=300.0; see ExpectedCost' in n]
    model = build_model(cfg, cfg.model)
    assert (model.mutator.fix_threshold, len(model.mutator.arch_params)) == (0.25, 20)
    assert model.search_options['single_level']
    assert model.search_options['arch_start_epoch'] == 15
    assert model.architecture.model.backbone.layers[3][2].choice_names == (
        'shuffle_5x5',
        'shuffle_xception',
    )
    with torch.no_grad():
        assert model.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_what_was_found_by_dsnas(checkout, tmp_path):
    text, notes = migrate(checkout / 'nas' / 'dsnas_subnet.py')
    cfg = written(text, tmp_path)
    assert cfg.model.retraining
    assert 'single_level' not in cfg.model
    assert cfg.train_cfg.max_epochs == 240
    assert [s.type for s in cfg.param_scheduler] == ['LinearLR', 'CosineAnnealingLR']
    assert not [n for n in notes if 'model.' in n]
    subnet = {
        space_id: {'chosen': ['shuffle_5x5']}
        for space_id in build_model(cfg, {**cfg.model, 'retraining': False}).mutator.arch_params
    }
    model = build_model(cfg, {**cfg.model, 'mutable_cfg': subnet})
    assert not model.searching


def test_configs_of_v0_2_0_are_printed(tmp_path, capsys):
    path = CONFIGS / 'mmrazor_v0_2_0' / 'darts_supernet.py'
    assert cli.main(['migrate', str(path)]) == 0
    captured = capsys.readouterr()
    ours = written(captured.out, tmp_path)
    assert ours.to_dict() == load_config(path).to_dict()
    assert 'note: not taken over: data.workers_per_gpu' in captured.err


def test_bases_of_packages(checkout, tmp_path):
    here = tmp_path / 'elsewhere' / 'dsnas.py'
    here.parent.mkdir()
    here.write_text(DSNAS)
    with pytest.raises(ConfigError, match=r"base 'mmrazor::imagenet.py' of .*--base-dir"):
        migrate(here)
    text, _ = migrate(here, str(checkout))
    assert text == migrate(checkout / 'nas' / 'dsnas.py')[0]
    # Above the configs are their own; those of another package are not looked for there.
    with pytest.raises(ConfigError, match=r"base 'mmdet::imagenet.py' of .* was not found"):
        migrate(changed(checkout / 'nas' / 'dsnas.py', ('mmrazor::imag', 'mmdet::imag')))
    runtime = checkout.parent / 'mmcls' / 'configs' / '_base_' / 'default_runtime.py'
    runtime.parent.mkdir(parents=True)
    runtime.write_text(
        "default_hooks = dict(timer=dict(type='IterTimerHook'), checkpoint=dict(\n"
        "    type='CheckpointHook', interval=3), visualization=dict(type='mmcls.VisHook'))\n"
        "visualizer = dict(type='mmcls.ClsVisualizer')\n"
    )
    text, notes = migrate(checkout / 'nas' / 'darts.py')
    assert written(text, tmp_path).default_hooks == {
        'checkpoint': {'type': 'CheckpointHook', 'interval': 3}
    }
    assert 'not taken over: visualizer' in notes
    assert not [n for n in notes if 'left out' in n]
    with pytest.raises(ConfigError, match=r"--base-dir to be a directory, but got 'nowhere'"):
        migrate(here, 'nowhere')


@pytest.mark.parametrize(
    ('name', 'pairs', 'message'),
    [
        ('nas/darts.py', [("'mmrazor.Darts'", "'mmrazor.BigNAS'")], r"of the type 'BigNAS'"),
        ('nas/darts.py', [('NasMutator', 'DartsMutator')], r'NasMutator, but got .*DartsMut'),
        ('nas/darts.py', [("='ImageClassifier'", "='SegModel'")], r"but got 'SegModel'"),
        ('nas/darts.py', [('backbone=_base_.nas_backbone', 'a=1')], r'a backbone, but got .*1'),
        (
            'nas/darts.py',
            [('model = dict(', 'model = [')],
            r'valid Python',
        ),
        ('nas/darts.py', [('unroll=True', 'unroll=1 / 0')], r'ZeroDivisionError'),
        ('nas/darts.py', [('_base_ = [', '_base_ = [str(1), ')], r'list of paths.*str\(1\)'),
        ('nas/darts_subnet.py', [('./darts.py', './bart.py')], r"'./bart.py' of .* missing"),
        ('nas/darts_subnet.py', [('./darts.py', './darts_subnet.py')], r'a base of itself'),
        (
            'nas/darts_subnet.py',
            [('max_epochs', 'max_iters')],
            r"max_epochs, but got .*iters': 7",
        ),
        (
            '_base_/nas_backbones/darts.py',
            [("'mmrazor.DartsZero'", "'mmrazor.DartsOne'")],
            r"candidate 'zero' is a 'DartsOne'.*did you mean",
        ),
        (
            '_base_/nas_backbones/darts.py',
            [('DiffMutableOP', 'OneShotMutableOP')],
            r'one of DiffMutableOP, OneHotMutableOP with `candidates`, but got .*OneShotMut',
        ),
        (
            '_base_/nas_backbones/darts.py',
            [('DiffChoiceRoute', 'Route')],
            r"DiffChoiceRoute, GumbelChoiceRoute, but got .*'Route'",
        ),
        (
            '_base_/nas_backbones/darts.py',
            [("'mmrazor.DartsBackbone'", "'mmrazor.AttentiveMobileNetV3'")],
            r"backbone 'AttentiveMobileNetV3' cannot be migrated",
        ),
        (
            '_base_/settings/cifar10_darts.py',
            [('mmcls.CIFAR10', 'mmcls.CIFAR100')],
            r"data set 'mmcls.CIFAR100' of train_dataloader cannot be migrated.*CIFAR10",
        ),
        (
            '_base_/settings/cifar10_darts.py',
            [('indices=20000', 'indices=50000')],
            r'be some of 50000 images, but got 50000',
        ),
        (
            '_base_/settings/cifar10_darts.py',
            [('train_dataloader = ', 'other = ')],
            r'`train_dataloader` to be a loader with a `dataset`, but got None',
        ),
        (
            '_base_/settings/cifar10_darts.py',
            [('optim_wrapper = dict(', 'optim_wrapper = 3\nother = dict(')],
            r'`optim_wrapper` to be a dict, but got 3',
        ),
        (
            '_base_/settings/cifar10_darts.py',
            [('    architecture=dict(', '    backbone=dict(')],
            r'one for the `architecture` .* but got constructor, backbone, mutator',
        ),
    ],
)
def test_what_cannot_be_migrated(checkout, name, pairs, message, capsys):
    changed(checkout / name, *pairs)
    shown = name if name.startswith('nas') else 'nas/darts.py'
    with pytest.raises(ConfigError, match=message):
        migrate(checkout / shown)
    assert cli.main(['migrate', str(checkout / shown)]) == 2
    complaint(capsys)


def test_other_channels_cannot_be_migrated(checkout):
    changed(checkout / 'shufflenet.py', ('[160, 4,', '[128, 4,'))
    with pytest.raises(ConfigError, match=r'the same choices in all stages, but got .*128, 4'):
        migrate(checkout / 'nas' / 'dsnas.py')


def test_other_forms_of_the_same(checkout, tmp_path):
    settings = checkout / '_base_' / 'settings' / 'cifar10_darts.py'
    changed(
        settings,
        (', indices=-30000', ''),
        ('preprocess_cfg', 'unused'),
        ("dict(type='mmcls.PackClsInputs'),", "dict(type='mmcls.Rotate', angle=3),"),
    )
    changed(
        checkout / '_base_' / 'nas_backbones' / 'darts.py',
        ("DiffChoiceRoute', with_arch_param=True", "GumbelChoiceRoute', tau=0.5, hard=False"),
        ('DiffMutableOP', 'OneHotMutableOP'),
    )
    groups = "NasMutator', custom_groups=[['a', 'b']]"
    changed(checkout / 'nas' / 'darts.py', ("NasMutator'", groups))
    text, notes = migrate(checkout / 'nas' / 'darts.py')
    cfg = written(text, tmp_path)
    assert cfg.train_dataloader.dataset.split == 'train'
    assert cfg.train_cfg.arch_dataloader.dataset.split == 'train'
    assert cfg.model.mutator.type == 'DSNASMutator'
    assert cfg.model.mutator.placeholder_mapping.node_edge.to_dict() == {
        'type': 'GumbelEdge',
        'num_chosen': 1,
        'with_arch_param': False,
        'tau': 0.5,
        'hard': False,
    }
    for said in (
        'not taken over: indices, as only one',
        'assumed: nothing normalizes the images',
        'not taken over: train_dataloader.pipeline: Rotate(angle=3)',
        "not taken over: custom_groups=[['a', 'b']]",
    ):
        assert [note for note in notes if note.startswith(said)], said


def test_subnets(tmp_path, capsys):
    path = tmp_path / 'FOUND.yaml'
    content = {
        'normal_n2': {'chosen': ['normal_n2_p1', 'normal_n2_p0'], 'meta': {'all': 1}},
        'backbone.layers.2.7': {'chosen': 'shuffle_7x7'},
        'architecture.backbone.layer3.0': {'chosen': 'mb_k3e3'},
    }
    path.write_text(yaml.safe_dump(content))
    out = tmp_path / 'ours.yaml'
    assert cli.main(['migrate', str(path), '--out', str(out)]) == 0
    assert load_subnet(out) == {
        'normal_n2': {'chosen': ['normal_n2_p1', 'normal_n2_p0']},
        'stage_2_block_7': {'chosen': ['shuffle_7x7']},
        'stage_2_block_0': {'chosen': ['mb_k3e3']},
    }
    assert capsys.readouterr().err == ''
    path.write_text(yaml.safe_dump({'neck.conv.1': {'chosen': 'wide'}}))
    assert cli.main(['migrate', str(path)]) == 0
    captured = capsys.readouterr()
    assert yaml.safe_load(captured.out) == {'neck/conv/1': {'chosen': ['wide']}}
    assert captured.err.startswith("note: 'neck.conv.1' and other places are written with")


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([1], r'a mapping .* but got list'),
        ({}, r'but got dict'),
        ({'a': {'chosen': []}}, r"for 'a' of a subnet, but got \{'chosen': \[\]\}"),
        ({'a': {'chosen': [3]}}, r'but got .*3'),
        ({'a': 'b'}, r"for 'a' of a subnet, but got 'b'"),
        ({7: {'chosen': 'b'}}, r'for 7 of a subnet'),
        (
            {'backbone.layers.0.1': {'chosen': 'b'}, 'backbone.layer1.1': {'chosen': 'b'}},
            r"space 'stage_0_block_1' twice",
        ),
    ],
)
def test_what_is_no_subnet(content, message, tmp_path):
    with pytest.raises(SubnetError, match=message):
        convert_subnet(content, [])
    path = tmp_path / 'a.yaml'
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SubnetError, match=message):
        migrate(path)


def test_nothing_typed_ends_in_a_traceback(tmp_path, capsys):
    broken = tmp_path / 'broken.yaml'
    broken.write_text('a: [')
    binary = tmp_path / 'binary.py'
    binary.write_bytes(b'\xff\xfe')
    good = tmp_path / 'good.yaml'
    good.write_text('a: {chosen: b}')
    for arguments, said in (
        ([str(tmp_path / 'none.py')], 'There is no file'),
        ([str(tmp_path)], 'There is no file'),
        ([str(broken)], 'is not valid YAML'),
        ([str(binary)], 'cannot be read: UnicodeDecodeError'),
        ([str(good), '--out', str(tmp_path / 'no' / 'where')], 'Cannot write'),
        ([str(good), '--base-dir', str(good)], '--base-dir to be a directory'),
    ):
        assert cli.main(['migrate', *arguments]) == 2
        assert said in complaint(capsys)


def test_a_config_as_text():
    cfg = {
        'short': {'a': (1,), 'b': [], 'c': None, 'd': 57.12 / 255, 'e': "it's"},
        'keys': {'1x': {'a b': True}, 'class': 2},
        'long': [{'type': 'x' * 40, 'mean': [0.1, 0.2]}, {'type': 'y' * 40}],
    }
    text = config_text(cfg)
    read = Config.fromstring(text, '.py').to_dict()
    assert read == {**cfg, 'short': {**cfg['short'], 'd': 0.224}}
    assert list(read['short']) == ['a', 'b', 'c', 'd', 'e']
    assert text.splitlines()[0] == ("""short = dict(a=(1,), b=[], c=None, d=0.224, e="it's")""")
    assert max(map(len, text.splitlines())) <= 96
    with pytest.raises(ConfigError, match=r'but it holds <object'):
        config_text({'a': [object()]})


def test_the_page_about_migration(capsys):
    page = (Path(__file__).parents[2] / 'docs' / 'migration.md').read_text(encoding='utf-8')
    (code,) = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    exec(compile(code, 'migration.md', 'exec'), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed == re.findall(r'print\(.*\)  # (.*)', code)
