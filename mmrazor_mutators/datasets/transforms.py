"""What may happen to an image on its way into a network.

A transform treats each image by itself, but is given a whole batch, because a
batch costs little more than one image.  Its random numbers come from torch
alone, so a seeded run can be repeated and the workers of a loader differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, InputError
from ..registry import TRANSFORMS
from .checks import check_count, check_fraction, is_number

__all__ = [
    'Cutout',
    'Normalize',
    'RandomCrop',
    'RandomHorizontalFlip',
    'Transform',
    'apply_transforms',
]


_MAX_PADDING = 1024


class HasStatistics(Protocol):
    """What a transform may ask of the data set that it belongs to.

    Attributes:
        mean: Of each channel of the training images, from 0 to 1.
        std: The standard deviation of each.
    """

    mean: Sequence[float]
    std: Sequence[float]


class Transform(ABC):
    """Base class of the transforms: called with one image, applied to a batch.

    Attributes:
        example: A valid entry of a config, which errors show.
    """

    example: ClassVar[str] = ''

    @abstractmethod
    def apply(self, images: Tensor) -> Tensor:
        """Transform each image of a batch by itself; the input is left as it is.

        Args:
            images: Shape ``(N, C, H, W)``, values from 0 to 1 if nothing
                before has changed that.
        """

    def __call__(self, image: Tensor) -> Tensor:
        """Transform one image of shape ``(C, H, W)``."""
        return self.apply(image[None])[0]

    def for_dataset(self, dataset: HasStatistics) -> Transform:
        """Return the transform with what it needs to know of ``dataset``."""
        return self


def apply_transforms(
    transforms: Iterable[Callable[[Tensor], Tensor]], images: Tensor
) -> Tensor:
    """Apply one after the other to a batch of shape ``(N, C, H, W)``.

    What is not a :class:`Transform` is called with each image in turn.

    >>> images = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
    >>> apply_transforms([lambda image: image - image.mean()], images).flatten()
    tensor([0., 0.])
    """
    for transform in transforms:
        if isinstance(transform, Transform):
            images = transform.apply(images)
        else:
            images = torch.stack([transform(image) for image in images])
    return images


@TRANSFORMS.register_module()
class RandomCrop(Transform):
    """Pad with black, then cut the old size out at a random place.

    As a shift by up to ``padding`` pixels it is the usual augmentation of
    CIFAR-10 (He et al., CVPR 2016, section 4.2).  Black is 0, so it belongs
    before :class:`Normalize`.

    Args:
        padding: Pixels added on each of the four sides, at least 0.

    Raises:
        ConfigError: ``padding`` is no int, below 0 or above 1024.

    >>> RandomCrop(padding=4)(torch.rand(3, 32, 32)).shape
    torch.Size([3, 32, 32])
    """

    example = "dict(type='RandomCrop', padding=4)"

    def __init__(self, padding: int) -> None:
        self.padding = check_count('padding', padding, minimum=0)
        if padding > _MAX_PADDING:
            raise ConfigError(
                f'Expected `padding` to be at most {_MAX_PADDING} pixels, but got {padding!r}'
            )

    def apply(self, images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        padded = F.pad(images, (self.padding,) * 4)
        top, left = torch.randint(2 * self.padding + 1, (2, n))
        # A view with every window: (N, C, tops, lefts, H, W).
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(n), :, top, left]


@TRANSFORMS.register_module()
class RandomHorizontalFlip(Transform):
    """Mirror left and right.

    Args:
        p: Probability of a flip, from 0 to 1.

    Raises:
        ConfigError: ``p`` is no probability.

    >>> RandomHorizontalFlip(p=1.0)(torch.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[3., 2., 1.]]])
    """

    example = "dict(type='RandomHorizontalFlip', p=0.5)"

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_fraction('p', p, ends=True)

    def apply(self, images: Tensor) -> Tensor:
        flipped = torch.rand(len(images), 1, 1, 1) < self.p
        return torch.where(flipped, images.flip(-1), images)


@TRANSFORMS.register_module()
class Normalize(Transform):
    """Subtract the mean and divide by the standard deviation of each channel.

    Args:
        mean: One number per channel; those of the data set if left out.
        std: Likewise, above 0.

    Raises:
        ConfigError: One is given without the other, they differ in length, or
            a number is not one.
        InputError: An image has another number of channels.

    >>> Normalize(mean=[0.5], std=[0.25])(torch.tensor([[[0.25, 1.0]]]))
    tensor([[[-1.,  2.]]])
    """

    example = "dict(type='Normalize')"

    def __init__(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        self.mean = _per_channel('mean', mean)
        self.std = _per_channel('std', std)
        if (self.mean is None) != (self.std is None) or len(self.mean or ()) != len(
            self.std or ()
        ):
            raise ConfigError(
                f'Expected `mean` and `std` to have one number per channel each, '
                f'but got mean {mean!r} and std {std!r}'
            )
        if self.std is not None and min(self.std) <= 0:
            raise ConfigError(f'Expected `std` to be above 0, but got {std!r}')

    def apply(self, images: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            raise ConfigError(
                'Normalize knows no mean and no std: give both, or use it in the '
                '`transform` of a data set that has its own'
            )
        if images.shape[1] != len(self.mean):
            raise InputError(
                f'Normalize expected images of {len(self.mean)} channels, one for each number '
                f'in mean {self.mean}, but got images of {images.shape[1]}'
            )
        return (images - _column(self.mean)).div_(_column(self.std))

    def for_dataset(self, dataset: HasStatistics) -> Normalize:
        return Normalize(dataset.mean, dataset.std) if self.mean is None else self


@TRANSFORMS.register_module()
class Cutout(Transform):
    """Set a square at a random place to 0.

    DeVries & Taylor, 2017, section 3.2: the centre is anywhere in the image, so
    the part of the square beyond the border is lost.  As in DARTS it comes
    after :class:`Normalize`, where 0 is the mean.

    Args:
        length: Side of the square in pixels, at least 1.

    Raises:
        ConfigError: ``length`` is no int or below 1.

    >>> image = Cutout(length=16)(torch.ones(3, 32, 32))
    >>> 8 * 8 <= int((image[0] == 0).sum()) <= 16 * 16
    True
    """

    example = "dict(type='Cutout', length=16)"

    def __init__(self, length: int) -> None:
        self.length = check_count('length', length)

    def apply(self, images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        hole = self._span(n, height)[:, None, :, None] & self._span(n, width)[:, None, None, :]
        return images.masked_fill(hole, 0.0)

    def _span(self, n: int, size: int) -> Tensor:
        """Mark the pixels of ``n`` random spans along a side of ``size`` pixels."""
        start = torch.randint(size, (n, 1)) - self.length // 2
        position = torch.arange(size)
        return (start <= position) & (position < start + self.length)


def _per_channel(name: str, value: Sequence[float] | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    if not isinstance(value, Sequence) or not value or not all(map(is_number, value)):
        raise ConfigError(f'Expected `{name}` to be a list of numbers, but got {value!r}')
    return tuple(map(float, value))


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None, None]
