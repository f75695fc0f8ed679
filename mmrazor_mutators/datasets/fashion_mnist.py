"""Fashion-MNIST, from its four IDX files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..registry import DATASETS
from .base import ImageDataset
from .files import data_roots, first_file
from .idx import read_idx

__all__ = ['FashionMNIST']

_HELP = (
    'On Debian and Ubuntu "apt install dataset-fashion-mnist" brings the files; elsewhere '
    'take them from the project zalandoresearch/fashion-mnist and give their directory as '
    '`root`'
)


@DATASETS.register_module()
class FashionMNIST(ImageDataset):
    """70000 grey images of 28x28 pixels in ten classes of clothing.

    Xiao, Rasul & Vollgraf, 2017, https://arxiv.org/abs/1708.07747.  60000 are
    ``train`` and 10000 ``test``, with the same number of every class.  Other
    files of the same form, such as those of MNIST, can be read as well.

    Args:
        split: As for :class:`ImageDataset`.
        root: Directory of the files ``train-images-idx3-ubyte``,
            ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
            ``t10k-labels-idx1-ubyte``, each plain or gzipped (``.gz``).  If
            left out: ``fashion-mnist`` in the directory that the environment
            variable ``MMRAZOR_MUTATORS_DATA`` gives, ``data/fashion-mnist``,
            and ``/usr/share/datasets/fashion-mnist``, in this order.
        **kwargs: As for :class:`ImageDataset`.

    Raises:
        DataError: A file is missing, broken, or does not hold such images.
        ConfigError: As for :class:`ImageDataset`.
    """

    classes = (
        'T-shirt/top',
        'Trouser',
        'Pullover',
        'Dress',
        'Coat',
        'Sandal',
        'Shirt',
        'Sneaker',
        'Bag',
        'Ankle boot',
    )
    mean = (0.2860,)
    std = (0.3530,)

    def __init__(
        self, split: str, root: str | os.PathLike[str] | None = None, **kwargs: Any
    ) -> None:
        self.roots = data_roots(root, 'fashion-mnist', '/usr/share/datasets/fashion-mnist')
        super().__init__(split, **kwargs)

    def load(self, part: str) -> tuple[Tensor, Tensor]:
        images_path, labels_path = self._find('t10k' if part == 'test' else 'train')
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
            raise DataError(
                f'{images_path}: expected uint8 values of the shape (N, 28, 28), '
                f'but got {images.dtype} values of the shape {images.shape}'
            )
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise DataError(
                f'{labels_path}: expected uint8 values of the shape {images.shape[:1]}, a '
                f'label for each image of {images_path.name}, '
                f'but got {labels.dtype} values of the shape {labels.shape}'
            )
        return torch.from_numpy(images)[:, None], torch.from_numpy(labels).to(torch.int64)

    def _find(self, part: str) -> list[Path]:
        """Return the files with the images and labels of ``part``, of one directory."""
        names = [f'{part}-images-idx3-ubyte', f'{part}-labels-idx1-ubyte']
        lacks = []
        for root in self.roots:
            found = {name: first_file(root, (name, f'{name}.gz')) for name in names}
            paths = [path for path in found.values() if path is not None]
            if len(paths) == len(names):
                return paths
            missing = ' and '.join(name for name, path in found.items() if path is None)
            lacks.append(f'{root} has no {missing}' if root.is_dir() else f'{root} is missing')
        raise DataError(
            f'Fashion-MNIST: expected {" and ".join(names)}, plain or gzipped (.gz), in one '
            f'directory, but {"; ".join(lacks)}. {_HELP}'
        )
