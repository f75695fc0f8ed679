"""The data of a config of MMRazor v0.2.0, as loaders of our own data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigError, did_you_mean

__all__ = ['loader_of', 'transforms_of']

_DATASETS = {'CIFAR10': 32, 'ImageNet': None}
"""Data sets that are here as well, and the size of their images if they have one."""

_FILES = 'ImageNet'
"""The one that is read from image files."""

_SCORED = 0.04
"""Share of ImageNet on which paths are scored: 50,000 images, as in the paper of SPOS."""

_FORMATTING = ('LoadImageFromFile', 'ImageToTensor', 'ToTensor', 'Collect')
"""Steps of a pipeline that a data set of tensors has no need of."""


def loader_of(
    data: Mapping[str, Any], part: str, split: str, root: Any, notes: list[str]
) -> dict[str, Any]:
    """Return the config of a loader for one part of ``data``.

    Args:
        data: With ``samples_per_gpu`` and the configs of data sets.
        part: ``'train'``, ``'val'`` or ``'test'``.
        split: What our data set calls the images.
        root: Directory of the files; by default ``data_prefix`` of the part.
        notes: Where to note what is not taken over.

    Raises:
        ConfigError: A data set or a batch size that cannot be translated.
    """
    dataset = data.get(part)
    if not isinstance(dataset, Mapping) or 'type' not in dataset:
        raise ConfigError(
            f'Expected data[{part!r}] to be the config of a data set, but got {dataset!r}'
        )
    name = str(dataset['type']).rsplit('.', 1)[-1]
    if name not in _DATASETS:
        raise ConfigError(
            f'The data set {dataset["type"]!r} of data[{part!r}] cannot be translated; '
            f'{did_you_mean(name, _DATASETS)}; or give loaders of your own as '
            '`train_dataloader` and `test_dataloader` in the same file'
        )
    batch_size = data.get('samples_per_gpu', 1)
    known = {'type', 'data_prefix', 'pipeline', 'test_mode'}
    from_files, workers = name == _FILES, data.get('workers_per_gpu') or 0
    if from_files:
        known.add('ann_file')
    elif workers:
        note = 'data.workers_per_gpu (images in memory need no workers)'
        notes += [note] if note not in notes else []
    notes += [f'data.{part}.{key}' for key in dataset if key not in known]
    loader: dict[str, Any] = {
        'batch_size': batch_size,
        'num_workers': workers if from_files else 0,
        'sampler': {'type': 'DefaultSampler', 'shuffle': part == 'train'},
        'collate_fn': {'type': 'default_collate'},
        'dataset': {
            'type': name,
            'split': split,
            'root': dataset.get('data_prefix') if root is None else None,
            'transform': transforms_of(
                dataset.get('pipeline') or [], _DATASETS[name], f'data.{part}.pipeline', notes
            ),
        },
    }
    if from_files:
        # Paths are scored on training images, in the way of those that are tested.
        halved = split in ('weights', 'arch')
        source = data['train'] if halved else dataset
        others = {'ann_file': source.get('ann_file'), 'arch_fraction': halved and _SCORED}
        loader['dataset'].update(type='ImageFolder', root=source.get('data_prefix'))
        loader['dataset'].update({key: value for key, value in others.items() if value})
        loader['persistent_workers'] = bool(workers)
    return loader


def transforms_of(
    pipeline: Sequence[Mapping[str, Any]], size: int | None, where: str, notes: list[str]
) -> list[dict[str, Any]]:
    """Return the transforms of a pipeline of MMClassification 0.x.

    There pixels go from 0 to 255, here from 0 to 1.

    Args:
        pipeline: Its steps.
        size: Of the images, in pixels; ``None`` for files, whose images differ.
        where: Name of the pipeline in the notes.
        notes: Where to note what is not taken over.

    >>> steps = [dict(type='RandomFlip', flip_prob=0.5), dict(type='ToTensor', keys=['img'])]
    >>> transforms_of(steps, 32, 'pipeline', [])
    [{'type': 'RandomHorizontalFlip', 'p': 0.5}]
    """
    transforms = []
    for step in pipeline:
        name = str(step['type']).rsplit('.', 1)[-1]
        if name in _FORMATTING:
            continue
        arguments = {key: value for key, value in step.items() if key != 'type'}
        translate = _STEPS.get(name)
        transform = None if translate is None else translate(dict(arguments), size)
        if transform is None:
            notes.append(f'{where}: {name}({_shown(arguments)})')
        else:
            transforms.append(transform)
    return transforms


def _crop(arguments: dict[str, Any], size: int | None) -> dict[str, Any] | None:
    padding = arguments.get('padding')
    plain = {'size': arguments.get('size'), 'padding': padding}
    defaults = {'pad_if_needed': False, 'pad_val': 0, 'padding_mode': 'constant'}
    fits = {**plain, **defaults, **arguments} == {**plain, **defaults}
    if not fits or plain['size'] not in (size, (size, size), [size, size]):
        return None
    return {'type': 'RandomCrop', 'padding': padding} if isinstance(padding, int) else None


def _flip(arguments: dict[str, Any], size: int | None) -> dict[str, Any] | None:
    if arguments.get('direction', 'horizontal') != 'horizontal':
        return None
    return {'type': 'RandomHorizontalFlip', 'p': arguments.get('flip_prob', 0.5)}


def _normalize(arguments: dict[str, Any], size: int | None) -> dict[str, Any] | None:
    # Images are red, green, blue here.  There those of files are not, before to_rgb=True
    # turns them around, as it does with those of other data sets.
    if arguments.get('to_rgb', True) != (size is None):
        return None
    mean, std = ([value / 255 for value in arguments[key]] for key in ('mean', 'std'))
    return {'type': 'Normalize', 'mean': mean, 'std': std}


def _cutout(arguments: dict[str, Any], size: int | None) -> dict[str, Any] | None:
    shape = arguments.get('shape')
    if not isinstance(shape, int) or arguments.get('pad_val', 128) != 0:
        return None
    always = arguments.get('prob', 0.5) == 1
    return {'type': 'Cutout', 'length': shape} if always else None


def _resized_crop(arguments: dict[str, Any], size: int | None) -> dict[str, Any] | None:
    side = _side_of(arguments.pop('size', None))
    ends = ('scale', 'ratio')
    kept: dict[str, Any] = {key: arguments.pop(key) for key in ends if key in arguments}
    plain = {**_BILINEAR, 'max_attempts': 10, 'efficientnet_style': False}
    if side is None or {**plain, **arguments} != plain:
        return None
    return {'type': 'RandomResizedCrop', 'size': side, **kept}


def _resize(arguments: dict[str, Any], size: int | None) -> dict[str, Any] | None:
    asked = arguments.pop('size', None)
    short = isinstance(asked, (tuple, list)) and len(asked) == 2 and asked[1] == -1
    if not short or {**_BILINEAR, **arguments} != _BILINEAR:
        return None
    return {'type': 'ResizeShortEdge', 'size': asked[0]}


def _center_crop(arguments: dict[str, Any], size: int | None) -> dict[str, Any] | None:
    side = _side_of(arguments.pop('crop_size', None))
    plain = {**_BILINEAR, 'efficientnet_style': False}
    if side is None or {**plain, **arguments} != plain:
        return None
    return {'type': 'CenterCrop', 'size': side}


def _color_jitter(arguments: dict[str, Any], size: int | None) -> dict[str, Any] | None:
    fits = {*arguments} <= {'brightness', 'contrast', 'saturation'}
    return {'type': 'ColorJitter', **arguments} if fits else None


def _side_of(size: Any) -> int | None:
    """Return the side of a square, of which both may be given."""
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    return pair[0] if len(pair) == 2 and pair[0] == pair[1] else None


_BILINEAR = {'interpolation': 'bilinear', 'backend': 'cv2'}

_STEPS = {
    'CenterCrop': _center_crop,
    'ColorJitter': _color_jitter,
    'Cutout': _cutout,
    'Normalize': _normalize,
    'RandomCrop': _crop,
    'RandomFlip': _flip,
    'RandomResizedCrop': _resized_crop,
    'Resize': _resize,
}


def _shown(arguments: Mapping[str, Any]) -> str:
    return ', '.join(f'{key}={value!r}' for key, value in arguments.items())
