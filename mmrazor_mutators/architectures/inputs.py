"""What a supernet checks before it runs, and what it makes of its arguments."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..errors import ConfigError, InputError, did_you_mean
from ..typing import ConfigDict

__all__ = ['check_images', 'select_candidates']


def check_images(images: Any, channels: int, min_size: int) -> None:
    """Refuse a batch that the network cannot take.

    Args:
        images: Should be floating point, of shape ``(N, channels, H, W)``.
        channels: Channels that the stem reads.
        min_size: Least height and width, so that every reduction halves something.

    Raises:
        InputError: Anything else.

    >>> import torch
    >>> check_images(torch.rand(2, 3, 8, 8), channels=3, min_size=4)
    """
    expected = (
        f'Expected images of shape (N, {channels}, H, W) with N >= 1 and H, W >= {min_size}'
    )
    if not isinstance(images, Tensor):
        raise InputError(f'{expected}, but got {type(images).__name__}')
    shape = tuple(images.shape)
    if (
        len(shape) != 4
        or shape[0] < 1
        or shape[1] != channels
        or shape[2] < min_size
        or shape[3] < min_size
    ):
        hint = ''
        if len(shape) == 4 and shape[1] != channels == shape[3]:
            hint = '; images.permute(0, 3, 1, 2) puts the channels first'
        raise InputError(f'{expected}, but got shape {shape}{hint}')
    if not images.is_floating_point():
        raise InputError(
            f'Expected images of a floating point dtype, but got {images.dtype}; '
            'convert and normalise them first'
        )


def select_candidates(
    defaults: Mapping[str, ConfigDict],
    candidates: Sequence[str] | Mapping[str, ConfigDict] | None,
) -> dict[str, ConfigDict]:
    """Return the candidates of a supernet as ``{name: op config}``, in their order.

    Args:
        defaults: The candidates that the supernet knows by name.
        candidates: ``None`` for all of them, some of their names, or a mapping
            of names to op configs that takes their place.

    Raises:
        ConfigError: An unknown name, a name given twice, no candidate, or one
            without an op config.

    >>> select_candidates({'none': {'type': 'DartsZero'}}, ['none'])
    {'none': {'type': 'DartsZero'}}
    """
    if candidates is None:
        candidates = defaults
    if isinstance(candidates, str) or not isinstance(candidates, (Mapping, Sequence)):
        raise ConfigError(
            'Expected `candidates` to be names of operations or a dict of op configs, '
            f'but got {candidates!r}'
        )
    if not candidates or len(set(candidates)) != len(candidates):
        raise ConfigError(
            'Expected `candidates` to name at least one operation, each of them once, '
            f'but got {candidates!r}'
        )
    if isinstance(candidates, Mapping):
        for name, op_cfg in candidates.items():
            if not isinstance(op_cfg, Mapping) or 'type' not in op_cfg:
                raise ConfigError(
                    f'Expected the candidate {name!r} to be an op config with a "type", '
                    f'but got {op_cfg!r}'
                )
        return {name: copy.deepcopy(op_cfg) for name, op_cfg in candidates.items()}
    for name in candidates:
        if name not in defaults:
            raise ConfigError(
                f'There is no operation {name!r} to choose as a candidate; '
                f'{did_you_mean(str(name), defaults)}'
            )
    return {name: copy.deepcopy(defaults[name]) for name in candidates}
