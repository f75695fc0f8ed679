"""Image files in folders, such as those of ImageNet."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import ConfigError, DataError, HostError, NASError, did_you_mean
from ..registry import DATASETS
from .checks import check_fraction
from .splits import SPLITS, spread_over_classes
from .steps import build_transforms
from .transforms import apply_transforms

__all__ = ['ImageFolder']

_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.webp')
_FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'WEBP')
"""What a file may hold, whatever its name: no format that Pillow hands to other programs."""


@DATASETS.register_module()
class ImageFolder(Dataset[tuple[Tensor, int]]):
    """``(image, label)`` pairs of the image files below a folder.

    An image is a float32 tensor of shape ``(3, H, W)``, red, green and blue, with
    values from 0 to 1, unless a transform changes that; a label is an int.  Files
    are read when they are asked for, so give a loader workers, and crop images to
    one size in ``transform``.

    Args:
        root: The folder.
        split: ``'train'`` or ``'test'`` for all of its images (which of them it is
            the folder says), ``'weights'`` or ``'arch'`` for one of two parts that
            share no image, with the same share of every class.
        transform: As for :class:`ImageDataset`.
        ann_file: A file with a line ``path label`` for each image, paths being
            below ``root``.  By default each folder in ``root`` is a class, numbered
            in the order of their names.
        arch_fraction: Share of the images that goes to ``arch``, above 0 and below
            1.  Give the same for ``weights`` and ``arch``.

    Attributes:
        paths: Of the images, below ``root``.
        labels: Shape ``(N,)``, int64.
        classes: Names of the folders, or with ``ann_file`` the labels as text.
        mean: Of the images of ImageNet, for :class:`Normalize`.
        std: Likewise.

    Raises:
        ConfigError: An unknown split or transform, or a number out of range.
        DataError: A folder or file that is missing or broken.
        HostError: Pillow is not installed.
    """

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = 'train',
        transform: Any = None,
        ann_file: str | os.PathLike[str] | None = None,
        arch_fraction: float = 0.5,
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(
                f'ImageFolder has no split {split!r}; {did_you_mean(str(split), SPLITS)}'
            )
        check_fraction('arch_fraction', arch_fraction, ends=False)
        _require_pillow()
        self.root = Path(root).expanduser()
        self.split = split
        self.transforms: list[Callable[[Tensor], Tensor]] = build_transforms(transform, self)
        if not self.root.is_dir():
            raise DataError(f'There is no folder {str(self.root)!r} with images')
        if ann_file is None:
            self.classes, names, numbers = _find(self.root)
        else:
            names, numbers = _read_list(Path(ann_file).expanduser())
            self.classes = tuple(map(str, range(max(numbers, default=-1) + 1)))
        labels = torch.tensor(numbers, dtype=torch.int64)
        if split in ('weights', 'arch'):
            chosen = spread_over_classes(labels, arch_fraction) == (split == 'arch')
            names = [name for name, kept in zip(names, chosen.tolist(), strict=True) if kept]
            labels = labels[chosen]
        if not names:
            raise DataError(f'The split {split!r} of {str(self.root)!r} holds no image')
        # One array: a list of a million strings would be copied by every worker.
        self.paths = np.array(names)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.root / str(self.paths[index])
        pixels = _read_image(path)
        image = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32).div_(255)
        try:
            image = apply_transforms(self.transforms, image[None])[0]
        except NASError as error:
            raise type(error)(f'{error} (the image is {str(path)!r})') from error
        return image, int(self.labels[index])

    def __repr__(self) -> str:
        return f'ImageFolder({str(self.root)!r}, {self.split!r}, {len(self)} images)'


def _require_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise HostError(
            f'ImageFolder needs Pillow, which cannot be imported here ({error}). Install it '
            'with: pip install "mmrazor-mutators[data]"'
        ) from error


def _read_image(path: Path) -> Any:
    """Return the pixels of a file, shape ``(H, W, 3)``, upright as its camera noted.

    Raises:
        DataError: A file that is missing, broken, no image, or one of more pixels
            than Pillow reads without a warning.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                # A copy, since the array of an image may not be written to.
                return np.array(ImageOps.exif_transpose(image).convert('RGB'))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f'The image {str(path)!r} has more pixels than the {Image.MAX_IMAGE_PIXELS:,} of '
            'an honest photograph, and may be made to fill the memory: make it smaller, or '
            'leave it out'
        ) from error
    except Exception as error:  # Decoders raise whatever a broken file leads to.
        reason = getattr(error, 'strerror', None) or f'{type(error).__name__}: {error}'
        raise DataError(f'The image {str(path)!r} cannot be read: {reason}') from error


def _find(root: Path) -> tuple[tuple[str, ...], list[str], list[int]]:
    """Return the names of the classes, and path and label of each image."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    names: list[str] = []
    numbers: list[int] = []
    for number, name in enumerate(classes):
        found = sorted(
            os.path.relpath(os.path.join(folder, file), root)
            for folder, _, files in os.walk(root / name)
            for file in files
            if os.path.splitext(file)[1].lower() in _SUFFIXES
        )
        names += found
        numbers += [number] * len(found)
    return tuple(classes), names, numbers


def _read_list(path: Path) -> tuple[list[str], list[int]]:
    """Return path and label of each line of a file."""
    names, numbers = [], []
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'The list of images {str(path)!r} cannot be read: {error}') from error
    for number, line in enumerate(lines, 1):
        name, _, label = line.strip().rpartition(' ')
        if not name or not label.isdecimal():
            raise DataError(
                f'Expected each line of {str(path)!r} to be a path and a label, but line '
                f'{number} is {line!r}'
            )
        names.append(name.strip())
        numbers.append(int(label))
    return names, numbers
