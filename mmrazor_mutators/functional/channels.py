"""Channels that take turns, so that every part of them gets its share of what follows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError

__all__ = ['channel_shuffle', 'rejoin_channels']


def _interleave(parts: Sequence[Tensor], channels_last: bool) -> Tensor:
    """Deal the channels of equal parts out in turn, with a single copy."""
    if channels_last:
        # Stacked where the memory is: the result keeps the channels of a pixel together.
        pixels = [part.movedim(1, -1) for part in parts]
        return torch.stack(pixels, dim=-1).flatten(-2).movedim(-1, 1)
    return torch.stack(list(parts), dim=2).flatten(1, 2)


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.stride(1) == 1


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    r"""Deal the channels of groups out in turn.

    ShuffleNet (Zhang et al., CVPR 2018), section 3.1, as PC-DARTS uses it:
    :math:`y_{i g + j} = x_{j C / g + i}` for group :math:`j` of :math:`g` and
    :math:`0 \le i < C / g`.

    Args:
        x: Shape ``(N, C, ...)``; C is a multiple of ``groups``.
        groups: Number of groups, at least 1.

    Returns:
        The shape and the memory format of ``x``.

    Raises:
        InputError: Channels that cannot be divided into that many groups.

    >>> channel_shuffle(torch.arange(6).view(1, 6, 1, 1), 2).flatten()
    tensor([0, 3, 1, 4, 2, 5])
    """
    if groups < 1 or x.shape[1] % groups:
        raise InputError(
            f'Expected channels that can be divided into {groups} groups, but got shape '
            f'{tuple(x.shape)}'
        )
    return _interleave(x.chunk(groups, dim=1), _is_channels_last(x))


def rejoin_channels(mixed: Tensor, bypass: Tensor) -> Tensor:
    r"""Put channels that were worked on beside those that were not, and shuffle them.

    PC-DARTS (Xu et al., ICLR 2020), section 3.1 and the authors' code.  With
    :math:`K = 1 + C_{bypass} / C_{mixed}` it is
    :math:`\mathrm{shuffle}_K([mixed, \mathrm{pool}(bypass)])`: where ``mixed``
    is half as large, the bypass goes through a 2x2 max pooling; an odd size is
    rounded up, as it is by strided operations.

    Args:
        mixed: Shape ``(N, C / K, H', W')``.
        bypass: Shape ``(N, C - C / K, H, W)``.

    Returns:
        Shape ``(N, C, H', W')``, in the memory format of ``bypass``.

    Raises:
        InputError: Channels or sizes that do not fit together.

    >>> mixed, bypass = torch.tensor([[[[-1.0]]]]), torch.arange(1.0, 5).view(1, 1, 2, 2)
    >>> rejoin_channels(mixed, bypass).flatten()
    tensor([-1.,  4.])
    """
    shapes = tuple(mixed.shape), tuple(bypass.shape)
    if mixed.shape[2:] != bypass.shape[2:] and bypass.dim() == 4:
        bypass = F.max_pool2d(bypass, 2, ceil_mode=True)
    if mixed.shape[2:] != bypass.shape[2:] or bypass.shape[1] % mixed.shape[1]:
        raise InputError(
            'Expected the mixed channels to have the size of the bypass, or half of it rounded '
            f'up, and a number that divides its channels, but got shapes {shapes[0]} and '
            f'{shapes[1]}'
        )
    rest = bypass.chunk(bypass.shape[1] // mixed.shape[1], dim=1)
    return _interleave([mixed, *rest], _is_channels_last(bypass))
