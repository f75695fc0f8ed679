"""Crops and sizes: what makes images of one size out of photographs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, InputError
from ..registry import TRANSFORMS
from .checks import check_count, is_number
from .transforms import Transform

__all__ = ['CenterCrop', 'RandomResizedCrop', 'ResizeShortEdge']

_ATTEMPTS = 10


@TRANSFORMS.register_module()
class RandomResizedCrop(Transform):
    """Cut out a random part of a random shape, and make it a square of a fixed size.

    The augmentation of ImageNet of Szegedy et al., CVPR 2015, section 6.  A part
    that does not fit into the image is drawn anew; after ten of them the middle
    is taken, as much of it as ``ratio`` allows.

    Args:
        size: Side of the square in pixels, at least 1.
        scale: The least and the largest share of the image's area, from above 0
            to 1.
        ratio: The least and the largest width of the part over its height.

    Raises:
        ConfigError: A number outside of its range.

    >>> RandomResizedCrop(size=8)(torch.rand(3, 20, 30)).shape
    torch.Size([3, 8, 8])
    """

    example = "dict(type='RandomResizedCrop', size=224)"

    def __init__(
        self,
        size: int,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size = _check_side(size)
        self.scale = _check_range('scale', scale)
        self.ratio = _check_range('ratio', ratio)
        if self.scale[1] > 1:
            raise ConfigError(f'Expected `scale` to end at 1 or before, but got {scale!r}')

    def apply(self, images: Tensor) -> Tensor:
        return torch.cat([self._cut(image[None]) for image in images])

    def _cut(self, image: Tensor) -> Tensor:
        top, left, height, width = self.draw_part(*image.shape[2:])
        part = image[:, :, top : top + height, left : left + width]
        return _resize(part, self.size, self.size)

    def draw_part(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw ``(top, left, height, width)`` of the part of an image of this size."""
        area = height * width
        logs = [math.log(end) for end in self.ratio]
        for _ in range(_ATTEMPTS):
            share = area * _uniform(*self.scale)
            ratio = math.exp(_uniform(*logs))
            wide, high = round(math.sqrt(share * ratio)), round(math.sqrt(share / ratio))
            if 0 < wide <= width and 0 < high <= height:
                top = int(torch.randint(height - high + 1, ()))
                left = int(torch.randint(width - wide + 1, ()))
                return top, left, high, wide
        wide = max(1, min(width, round(height * self.ratio[1])))
        high = max(1, min(height, round(width / self.ratio[0])))
        return (height - high) // 2, (width - wide) // 2, high, wide


@TRANSFORMS.register_module()
class ResizeShortEdge(Transform):
    """Make the shorter side of an image as long as asked for; its shape stays.

    Args:
        size: Of the shorter side in pixels, at least 1.

    Raises:
        ConfigError: ``size`` is no int or below 1.

    >>> ResizeShortEdge(size=8)(torch.rand(3, 16, 25)).shape
    torch.Size([3, 8, 12])
    """

    example = "dict(type='ResizeShortEdge', size=256)"

    def __init__(self, size: int) -> None:
        self.size = _check_side(size)

    def apply(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        short = min(height, width)
        return _resize(images, self.size * height // short, self.size * width // short)


@TRANSFORMS.register_module()
class CenterCrop(Transform):
    """Cut the middle out, a square.

    Args:
        size: Side of the square in pixels, at least 1.

    Raises:
        ConfigError: ``size`` is no int or below 1.
        InputError: A smaller image.

    >>> CenterCrop(size=1)(torch.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[2.]]])
    """

    example = "dict(type='CenterCrop', size=224)"

    def __init__(self, size: int) -> None:
        self.size = _check_side(size)

    def apply(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if min(height, width) < self.size:
            raise InputError(
                f'CenterCrop expected images of at least {self.size}x{self.size} pixels, but '
                f'got {height}x{width}; put '
                f"dict(type='ResizeShortEdge', size={self.size}) before it"
            )
        top, left = (round((side - self.size) / 2) for side in (height, width))
        return images[:, :, top : top + self.size, left : left + self.size]


def _resize(images: Tensor, height: int, width: int) -> Tensor:
    """Interpolate bilinearly, without smoothing before, as OpenCV does."""
    return F.interpolate(images, (height, width), mode='bilinear', align_corners=False)


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _check_side(size: Any) -> int:
    if isinstance(size, (list, tuple)):
        raise ConfigError(
            'Expected `size` to be one int, the length of a side in pixels, but got '
            f'{len(size)} values: {size!r}'
        )
    return check_count('size', size)


def _check_range(name: str, value: Sequence[float]) -> tuple[float, float]:
    ends = list(value) if isinstance(value, (list, tuple)) else []
    if len(ends) != 2 or not all(map(is_number, ends)) or not 0 < ends[0] <= ends[1]:
        raise ConfigError(
            f'Expected `{name}` to be two ascending numbers above 0, but got {value!r}'
        )
    return float(ends[0]), float(ends[1])
