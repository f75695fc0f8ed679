"""CIFAR-10, from the files of its own site: pickles or plain bytes, packed or not."""

from __future__ import annotations

import os
import reprlib
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..registry import DATASETS
from .base import ImageDataset
from .files import data_roots, read_bytes
from .unpickle import load_pickle

__all__ = ['CIFAR10']

_PIXELS = 3 * 32 * 32

Arrays = tuple[np.ndarray, np.ndarray]
"""Pixels of shape ``(N, 3072)`` and labels of shape ``(N,)``."""


def _decode_pickle(content: bytes, where: str) -> Arrays:
    """Read a batch of the "python version"; its keys are bytes, or str if saved anew."""
    batch = load_pickle(content, where)
    if not isinstance(batch, dict):
        raise DataError(f'{where}: expected a dict, but got a {type(batch).__name__}')
    data, labels = (batch.get(key.encode(), batch.get(key)) for key in ('data', 'labels'))
    if data is None or labels is None:
        raise DataError(
            f'{where}: expected a dict with "data" and "labels", but its keys are {list(batch)}'
        )
    came = getattr(data, 'dtype', type(data).__name__), getattr(data, 'shape', ())
    if came[0] != np.uint8 or came[1][1:] != (_PIXELS,):
        raise DataError(
            f'{where}: expected "data" to be uint8 values of the shape (N, {_PIXELS}), '
            f'but got {came[0]} of the shape {came[1]}'
        )
    ints = isinstance(labels, list) and all(isinstance(label, int) for label in labels)
    if not ints or len(labels) != len(data):
        raise DataError(
            f'{where}: expected "labels" to be a list of {len(data)} ints, one for each row '
            f'of "data", but got {reprlib.repr(labels)}'
        )
    return data, np.asarray(labels, np.int64)


def _decode_binary(content: bytes, where: str) -> Arrays:
    """Read a batch of the "binary version": a byte with the label, then the pixels."""
    if len(content) % (_PIXELS + 1):
        raise DataError(
            f'{where}: expected a multiple of {_PIXELS + 1} bytes, a label and {_PIXELS} '
            f'values for each image, but got {len(content)}'
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, _PIXELS + 1)
    return rows[:, 1:], rows[:, 0]


class _Form(NamedTuple):
    """One of the forms in which the data set is handed out."""

    folder: str
    archive: str
    suffix: str
    decode: Callable[[bytes, str], Arrays]


_FORMS = (
    _Form('cifar-10-batches-py', 'cifar-10-python.tar.gz', '', _decode_pickle),
    _Form('cifar-10-batches-bin', 'cifar-10-binary.tar.gz', '.bin', _decode_binary),
)


@DATASETS.register_module()
class CIFAR10(ImageDataset):
    """60000 colour images of 32x32 pixels in ten classes.

    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
    chapter 3.  50000 are ``train`` and 10000 ``test``, with the same number of
    every class.  Pickles are read without running what they may contain.

    Args:
        split: As for :class:`ImageDataset`.
        root: Directory that holds ``cifar-10-batches-py``,
            ``cifar-10-python.tar.gz``, ``cifar-10-batches-bin`` or
            ``cifar-10-binary.tar.gz``, or the batches themselves.  If left out:
            ``cifar-10`` in the directory that the environment variable
            ``MMRAZOR_MUTATORS_DATA`` gives, ``data/cifar-10``, and ``data``, in
            this order.
        **kwargs: As for :class:`ImageDataset`.

    Raises:
        DataError: A file is missing, broken, or does not hold such images.
        ConfigError: As for :class:`ImageDataset`.
    """

    classes = (
        'airplane',
        'automobile',
        'bird',
        'cat',
        'deer',
        'dog',
        'frog',
        'horse',
        'ship',
        'truck',
    )
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)

    def __init__(
        self, split: str, root: str | os.PathLike[str] | None = None, **kwargs: Any
    ) -> None:
        self.roots = data_roots(root, 'cifar-10', 'data')
        super().__init__(split, **kwargs)

    def load(self, part: str) -> tuple[Tensor, Tensor]:
        numbered = [f'data_batch_{number}' for number in range(1, 6)]
        batches = self._read(['test_batch'] if part == 'test' else numbered)
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        return (
            torch.from_numpy(images).reshape(-1, 3, 32, 32),
            torch.from_numpy(labels).to(torch.int64),
        )

    def _read(self, names: list[str]) -> list[Arrays]:
        """Return the batches with these names, from the first place that has them."""
        for root in self.roots:
            for form in _FORMS:
                files = [f'{name}{form.suffix}' for name in names]
                contents = _read_files(root, form, files)
                if contents is not None:
                    return [form.decode(content, where) for where, content in contents.items()]
        folders = ' or '.join(f'{form.folder} or {form.archive}' for form in _FORMS)
        raise DataError(
            f'CIFAR-10: expected {folders}, with {", ".join(names)} inside, in one of the '
            f'directories {", ".join(map(str, self.roots))}, but found none. Take an archive '
            f'from https://www.cs.toronto.edu/~kriz/cifar.html and give its directory as `root`'
        )


def _read_files(root: Path, form: _Form, files: list[str]) -> dict[str, bytes] | None:
    """Return the contents by the path of each file, or ``None`` if ``form`` is not there."""
    for folder in (root / form.folder, root):
        if (folder / files[0]).is_file():
            return {str(folder / name): read_bytes(folder / name) for name in files}
    archive = root / form.archive
    return _read_archive(archive, form.folder, files) if archive.is_file() else None


def _read_archive(archive: Path, folder: str, files: list[str]) -> dict[str, bytes]:
    wanted = {f'{folder}/{name}': name for name in files}
    contents = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name in wanted else None
                if file is not None:
                    contents[member.name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f'{archive} cannot be read: {error}') from error
    missing = [name for name in wanted if name not in contents]
    if missing:
        raise DataError(f'{archive}: expected it to hold {", ".join(missing)}, but it does not')
    return {f'{archive}/{name}': contents[name] for name in wanted}
