"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import HostError
from ..registry import DATASETS
from .base import ImageDataset
from .splits import last_of_each_class

__all__ = ['Digits']


@DATASETS.register_module()
class Digits(ImageDataset):
    """1797 grey images of 8x8 pixels in ten classes, bundled with scikit-learn.

    The test set of "Optical Recognition of Handwritten Digits" (Alpaydin &
    Kaynak, UCI Machine Learning Repository, 1998).  scikit-learn names no test
    images of its own, so the last fifth of each class, in file order, is
    ``test``: 355 images, and 1442 are ``train``.  The file goes from writer to
    writer, so most of the test images are by writers that ``train`` does not
    know; that is harder than a random fifth.

    The arguments are those of :class:`ImageDataset`.

    Raises:
        HostError: scikit-learn is not installed.
        ConfigError: As for :class:`ImageDataset`.
    """

    classes = tuple('0123456789')
    mean = (0.3053,)
    std = (0.3755,)
    max_value = 16

    def load(self, part: str) -> tuple[Tensor, Tensor]:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise HostError(
                f'Digits needs scikit-learn, which cannot be imported here ({error}). '
                f'Install it with: pip install "mmrazor-mutators[data]"'
            ) from error
        digits = load_digits()
        images = torch.from_numpy(digits.images).to(torch.uint8)[:, None]
        labels = torch.from_numpy(digits.target).to(torch.int64)
        chosen = last_of_each_class(labels, parts=5) == (part == 'test')
        return images[chosen], labels[chosen]
