"""CIFAR-10 from small files in the real formats, wherever they may lie."""

from __future__ import annotations

import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
from cifar_files import PIXELS, binary_batch, python_batch

from mmrazor_mutators.datasets import CIFAR10
from mmrazor_mutators.errors import DataError

PYTHON = 'cifar-10-batches-py', 'cifar-10-python.tar.gz', '', python_batch
BINARY = 'cifar-10-batches-bin', 'cifar-10-binary.tar.gz', '.bin', binary_batch

forms = pytest.mark.parametrize('form', [PYTHON, BINARY], ids=['python', 'binary'])

TRAIN = [f'data_batch_{number}' for number in range(1, 6)]


def pixels_of(number):
    """Pixels that differ between images and between places."""
    return bytes((number * 31 + place * 7 + place // 256) % 256 for place in range(PIXELS))


def samples():
    """Yield name, rows and labels of each file: four images each, 20 and 4 in all."""
    for index, name in enumerate([*TRAIN, 'test_batch']):
        numbers = range(4 * index, 4 * index + 4)
        yield name, [pixels_of(n) for n in numbers], [n % 10 for n in numbers]


def write_folder(parent, form):
    folder, _, suffix, encode = form
    (parent / folder).mkdir(parents=True)
    for name, rows, labels in samples():
        (parent / folder / f'{name}{suffix}').write_bytes(encode(rows, labels))
    return parent / folder


def write_archive(parent, form, leave_out=()):
    folder, archive, suffix, encode = form
    parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(parent / archive, 'w:gz') as tar:
        # The archive of the site does not hold its batches in their order either.
        for name, rows, labels in reversed(list(samples())):
            if name in leave_out:
                continue
            content = encode(rows, labels)
            member = tarfile.TarInfo(f'{folder}/{name}{suffix}')
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return parent / archive


def check(root):
    train, test = CIFAR10('train', root=root), CIFAR10('test', root=root)
    assert train.images.shape == (20, 3, 32, 32)
    assert train.labels.tolist() == [number % 10 for number in range(20)]
    assert test.labels.tolist() == [0, 1, 2, 3]
    for dataset, index, number in [
        (train, 0, 0),
        (train, 19, 19),
        (train, 6, 6),
        (test, 2, 22),
    ]:
        image, label = dataset[index]
        assert label == number % 10
        for channel, row, column in [(0, 0, 0), (0, 0, 31), (0, 5, 2), (1, 0, 0), (2, 31, 31)]:
            # Red, green, blue; each from left to right, then from top to bottom.
            pixel = pixels_of(number)[1024 * channel + 32 * row + column]
            assert image[channel, row, column] == torch.tensor(pixel / 255)


@forms
def test_folders(tmp_path, form):
    folder = write_folder(tmp_path, form)
    check(tmp_path)
    check(str(folder))


@forms
def test_archives(tmp_path, form):
    write_archive(tmp_path, form)
    check(tmp_path)


def test_batches_saved_anew(tmp_path):
    for name, rows, labels in samples():
        data = np.frombuffer(b''.join(rows), np.uint8).reshape(-1, PIXELS)
        (tmp_path / name).write_bytes(pickle.dumps({'data': data, 'labels': labels}))
    check(tmp_path)


def test_the_places_where_files_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMRAZOR_MUTATORS_DATA', str(tmp_path / 'mine'))
    for parent in ('data', 'data/cifar-10', 'mine/cifar-10'):
        folder = write_folder(tmp_path / parent, BINARY)
        label = len(parent) % 10
        (folder / 'test_batch.bin').write_bytes(binary_batch([pixels_of(0)], [label]))
        assert CIFAR10('test').labels.tolist() == [label]


def test_it_splits_and_normalizes(tmp_path):
    write_folder(tmp_path, BINARY)
    normalize = {'type': 'Normalize'}
    weights, arch = (
        CIFAR10(split, root=tmp_path, transform=normalize) for split in ('weights', 'arch')
    )
    assert sorted(weights.labels.tolist()) == sorted(arch.labels.tolist()) == list(range(10))
    plain = CIFAR10('arch', root=tmp_path)[0][0]
    for channel in range(3):
        expected = (plain[channel] - CIFAR10.mean[channel]) / CIFAR10.std[channel]
        torch.testing.assert_close(arch[0][0][channel], expected)


def test_no_files_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMRAZOR_MUTATORS_DATA', raising=False)
    expected = (
        'cifar-10-batches-py or cifar-10-python.tar.gz or .*, with test_batch inside, .*'
        'data/cifar-10, data, but found none.*cs.toronto.edu'
    )
    with pytest.raises(DataError, match=expected):
        CIFAR10('test')


@forms
def test_a_folder_that_lacks_a_batch(tmp_path, form):
    folder = write_folder(tmp_path, form)
    (folder / f'data_batch_4{form[2]}').unlink()
    with pytest.raises(
        DataError, match=rf'data_batch_4{form[2]} cannot be read: .*No such file'
    ):
        CIFAR10('train', root=tmp_path)
    assert len(CIFAR10('test', root=tmp_path)) == 4


@forms
def test_an_archive_that_lacks_a_batch(tmp_path, form):
    write_archive(tmp_path, form, leave_out=['data_batch_2'])
    expected = rf'{form[1]}: expected it to hold {form[0]}/data_batch_2{form[2]}, but'
    with pytest.raises(DataError, match=expected):
        CIFAR10('train', root=tmp_path)


@pytest.mark.parametrize('content', [b'', b'<html>no such page</html>', None])
def test_a_broken_archive(tmp_path, content):
    archive = write_archive(tmp_path, PYTHON)
    archive.write_bytes(archive.read_bytes()[:-100] if content is None else content)
    with pytest.raises(DataError, match=r'cifar-10-python.tar.gz cannot be read: .+'):
        CIFAR10('train', root=tmp_path)


def good_batch():
    return {b'data': np.zeros((2, PIXELS), np.uint8), b'labels': [3, 4]}


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (lambda batch: [1], r'expected a dict, but got a list'),
        (lambda batch: {b'data': 1, b'lables': 2}, r"its keys are \[b'data', b'lables'\]"),
        (
            lambda batch: batch | {b'data': np.zeros((2, 3071), np.uint8)},
            r'\(N, 3072\), but got uint8 of the shape \(2, 3071\)',
        ),
        (
            lambda batch: batch | {b'data': np.zeros((2, PIXELS), np.float32)},
            r'\(N, 3072\), but got float32 of the shape \(2, 3072\)',
        ),
        (lambda batch: batch | {b'data': [1, 2]}, r'\(N, 3072\), but got list of'),
        (lambda batch: batch | {b'labels': [3]}, r'a list of 2 ints, .* but got \[3\]'),
        (
            lambda batch: batch | {b'labels': [3, 'x']},
            r"a list of 2 ints, .* but got \[3, 'x'\]",
        ),
        (lambda batch: batch | {b'labels': 5}, r'a list of 2 ints, .* but got 5'),
    ],
)
def test_a_pickle_with_something_else(tmp_path, change, match):
    (tmp_path / 'test_batch').write_bytes(pickle.dumps(change(good_batch())))
    with pytest.raises(DataError, match=f'test_batch: .*{match}'):
        CIFAR10('test', root=tmp_path)


def test_a_label_beyond_the_classes(tmp_path):
    (tmp_path / 'test_batch').write_bytes(pickle.dumps(good_batch() | {b'labels': [3, 10]}))
    with pytest.raises(DataError, match=r'10 classes, .* hold the label 10'):
        CIFAR10('test', root=tmp_path)


def test_a_binary_file_that_is_cut_off(tmp_path):
    content = binary_batch([pixels_of(0), pixels_of(1)], [0, 1])
    (tmp_path / 'test_batch.bin').write_bytes(content[:-1])
    with pytest.raises(DataError, match=r'test_batch.bin: .* multiple of 3073 .* but got 6145'):
        CIFAR10('test', root=tmp_path)


def test_a_pickle_that_would_run_code(tmp_path):
    (tmp_path / 'test_batch').write_bytes(b"cos\nsystem\n(S'exit 3'\ntR.")
    with pytest.raises(DataError, match=r'test_batch cannot be read: .*os.system'):
        CIFAR10('test', root=tmp_path)
