"""The steps that a config names for the images of a data set, built and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..registry import TRANSFORMS
from .colors import ColorJitter
from .resizing import CenterCrop, RandomResizedCrop, ResizeShortEdge
from .transforms import Cutout, Normalize, RandomCrop, RandomHorizontalFlip, Transform

__all__ = ['build_steps', 'build_transforms']

_KEEP_SIZE = (ColorJitter, Cutout, Normalize, RandomCrop, RandomHorizontalFlip)


def build_steps(steps: Any) -> list[Callable[[Tensor], Tensor]]:
    """Return the transforms that a config names, before they know their data set.

    Args:
        steps: Config of a transform, or a callable that maps an image to an image,
            or a list of these; ``None`` stands for none.

    Raises:
        ConfigError: A step that cannot be built, that is none of images, or that cuts
            more out of an image than the steps before leave of it.

    >>> build_steps({'type': 'CenterCrop', 'size': (32, 32)})
    Traceback (most recent call last):
    ...
    mmrazor_mutators.errors.ConfigError: Expected `size` to be one int, the length of a side \
in pixels, but got 2 values: (32, 32). A valid entry is dict(type='CenterCrop', size=224)
    """
    listed = steps if isinstance(steps, (list, tuple)) else [steps]
    built = [step if callable(step) else _built(step) for step in listed if step is not None]
    _check_sizes(built)
    return built


def build_transforms(steps: Any, dataset: Any) -> list[Callable[[Tensor], Tensor]]:
    """Return the transforms of a data set.

    Args:
        steps: As for :func:`build_steps`.
        dataset: What they belong to; see :meth:`Transform.for_dataset`.

    Raises:
        ConfigError: As for :func:`build_steps`.
    """
    built = build_steps(steps)
    return [s.for_dataset(dataset) if isinstance(s, Transform) else s for s in built]


def _built(step: Any) -> Any:
    part: Any = step.get('type') if isinstance(step, Mapping) else None
    try:
        part = TRANSFORMS.get(part) if isinstance(part, str) else part
        if _works_on_dicts(part):
            raise ConfigError(
                f'{part.__name__} of mmcv works on dicts of results, but a transform of this '
                f'data set is given an image; ours are {", ".join(TRANSFORMS.module_dict)}'
            )
        return TRANSFORMS.build(step)
    except ConfigError as error:
        example = getattr(part, 'example', '') or RandomResizedCrop.example
        raise type(error)(f'{str(error).rstrip(".")}. A valid entry is {example}') from error


def _works_on_dicts(part: Any) -> bool:
    """Whether a class is one of mmcv's transforms, without importing mmcv for that."""
    bases = getattr(part, '__mro__', ())
    return any(
        b.__module__.startswith('mmcv.') and b.__name__ == 'BaseTransform' for b in bases
    )


def _check_sizes(steps: list[Any]) -> None:
    """Refuse a crop of more than the shorter side that a step before it has left."""
    short = None
    for step in steps:
        if isinstance(step, CenterCrop) and short is not None and short < step.size:
            raise ConfigError(
                f'CenterCrop cuts {step.size} pixels out, but the step before it leaves images '
                f'whose shorter side has {short}: ask for at most that many'
            )
        if isinstance(step, (CenterCrop, RandomResizedCrop, ResizeShortEdge)):
            short = step.size
        elif not isinstance(step, _KEEP_SIZE):
            short = None
