"""Mutables that choose among widths and among sizes of a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..builder import MUTABLES
from ..errors import SearchSpaceError
from .value import DifferentiableValue

__all__ = ['DifferentiableChannel', 'DifferentiableKernel', 'crop_mask', 'prefix_masks']


def prefix_masks(widths: Sequence[int], channels: int) -> dict[str, Tensor]:
    """Return ``{name: mask}`` that keep the first channels, each of shape ``(channels,)``.

    >>> prefix_masks([1, 3], 3)
    {'w1': tensor([1., 0., 0.]), 'w3': tensor([1., 1., 1.])}
    """
    counted = torch.arange(channels)
    return {f'w{width}': (counted < width).float() for width in widths}


def crop_mask(size: Sequence[int], largest: Sequence[int]) -> Tensor:
    """Return a mask of the middle of a kernel.

    Args:
        size: Of what is kept, one number per dimension.
        largest: Of the kernel; each is as odd or even as that of ``size``.

    >>> crop_mask([1], [3])
    tensor([0., 1., 0.])
    """
    mask = torch.zeros(*largest)
    inside = tuple(
        slice((whole - part) // 2, (whole + part) // 2)
        for part, whole in zip(size, largest, strict=True)
    )
    mask[inside] = 1
    return mask


@MUTABLES.register_module()
class DifferentiableChannel(DifferentiableValue):
    r"""A relaxed choice of how many channels live: :math:`x_c \sum_k w_k [c < n_k]`.

    FBNetV2 (Wan et al., CVPR 2020), section 3.1.  Let the layer *after* a norm scale its
    weight by this: the norm then sees all channels, and its statistics are those of the
    exported network.

    Args:
        widths: Numbers of channels, from 1 to ``channels``; they are called ``'w16'`` ...
        channels: How many there are.
        masks: ``{name: mask}`` instead, for channels in another order or that are repeated.
        original: By default the widest choice.
        **kwargs: As for :class:`DifferentiableValue`.

    Raises:
        SearchSpaceError: A width that is not a whole number from 1 to ``channels``, or no
            widths.

    >>> channel = DifferentiableChannel(widths=[1, 2], channels=2, space_id='a')
    >>> channel(torch.ones(1, 2), arch_param=torch.zeros(2))
    tensor([[1.0000, 0.5000]])
    """

    def __init__(
        self,
        widths: Sequence[int] = (),
        channels: int | None = None,
        masks: Mapping[str, Tensor | Sequence[Any]] | None = None,
        original: str | None = None,
        **kwargs: Any,
    ) -> None:
        if masks is None:
            masks = self._masks_of(widths, channels, kwargs.get('space_id'))
        if original is None:
            original = max(masks, key=lambda name: float(torch.as_tensor(masks[name]).sum()))
        super().__init__(masks=masks, original=original, **kwargs)

    @staticmethod
    def _masks_of(widths: Any, channels: Any, space_id: Any) -> dict[str, Tensor]:
        whole = isinstance(channels, int) and not isinstance(channels, bool)
        if not whole or channels < 1 or isinstance(widths, str) or not widths:
            raise SearchSpaceError(
                f'In space {space_id!r}: expected `widths` and how many `channels` there are, '
                f'or `masks`, but got widths={widths!r} and channels={channels!r}'
            )
        for width in widths:
            whole = isinstance(width, int) and not isinstance(width, bool)
            if not whole or not 1 <= width <= channels:
                raise SearchSpaceError(
                    f'In space {space_id!r}: expected widths to be whole numbers from 1 to '
                    f'{channels}, but got {list(widths)}'
                )
        return prefix_masks(sorted(set(widths)), channels)


@MUTABLES.register_module()
class DifferentiableKernel(DifferentiableValue):
    r"""A relaxed choice of the size of a kernel: the middle of the largest, shared by all.

    :math:`W \sum_k w_k C_k` where :math:`C_k` is 1 in the middle :math:`k` rows and columns
    (Once-for-all, Cai et al., ICLR 2020, section 3.2, without its learnt transform).

    Args:
        sizes: ``{name: (rows, columns)}``, one number per dimension of the kernel.
        original: Name of the size that the unchanged layer has.
        **kwargs: As for :class:`DifferentiableValue`.

    Raises:
        SearchSpaceError: Sizes of which not all are odd, or all even, in a dimension.

    >>> kernel = DifferentiableKernel({'k1': (1,), 'k3': (3,)}, original='k3', space_id='a')
    >>> kernel(torch.ones(1, 1, 3), arch_param=torch.zeros(2))
    tensor([[[0.5000, 1.0000, 0.5000]]])
    """

    def __init__(
        self, sizes: Mapping[str, Sequence[int]], original: str, **kwargs: Any
    ) -> None:
        largest = tuple(max(sides) for sides in zip(*sizes.values(), strict=True))
        for name, size in sizes.items():
            sides = zip(size, largest, strict=True)
            if any((whole - side) % 2 or side < 1 for side, whole in sides):
                raise SearchSpaceError(
                    f'In space {kwargs.get("space_id")!r}: expected sizes of a kernel that '
                    f'share their middle, all odd or all even, but got {name!r}: {tuple(size)} '
                    f'beside {largest}'
                )
        self.sizes = {name: tuple(size) for name, size in sizes.items()}
        self.largest = largest
        masks = {name: crop_mask(size, largest) for name, size in sizes.items()}
        super().__init__(masks=masks, original=original, dim=2, **kwargs)
