"""What all data sets share: images in memory, splits, and batches at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import ConfigError, DataError, did_you_mean
from .checks import check_count, check_fraction
from .splits import SPLITS, rank_in_class, spread_over_classes
from .steps import build_transforms
from .transforms import apply_transforms

__all__ = ['ImageDataset']

Step = Mapping[str, Any] | Callable[[Tensor], Tensor]


class ImageDataset(ABC, Dataset[tuple[Tensor, int]]):
    """Base class of the data sets: ``(image, label)`` pairs held in memory.

    An image is a float32 tensor of shape ``(C, H, W)`` with values from 0 to 1,
    unless a transform changes that; a label is an int.  Images are kept as
    bytes, and a loader fetches a batch of them at a time.

    A search trains weights on ``weights`` and architecture parameters on
    ``arch``: two parts of ``train`` that share no image, with the same share of
    every class.  A found network is trained on ``train`` and measured on
    ``test``.  No seed has a part in the division.

    Args:
        split: ``'train'``, ``'test'``, ``'weights'`` or ``'arch'``.
        transform: Config of a transform, or a callable that maps an image to an
            image, or a list of these to be applied in this order.
        arch_fraction: Share of ``train`` that goes to ``arch``, above 0 and
            below 1.  Give the same for ``weights`` and ``arch``.
        images_per_class: Use the first that many images of each class of the
            split, ``None`` for all.

    Attributes:
        images: Shape ``(N, C, H, W)``, uint8, from 0 to ``max_value``.
        labels: Shape ``(N,)``, int64.
        classes: Names of the classes, in the order of the labels.
        mean: Per channel, of the images of ``train`` as values from 0 to 1.
        std: Likewise.

    Raises:
        ConfigError: An unknown split or transform, a number out of range, or
            more images of a class than there are.
        DataError: The files are missing or broken.
    """

    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_value = 255

    def __init__(
        self,
        split: str,
        transform: Step | Sequence[Step] | None = None,
        arch_fraction: float = 0.5,
        images_per_class: int | None = None,
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(
                f'{type(self).__name__} has no split {split!r}; '
                f'{did_you_mean(str(split), SPLITS)}'
            )
        check_fraction('arch_fraction', arch_fraction, ends=False)
        if images_per_class is not None:
            check_count('images_per_class', images_per_class)
        self.split = split
        self.transforms = build_transforms(transform, self)
        self.images, self.labels = self.load('test' if split == 'test' else 'train')
        self._check_labels()
        if split in ('weights', 'arch'):
            self._keep(spread_over_classes(self.labels, arch_fraction) == (split == 'arch'))
        if images_per_class is not None:
            self._keep(rank_in_class(self.labels) < images_per_class)
            self._check_sizes(images_per_class)
        if not len(self):
            raise DataError(f'The split {split!r} of {type(self).__name__} holds no image')

    @abstractmethod
    def load(self, part: str) -> tuple[Tensor, Tensor]:
        """Read all images and labels of one part.

        Args:
            part: ``'train'`` or ``'test'``.

        Returns:
            ``images`` of shape ``(N, C, H, W)``, uint8, and ``labels`` of shape
            ``(N,)``, int64.
        """

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Fetch several samples at once, which is how a ``DataLoader`` asks."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        images = self.images[chosen].to(torch.float32).div_(self.max_value)
        images = apply_transforms(self.transforms, images)
        return list(zip(images.unbind(), self.labels[chosen].tolist(), strict=True))

    def __repr__(self) -> str:
        shape = 'x'.join(map(str, self.images.shape[1:]))
        return f'{type(self).__name__}({self.split!r}, {len(self)} images of {shape})'

    def _check_labels(self) -> None:
        unknown = (self.labels < 0) | (self.labels >= len(self.classes))
        if unknown.any():
            raise DataError(
                f'{type(self).__name__} has {len(self.classes)} classes, numbered from 0, '
                f'but its files hold the label {int(self.labels[unknown][0])}'
            )

    def _keep(self, chosen: Tensor) -> None:
        self.images, self.labels = self.images[chosen], self.labels[chosen]

    def _check_sizes(self, images_per_class: int) -> None:
        counts = self.labels.bincount(minlength=len(self.classes))
        if int(counts.min()) < images_per_class:
            raise ConfigError(
                f'Expected `images_per_class` to be at most {int(counts.min())}, the size of '
                f'the smallest class in the split {self.split!r} of {type(self).__name__}, '
                f'but got {images_per_class}'
            )
