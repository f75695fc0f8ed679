"""The digits of scikit-learn: which images are where, and what they look like."""

from __future__ import annotations

import sys

import pytest
import torch

from mmrazor_mutators.datasets import Digits
from mmrazor_mutators.errors import ConfigError, HostError

sklearn_datasets = pytest.importorskip('sklearn.datasets')


def test_train_and_test_together_are_all_images_in_file_order():
    digits = sklearn_datasets.load_digits()
    train, test = Digits('train'), Digits('test')
    assert (len(train), len(test)) == (1442, 355)
    place = {'train': 0, 'test': 0}
    counts, totals = [0] * 10, [int(n) for n in torch.tensor(digits.target).bincount()]
    for image, label in zip(digits.images, digits.target.tolist(), strict=True):
        # The test images of a class begin where four fifths of it are over.
        name = 'test' if counts[label] >= 0.8 * totals[label] else 'train'
        counts[label] += 1
        part = test if name == 'test' else train
        assert int(part.labels[place[name]]) == label
        assert part.images[place[name], 0].tolist() == image.tolist()
        place[name] += 1
    assert place == {'train': 1442, 'test': 355}


def test_a_sample_has_values_from_0_to_1():
    digits = sklearn_datasets.load_digits()
    image, label = Digits('train')[0]
    expected = torch.tensor(digits.images[0] / 16, dtype=torch.float32)[None]
    torch.testing.assert_close(image, expected)
    assert label == 0


def test_the_halves_have_the_same_classes_and_no_common_image():
    weights, arch, train = Digits('weights'), Digits('arch'), Digits('train')
    assert len(weights) == len(arch) == 721
    difference = weights.labels.bincount() - arch.labels.bincount()
    assert difference.abs().max() <= 1
    # No two of the images are alike, so they can be told apart by their pixels.
    halves = [
        tuple(image) for image in torch.cat([weights.images, arch.images]).flatten(1).tolist()
    ]
    assert len(set(halves)) == len(halves)
    assert set(halves) == {tuple(image) for image in train.images.flatten(1).tolist()}


def test_the_statistics_are_those_of_train():
    train = Digits('train')
    values = train.images.double() / 16
    assert values.mean().item() == pytest.approx(Digits.mean[0], abs=5e-5)
    assert values.std(correction=0).item() == pytest.approx(Digits.std[0], abs=5e-5)
    normal = Digits('train', transform={'type': 'Normalize'})
    images = torch.stack([image for image, _ in normal.__getitems__(range(len(normal)))])
    assert abs(images.mean()) < 1e-3
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_more_images_than_there_are():
    with pytest.raises(ConfigError, match=r"at most 34, .* split 'test' of Digits, but got 35"):
        Digits('test', images_per_class=35)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(HostError, match=r'pip install "mmrazor-mutators\[data\]"'):
        Digits('train')
