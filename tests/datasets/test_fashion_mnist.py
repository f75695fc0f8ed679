"""Fashion-MNIST: small files of the same format, and the real ones where they are."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch

from mmrazor_mutators.datasets import FashionMNIST
from mmrazor_mutators.errors import DataError

SYSTEM = Path('/usr/share/datasets/fashion-mnist')

real = pytest.mark.skipif(
    not any(SYSTEM.glob('train-images-idx3-ubyte*')),
    reason='needs the files of the Debian package dataset-fashion-mnist',
)


def images_file(pixels, height=28, width=28):
    header = struct.pack('>4B3i', 0, 0, 8, 3, len(pixels), height, width)
    return header + b''.join(bytes([pixel]) * (height * width) for pixel in pixels)


def labels_file(labels):
    return struct.pack('>4Bi', 0, 0, 8, 1, len(labels)) + bytes(labels)


def write(folder, part='train', images=None, labels=(9, 0, 4), pack=None):
    folder.mkdir(parents=True, exist_ok=True)
    suffix = '.gz' if pack else ''
    images = images_file([3, 200, 255]) if images is None else images
    contents = {'images-idx3': images, 'labels-idx1': labels_file(labels)}
    for name, content in contents.items():
        path = folder / f'{part}-{name}-ubyte{suffix}'
        path.write_bytes(pack(content) if pack else content)
    return folder


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty working directory, and no data anywhere else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMRAZOR_MUTATORS_DATA', raising=False)
    is_dir, is_file = Path.is_dir, Path.is_file
    monkeypatch.setattr(Path, 'is_dir', lambda self: self != SYSTEM and is_dir(self))
    monkeypatch.setattr(Path, 'is_file', lambda self: self.parent != SYSTEM and is_file(self))
    return tmp_path


@pytest.mark.parametrize('pack', [None, gzip.compress])
def test_small_files(tmp_path, pack):
    write(tmp_path, pack=pack)
    write(tmp_path, 't10k', images_file([1]), [7], pack=pack)
    train = FashionMNIST('train', root=tmp_path)
    assert train.images.shape == (3, 1, 28, 28)
    assert [label for _, label in train] == [9, 0, 4]
    torch.testing.assert_close(train[1][0], torch.full((1, 28, 28), 200 / 255))
    (test,) = FashionMNIST('test', root=str(tmp_path))
    torch.testing.assert_close(test[0], torch.full((1, 28, 28), 1 / 255))
    assert test[1] == 7


def test_pixels_keep_their_places(tmp_path):
    values = bytes(range(256)) * 4
    header = struct.pack('>4B3i', 0, 0, 8, 3, 1, 28, 28)
    write(tmp_path, images=header + values[:784], labels=[0])
    image = FashionMNIST('train', root=tmp_path).images[0, 0]
    for row, column in [(0, 0), (0, 27), (1, 0), (13, 5), (27, 27)]:
        assert image[row, column] == (28 * row + column) % 256


def test_the_places_where_files_are_looked_for(nowhere, monkeypatch):
    write(nowhere / 'data/fashion-mnist', images=images_file([1]), labels=[1])
    assert FashionMNIST('train').labels.tolist() == [1]
    write(nowhere / 'mine/fashion-mnist', images=images_file([2]), labels=[2])
    monkeypatch.setenv('MMRAZOR_MUTATORS_DATA', str(nowhere / 'mine'))
    assert FashionMNIST('train').labels.tolist() == [2]
    write(nowhere / 'here', images=images_file([3]), labels=[3])
    assert FashionMNIST('train', root='here').labels.tolist() == [3]


def test_a_place_that_lacks_a_file_is_passed_over(nowhere, monkeypatch):
    write(nowhere / 'data/fashion-mnist', images=images_file([1]), labels=[1])
    half = write(nowhere / 'mine/fashion-mnist', images=images_file([2]), labels=[2])
    (half / 'train-labels-idx1-ubyte').unlink()
    monkeypatch.setenv('MMRAZOR_MUTATORS_DATA', str(nowhere / 'mine'))
    assert FashionMNIST('train').labels.tolist() == [1]


def test_no_files_anywhere(nowhere):
    expected = (
        'expected t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte.*'
        'data/fashion-mnist is missing; /usr/share/datasets/fashion-mnist is missing.*'
        'dataset-fashion-mnist.*zalandoresearch/fashion-mnist.*`root`'
    )
    with pytest.raises(DataError, match=expected):
        FashionMNIST('test')


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / 'train-labels-idx1-ubyte').unlink()
    with pytest.raises(DataError, match=f'but {tmp_path} has no train-labels-idx1-ubyte. On'):
        FashionMNIST('train', root=tmp_path)


@pytest.mark.parametrize(
    ('files', 'match'),
    [
        (
            {'images': images_file([1, 2, 3])[:-1]},
            r'train-images-idx3-ubyte: expected 2352 .* \(3, 28, 28\), but got 2351',
        ),
        (
            {'images': images_file([1, 2, 3], width=27)},
            r'train-images.*of the shape \(N, 28, 28\), but got uint8 .* \(3, 28, 27\)',
        ),
        (
            {'images': labels_file([1, 2, 3])},
            r'train-images.*of the shape \(N, 28, 28\), but got uint8 .* \(3,\)',
        ),
        (
            {'images': b'\0\0\x09' + images_file([1, 2, 3])[3:]},
            r'expected uint8 .*, but got int8 values of the shape \(3, 28, 28\)',
        ),
        (
            {'labels': [1, 2]},
            r'train-labels.* of the shape \(3,\), a label for each image .* but got .* \(2,\)',
        ),
        ({'labels': [1, 10, 2]}, '10 classes, .* hold the label 10'),
    ],
)
def test_files_that_do_not_fit(tmp_path, files, match):
    write(tmp_path, **files)
    with pytest.raises(DataError, match=match):
        FashionMNIST('train', root=tmp_path)


@real
def test_the_real_files():
    train, test = (FashionMNIST(split, root=SYSTEM) for split in ('train', 'test'))
    assert train.labels.bincount().tolist() == [6000] * 10
    assert test.labels.bincount().tolist() == [1000] * 10
    assert train.labels[:8].tolist() == [9, 0, 0, 3, 0, 2, 7, 2]
    assert test.labels[:8].tolist() == [9, 2, 1, 1, 6, 1, 4, 6]
    counts = train.images.flatten().bincount(minlength=256).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * values).sum() / counts.sum()
    variance = (counts * (values - mean) ** 2).sum() / counts.sum()
    assert mean.item() == pytest.approx(FashionMNIST.mean[0], abs=5e-5)
    assert variance.sqrt().item() == pytest.approx(FashionMNIST.std[0], abs=5e-5)


@real
def test_the_halves_of_the_real_files():
    weights, arch = (FashionMNIST(split, root=SYSTEM) for split in ('weights', 'arch'))
    assert weights.labels.bincount().tolist() == arch.labels.bincount().tolist() == [3000] * 10
