"""Each transform against plain loops and indices, and each of its errors."""

from __future__ import annotations

import pickle

import pytest
import torch

from mmrazor_mutators.datasets.transforms import (
    Cutout,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    Transform,
    apply_transforms,
)
from mmrazor_mutators.errors import ConfigError, InputError
from mmrazor_mutators.registry import TRANSFORMS

ALL = [
    {'type': 'RandomCrop', 'padding': 2},
    {'type': 'RandomHorizontalFlip'},
    {'type': 'Normalize', 'mean': [0.1, 0.2, 0.3], 'std': [0.4, 0.5, 0.6]},
    {'type': 'Cutout', 'length': 3},
    {'type': 'CenterCrop', 'size': 4},
    {'type': 'ColorJitter', 'brightness': 0.4, 'contrast': 0.4, 'saturation': 0.4},
    {'type': 'RandomResizedCrop', 'size': 4},
    {'type': 'ResizeShortEdge', 'size': 4},
]


def random_images(n=16, channels=3, height=6, width=5):
    """Images that are nowhere 0, and not square."""
    return torch.rand(n, channels, height, width) + 0.1


def one_by_one(image, height, width, top, left, padding):
    """Crop a padded image by hand: pixel by pixel, 0 where nothing is."""
    out = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row + top - padding, column + left - padding
            if 0 <= y < height and 0 <= x < width:
                out[:, row, column] = image[:, y, x]
    return out


def test_every_crop_is_one_of_the_possible_ones_and_all_occur():
    padding = 1
    images = random_images(n=1).expand(200, -1, -1, -1)
    height, width = images.shape[2:]
    possible = {
        (top, left): one_by_one(images[0], height, width, top, left, padding)
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    }
    seen = set()
    for crop in RandomCrop(padding).apply(images):
        (where,) = [key for key, value in possible.items() if torch.equal(crop, value)]
        seen.add(where)
    assert seen == set(possible)


def test_crops_of_a_batch_follow_the_drawn_places():
    images = random_images()
    n, _, height, width = images.shape
    torch.manual_seed(3)
    crops = RandomCrop(padding=4).apply(images)
    torch.manual_seed(3)
    top, left = torch.randint(9, (2, n))
    expected = [
        one_by_one(image, height, width, int(y), int(x), 4)
        for image, y, x in zip(images, top, left, strict=True)
    ]
    torch.testing.assert_close(crops, torch.stack(expected), rtol=0, atol=0)


def test_a_crop_without_padding_changes_nothing():
    images = random_images()
    torch.testing.assert_close(RandomCrop(0).apply(images), images, rtol=0, atol=0)


def test_flips_mirror_each_image_or_leave_it():
    images = random_images(n=400)
    flipped = RandomHorizontalFlip(p=0.25).apply(images)
    mirrored = images[..., list(range(images.shape[-1]))[::-1]]
    is_same = (flipped == images).flatten(1).all(1)
    is_mirrored = (flipped == mirrored).flatten(1).all(1)
    assert (is_same ^ is_mirrored).all()
    # 100 are expected, with a standard deviation of 8.7.
    assert 65 < int(is_mirrored.sum()) < 135


@pytest.mark.parametrize('p', [0, 1])
def test_a_sure_flip_is_sure(p):
    images = random_images()
    expected = images.flip(-1) if p else images
    torch.testing.assert_close(RandomHorizontalFlip(p).apply(images), expected)


def test_normalize_matches_its_formula():
    images = random_images()
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    out = Normalize(mean, std).apply(images)
    for channel in range(3):
        expected = (images[:, channel] - mean[channel]) / std[channel]
        torch.testing.assert_close(out[:, channel], expected)


@pytest.mark.parametrize('length', [1, 2, 3, 4, 20])
def test_cutout_masks_the_clipped_square_around_the_drawn_centre(length):
    images = random_images(n=50)
    n, _, height, width = images.shape
    torch.manual_seed(5)
    out = Cutout(length).apply(images)
    torch.manual_seed(5)
    rows, columns = torch.randint(height, (n, 1)), torch.randint(width, (n, 1))
    expected = images.clone()
    for image, row, column in zip(expected, rows.flatten(), columns.flatten(), strict=True):
        top, left = int(row) - length // 2, int(column) - length // 2
        for y in range(max(top, 0), min(top + length, height)):
            for x in range(max(left, 0), min(left + length, width)):
                image[:, y, x] = 0
    torch.testing.assert_close(out, expected, rtol=0, atol=0)


def test_cutout_reaches_over_the_border_and_keeps_inside():
    images = torch.ones(2000, 3, 32, 32)
    out = Cutout(length=16).apply(images)
    assert torch.equal(out[:, 0], out[:, 1])
    assert torch.equal(out[:, 0], out[:, 2])
    areas = (out[:, 0] == 0).sum((1, 2))
    # A corner keeps a quarter of the square: 8 x 8; the middle keeps all of it.
    assert areas.min() == 8 * 8
    assert areas.max() == 16 * 16
    # Along a side, 17 of the 32 centres keep all 16 pixels, the others 8, ..., 15.
    per_side = (17 * 16 + sum(range(8, 16)) + sum(range(9, 16))) / 32
    assert areas.double().mean() == pytest.approx(per_side**2, rel=0.03)


@pytest.mark.parametrize('config', ALL, ids=lambda config: config['type'])
class TestEveryTransform:
    def test_one_image_is_a_batch_of_one(self, config):
        transform = TRANSFORMS.build(config)
        images = random_images(n=1)
        torch.manual_seed(7)
        single = transform(images[0])
        torch.manual_seed(7)
        torch.testing.assert_close(single, transform.apply(images)[0], rtol=0, atol=0)

    def test_the_input_is_left_as_it_is(self, config):
        images = random_images()
        before = images.clone()
        TRANSFORMS.build(config).apply(images)
        assert torch.equal(images, before)

    def test_a_seed_repeats_it(self, config):
        transform, images = TRANSFORMS.build(config), random_images()
        torch.manual_seed(9)
        first = transform.apply(images)
        torch.manual_seed(9)
        torch.testing.assert_close(transform.apply(images), first, rtol=0, atol=0)

    def test_it_can_be_pickled(self, config):
        transform = TRANSFORMS.build(config)
        again = pickle.loads(pickle.dumps(transform))
        assert vars(again) == vars(transform)


def test_the_matrix_holds_every_transform():
    ours = {
        name
        for name, part in TRANSFORMS.module_dict.items()
        if issubclass(part, Transform) and part.__module__.startswith('mmrazor_mutators')
    }
    assert ours == {config['type'] for config in ALL}


def test_a_callable_is_given_each_image_in_turn():
    seen = []

    def largest_to_one(image):
        seen.append(image.shape)
        return image / image.max()

    images = random_images(n=4)
    out = apply_transforms([RandomHorizontalFlip(p=1.0), largest_to_one], images)
    expected = images.flip(-1) / images.amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(out, expected)
    assert seen == [images.shape[1:]] * 4


@pytest.mark.parametrize(
    ('config', 'match'),
    [
        (
            {'type': 'RandomCrop', 'padding': -1},
            '`padding` to be an int .* at least 0.* got -1',
        ),
        ({'type': 'RandomCrop', 'padding': 1.5}, '`padding` to be an int .* got 1.5'),
        ({'type': 'RandomCrop', 'padding': True}, '`padding` to be an int .* got True'),
        (
            {'type': 'RandomHorizontalFlip', 'p': 1.5},
            '`p` to be a number from 0 to 1.* got 1.5',
        ),
        ({'type': 'RandomHorizontalFlip', 'p': 'half'}, "`p` to be a number .* got 'half'"),
        ({'type': 'Cutout', 'length': 0}, '`length` to be an int of at least 1, but got 0'),
        ({'type': 'Normalize', 'mean': [0.5]}, r'mean \[0.5\] and std None'),
        ({'type': 'Normalize', 'std': [0.5]}, r'mean None and std \[0.5\]'),
        ({'type': 'Normalize', 'mean': [0.5], 'std': [1, 2]}, r'mean \[0.5\] and std \[1, 2\]'),
        (
            {'type': 'Normalize', 'mean': 0.5, 'std': [1]},
            '`mean` to be a list of numbers.* got 0.5',
        ),
        ({'type': 'Normalize', 'mean': ['x'], 'std': [1]}, r"list of numbers, but got \['x'\]"),
        ({'type': 'Normalize', 'mean': [], 'std': []}, r'`mean` to be a list .* got \[\]'),
        (
            {'type': 'Normalize', 'mean': [0.5], 'std': [0.0]},
            r'`std` to be above 0.* got \[0.0\]',
        ),
        ({'type': 'Cutuot', 'length': 8}, "'Cutuot' is not a registered transform.*'Cutout'"),
        ({'type': 'Cutout', 'size': 8}, "Cutout takes no argument 'size'.*length"),
    ],
)
def test_a_config_that_cannot_be_used(config, match):
    with pytest.raises(ConfigError, match=match):
        TRANSFORMS.build(config)


def test_images_with_another_number_of_channels():
    normalize = Normalize([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    with pytest.raises(InputError, match=r'expected images of 3 channels.* got images of 1'):
        normalize(torch.rand(1, 4, 4))


def test_statistics_that_nobody_gave():
    with pytest.raises(ConfigError, match='knows no mean and no std'):
        Normalize()(torch.rand(1, 4, 4))
