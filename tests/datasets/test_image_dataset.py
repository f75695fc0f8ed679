"""What every data set inherits, on a made-up one whose images can be told apart."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from mmrazor_mutators.datasets import ImageDataset, Normalize
from mmrazor_mutators.errors import ConfigError, DataError


class Numbered(ImageDataset):
    """80 + 20 images of two classes; the number of an image is its first pixel."""

    classes = ('even', 'odd')
    mean = (0.5,)
    std = (0.25,)
    max_value = 200

    def load(self, part):
        numbers = torch.arange(80) if part == 'train' else torch.arange(100, 120)
        images = numbers.to(torch.uint8)[:, None, None, None].repeat(1, 1, 3, 4)
        images[..., 1:] = 7
        return images, numbers % 2


class Broken(Numbered):
    """Holds what ``parts`` says, as labels of black images."""

    labels_of = ()

    def load(self, part):
        labels = torch.tensor(self.labels_of, dtype=torch.int64)
        return torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels


def numbers(dataset):
    return dataset.images[:, 0, 0, 0].tolist()


def test_weights_and_arch_share_train_and_no_image():
    weights, arch = Numbered('weights'), Numbered('arch')
    assert len(weights) == len(arch) == 40
    assert weights.labels.bincount().tolist() == arch.labels.bincount().tolist() == [20, 20]
    assert sorted(numbers(weights) + numbers(arch)) == numbers(Numbered('train'))
    assert numbers(Numbered('train')) == list(range(80))
    assert numbers(Numbered('test')) == list(range(100, 120))


def test_the_arch_fraction_moves_the_border():
    weights = Numbered('weights', arch_fraction=0.25)
    arch = Numbered('arch', arch_fraction=0.25)
    assert (len(weights), len(arch)) == (60, 20)
    assert sorted(numbers(weights) + numbers(arch)) == list(range(80))


def test_images_per_class_keeps_the_first_of_each_class():
    assert numbers(Numbered('train', images_per_class=3)) == list(range(6))
    whole = numbers(Numbered('weights'))
    firsts = [[n for n in whole if n % 2 == label][:3] for label in (0, 1)]
    assert numbers(Numbered('weights', images_per_class=3)) == sorted(firsts[0] + firsts[1])


def test_a_sample_is_a_float_image_and_an_int():
    image, label = Numbered('train')[5]
    assert image.dtype == torch.float32
    expected = torch.full((1, 3, 4), 7 / 200)
    expected[..., 0] = 5 / 200
    torch.testing.assert_close(image, expected)
    assert label == 1
    assert type(label) is int


def test_a_batch_is_its_samples():
    dataset = Numbered('train', transform={'type': 'Normalize'})
    for index, (image, label) in zip([3, 79, 0], dataset.__getitems__([3, 79, 0]), strict=True):
        single, same_label = dataset[index]
        torch.testing.assert_close(image, single, rtol=0, atol=0)
        assert label == same_label == index % 2


def test_the_kept_bytes_do_not_change():
    dataset = Numbered(
        'train', transform=[{'type': 'Normalize'}, {'type': 'Cutout', 'length': 2}]
    )
    before = dataset.images.clone()
    dataset.__getitems__(list(range(80)))
    assert torch.equal(dataset.images, before)


def test_indices_behave_as_in_a_list():
    dataset = Numbered('train')
    torch.testing.assert_close(dataset[-1], dataset[79])
    torch.testing.assert_close(dataset[torch.tensor(4)], dataset[4])
    with pytest.raises(IndexError, match='80'):
        dataset[80]
    assert [label for _, label in dataset] == [0, 1] * 40


def test_transforms_are_applied_in_their_order():
    def double(image):
        return 2 * image

    normalize = {'type': 'Normalize', 'mean': [1.0], 'std': [0.5]}
    plain = Numbered('train')[9][0]
    first = Numbered('train', transform=[double, normalize])[9][0]
    last = Numbered('train', transform=[normalize, double])[9][0]
    torch.testing.assert_close(first, (2 * plain - 1) / 0.5)
    torch.testing.assert_close(last, 2 * ((plain - 1) / 0.5))


def test_normalize_takes_the_statistics_of_the_data_set():
    plain = Numbered('train')[9][0]
    ready = Normalize()
    for step in ({'type': 'Normalize'}, ready):
        torch.testing.assert_close(
            Numbered('train', transform=step)[9][0], (plain - 0.5) / 0.25
        )
    assert ready.mean is None
    given = Numbered('train', transform={'type': 'Normalize', 'mean': [0.0], 'std': [2.0]})
    torch.testing.assert_close(given[9][0], plain / 2)


def test_the_config_is_not_changed():
    transform = [{'type': 'RandomCrop', 'padding': 1}, {'type': 'Normalize'}]
    Numbered('train', transform=transform)
    assert transform == [{'type': 'RandomCrop', 'padding': 1}, {'type': 'Normalize'}]


def test_a_seed_repeats_an_epoch():
    crop = {'type': 'RandomCrop', 'padding': 1}
    loader = DataLoader(Numbered('train', transform=crop), batch_size=16, shuffle=True)
    torch.manual_seed(4)
    first = list(loader)
    second = list(loader)
    torch.manual_seed(4)
    again = list(loader)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first[0][0], second[0][0])


def noise(image):
    return torch.rand_like(image)


def test_the_workers_of_a_loader_draw_different_numbers():
    loader = DataLoader(Numbered('train', transform=noise), batch_size=40, num_workers=2)
    (first, _), (second, _) = loader
    assert not torch.equal(first, second)


def test_it_can_be_pickled():
    dataset = Numbered('arch', transform={'type': 'Normalize'}, images_per_class=4)
    again = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(again[3], dataset[3], rtol=0, atol=0)
    assert repr(again) == "Numbered('arch', 8 images of 1x3x4)"


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ({'split': 'val'}, "Numbered has no split 'val'.*train, test, weights, arch"),
        ({'split': 'weigths'}, "'weigths'; did you mean 'weights'"),
        ({'split': ['train']}, r"no split \['train'\]"),
        (
            {'split': 'arch', 'arch_fraction': 1.0},
            '`arch_fraction` .* above 0 and below 1.* 1.0',
        ),
        ({'split': 'arch', 'arch_fraction': 'x'}, "`arch_fraction` to be a number .* 'x'"),
        ({'split': 'train', 'images_per_class': 0}, '`images_per_class` to be an int .* got 0'),
        ({'split': 'test', 'images_per_class': 11}, "at most 10,.* split 'test'.* got 11"),
        ({'split': 'train', 'transform': {'type': 'Blur'}}, "'Blur' is not a registered"),
        ({'split': 'train', 'transform': 'Cutout'}, "transform to be a dict .* 'Cutout'"),
        ({'split': 'train', 'transform': [3]}, 'transform to be a dict .* got int: 3'),
    ],
)
def test_an_argument_that_cannot_be_used(arguments, match):
    with pytest.raises(ConfigError, match=match):
        Numbered(**arguments)


@pytest.mark.parametrize('labels', [(0, 1, 2), (0, -3, 1)])
def test_labels_beyond_the_classes(monkeypatch, labels):
    monkeypatch.setattr(Broken, 'labels_of', labels)
    wrong = next(label for label in labels if label not in (0, 1))
    with pytest.raises(DataError, match=f'2 classes.* hold the label {wrong}'):
        Broken('train')


def test_a_split_without_images(monkeypatch):
    with pytest.raises(DataError, match="split 'train' of Broken holds no image"):
        Broken('train')
    monkeypatch.setattr(Broken, 'labels_of', (0, 1))
    with pytest.raises(DataError, match="split 'arch' of Broken holds no image"):
        Broken('arch', arch_fraction=0.01)
