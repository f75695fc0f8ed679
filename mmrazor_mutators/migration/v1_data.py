"""Loaders and loops of MMRazor 1.0's configs, in our terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ..errors import ConfigError, did_you_mean
from .v0_data import transforms_of
from .v1_schedule import bare, hooks_of, optimizers_of

__all__ = ['translate_runtime']

_DATASETS = {'CIFAR10': ('CIFAR10', 32, 50_000), 'ImageNet': ('ImageFolder', None, 1_281_167)}
"""What a data set is called here, the size of its images if they have one, and their number."""

_PACKED = ('LoadImageFromFile', 'PackClsInputs', 'PackInputs')
_LEFT_OUT = {
    'auto_scale_lr': None,
    'find_unused_parameter': 'gradients are averaged without a reducer',
    'find_unused_parameters': 'gradients are averaged without a reducer',
    'model_wrapper_cfg': 'gradients are averaged without a wrapper',
    'resume': 'use --resume',
    'visualizer': None,
}


def translate_runtime(
    cfg: Mapping[str, Any],
    preprocessors: Sequence[Any],
    searching: bool,
    search_epochs: int | None,
    notes: list[str],
) -> dict[str, Any]:
    """Return everything but the model.

    Args:
        cfg: The whole config.
        preprocessors: What parts of the model say of normalization.
        searching: Whether this is a search.
        search_epochs: Length of the search where the training goes on after it.
        notes: Where to note what is not taken over and what was assumed.

    Raises:
        ConfigError: A part without a counterpart.
    """
    stated = cfg.get('train_cfg')
    loop: dict[str, Any] = dict(stated) if isinstance(stated, Mapping) else {}
    epochs = search_epochs or loop.get('max_epochs')
    if not isinstance(epochs, int):
        raise ConfigError(f'Expected `train_cfg` to have max_epochs, but got {stated!r}')
    normalize = _normalization(cfg, preprocessors, notes)
    arch = loop.get('mutator_dataloader')
    halves = _halves(cfg.get('train_dataloader'), arch, notes) if arch else {}
    split = 'weights' if halves else 'train'
    train = loader_of(cfg, 'train_dataloader', split, normalize, notes)
    train['dataset'].update(halves)
    ours: dict[str, Any] = {'train_dataloader': train}
    if searching:
        if arch:
            arch = loader_of(
                loop, 'mutator_dataloader', 'arch' if halves else 'train', normalize, notes
            )
            arch['dataset'].update(halves)
        ours['train_cfg'] = {
            'type': 'BilevelTrainLoop',
            'max_epochs': epochs,
            'arch_dataloader': arch or None,
        }
        if cfg.get('val_dataloader'):
            notes.append('not taken over: val_dataloader (a search is not validated)')
    else:
        ours['train_cfg'] = {'by_epoch': True, 'max_epochs': epochs}
    for part in ('test',) if searching else ('val', 'test'):
        if cfg.get(f'{part}_dataloader'):
            loader = loader_of(cfg, f'{part}_dataloader', 'test', normalize, notes)
            ours[f'{part}_dataloader'] = loader
            ours[f'{part}_cfg'], ours[f'{part}_evaluator'] = {}, {'type': 'Accuracy'}
    ours.update(optimizers_of(cfg, searching, epochs, notes))
    ours.update(hooks_of(cfg, searching, notes))
    ours.update({k: cfg[k] for k in ('randomness', 'load_from', 'work_dir') if cfg.get(k)})
    known = {'type', 'by_epoch', 'max_epochs', 'mutator_dataloader'}
    notes += [f'not taken over: train_cfg.{key}' for key in loop if key not in known]
    notes += [
        f'not taken over: {key}{f" ({why})" if why else ""}'
        for key, why in _LEFT_OUT.items()
        if cfg.get(key)
    ]
    return ours


def _normalization(
    cfg: Mapping[str, Any], preprocessors: Sequence[Any], notes: list[str]
) -> dict[str, Any] | None:
    """Return the step that normalizes, wherever the config says it."""
    stated = [*preprocessors, cfg.get('data_preprocessor')]
    found = next((p for p in stated if isinstance(p, Mapping) and p.get('mean')), None)
    if found is None:
        found = cfg.get('preprocess_cfg')
        if not isinstance(found, Mapping) or not found.get('mean'):
            notes.append(
                'assumed: nothing normalizes the images, whose values go from 0 to 1 here, to '
                '255 there'
            )
            return None
        notes.append(
            'assumed: images are normalized by `preprocess_cfg`, which no model of this config '
            'reads'
        )
    return {
        'type': 'Normalize',
        'mean': list(found['mean']),
        'std': list(found['std']),
        'to_rgb': bool(found.get('to_rgb', False)),
    }


def _halves(train: Any, arch: Any, notes: list[str]) -> dict[str, float]:
    """Return which share of the images the architecture is trained on, if they are split."""
    first, second = (
        (loader.get('dataset') or {}).get('indices') if isinstance(loader, Mapping) else None
        for loader in (train, arch)
    )
    if first is None or second is None:
        if first is not None or second is not None:
            notes.append('not taken over: indices, as only one of two loaders has them')
        return {}
    name = str(bare(arch['dataset'].get('type')))
    if name not in _DATASETS:
        return {}  # Nothing of it can be taken over, as its loader will say.
    total = _DATASETS[name][2]
    count = abs(second) if isinstance(second, int) else len(second)
    if not 0 < count < total:
        raise ConfigError(
            f'Expected `indices` of the mutator_dataloader to be some of {total} images, but '
            f'got {second!r}'
        )
    notes.append(
        f'assumed: {count / total:.0%} of the images of every class train the architecture, '
        'all others the weights; there `indices` say which'
    )
    return {'arch_fraction': count / total}


def loader_of(
    cfg: Mapping[str, Any],
    where: str,
    split: str,
    normalize: Mapping[str, Any] | None,
    notes: list[str],
) -> dict[str, Any]:
    """Return the config of a loader.

    Args:
        cfg: What it is an entry of.
        where: Its name there.
        split: What our data set calls the images.
        normalize: The step that normalizes, if there is one.
        notes: Where to note what is not taken over.

    Raises:
        ConfigError: No loader, or a data set without a counterpart.
    """
    loader = cfg.get(where)
    dataset = loader.get('dataset') if isinstance(loader, Mapping) else None
    if not isinstance(loader, Mapping) or not isinstance(dataset, Mapping):
        raise ConfigError(
            f'Expected `{where}` to be a loader with a `dataset`, but got {loader!r}'
        )
    name = bare(dataset.get('type'))
    if name not in _DATASETS:
        raise ConfigError(
            f'The data set {dataset.get("type")!r} of {where} cannot be migrated; '
            f'{did_you_mean(str(name), _DATASETS)}'
        )
    kind, size, _ = _DATASETS[name]
    steps = [_step_of(step) for step in dataset.get('pipeline') or []]
    steps = [step for step in steps if step['type'] not in _PACKED]
    lost: list[str] = []
    transform = transforms_of(
        [*steps, *([normalize] if normalize else [])], size, f'{where}.pipeline', lost
    )
    known = {'type', 'ann_file', 'data_prefix', 'data_root', 'indices', 'pipeline', 'split'}
    lost += [f'{where}.dataset.{k}' for k in dataset if k not in {*known, 'test_mode'}]
    notes += [f'not taken over: {note}' for note in lost]
    from_files, workers = size is None, loader.get('num_workers', 0)
    return {
        'batch_size': loader.get('batch_size', 1),
        # Images in memory need no workers.
        'num_workers': workers if from_files else 0,
        **({'persistent_workers': True} if from_files and workers else {}),
        'sampler': {'type': 'DefaultSampler', 'shuffle': split != 'test'},
        'collate_fn': {'type': 'default_collate'},
        'dataset': {
            'type': kind,
            'split': split,
            **_places(dataset, from_files),
            'transform': transform,
        },
    }


def _places(dataset: Mapping[str, Any], from_files: bool) -> dict[str, Any]:
    """Return where the files of a data set are."""
    root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix') or ''
    if isinstance(prefix, Mapping):
        prefix = prefix.get('img_path') or ''
    places = {'root': str(PurePosixPath(root, prefix))}
    if from_files and dataset.get('ann_file'):
        places['ann_file'] = str(PurePosixPath(root, dataset['ann_file']))
    return places


def _step_of(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step of a pipeline with the names of MMClassification 0.x."""
    arguments = dict(step)
    name = bare(arguments.pop('type', None))
    renamed = {
        'RandomCrop': {'crop_size': 'size'},
        'RandomFlip': {'prob': 'flip_prob'},
        'RandomResizedCrop': {
            'scale': 'size',
            'crop_ratio_range': 'scale',
            'aspect_ratio_range': 'ratio',
        },
    }.get(str(name), {})
    if name == 'ResizeEdge' and arguments.pop('edge', 'short') == 'short':
        name, arguments['size'] = 'Resize', (arguments.pop('scale', None), -1)
    return {'type': name, **{renamed.get(k, k): v for k, v in arguments.items()}}
