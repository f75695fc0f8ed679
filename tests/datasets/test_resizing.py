"""Crops and sizes against OpenCV and by hand, and each of their errors."""

from __future__ import annotations

import math
from typing import Any

import cv2
import pytest
import torch
from torch import Tensor

from mmrazor_mutators.datasets.resizing import CenterCrop, RandomResizedCrop, ResizeShortEdge
from mmrazor_mutators.errors import ConfigError, InputError


def by_opencv(image: Tensor, height: int, width: int) -> Tensor:
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(resized).permute(2, 0, 1)


@pytest.mark.parametrize(
    ('height', 'width', 'expected'),
    [(30, 41, (16, 21)), (41, 30, (21, 16)), (9, 9, (16, 16)), (16, 50, (16, 50))],
)
def test_the_short_edge(height: int, width: int, expected: tuple[int, int]) -> None:
    image = torch.rand(3, height, width)
    resized = ResizeShortEdge(16)(image)
    assert resized.shape[1:] == expected
    torch.testing.assert_close(resized, by_opencv(image, *expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize(('height', 'width'), [(5, 8), (6, 7), (8, 5), (5, 5)])
def test_the_middle(height: int, width: int) -> None:
    image = torch.rand(2, height, width)
    # A pixel that is left over goes to the side that makes the distance even.
    top, left = round((height - 5) / 2), round((width - 5) / 2)
    expected = image[:, top : top + 5, left : left + 5]
    assert torch.equal(CenterCrop(5)(image), expected)
    assert abs((height - 5) - 2 * top) <= 1
    assert abs((width - 5) - 2 * left) <= 1


def test_parts_are_what_was_drawn() -> None:
    transform = RandomResizedCrop(12)
    image = torch.rand(3, 40, 50)
    for seed in range(20):
        torch.manual_seed(seed)
        top, left, height, width = transform.draw_part(40, 50)
        torch.manual_seed(seed)
        expected = by_opencv(image[:, top : top + height, left : left + width], 12, 12)
        torch.testing.assert_close(transform(image), expected, atol=1e-5, rtol=0)


def test_parts_have_the_areas_shapes_and_places_asked_for() -> None:
    transform = RandomResizedCrop(8, scale=(0.1, 0.4), ratio=(0.5, 2.0))
    drawn = torch.tensor([transform.draw_part(1000, 1200) for _ in range(3000)]).double()
    top, left, height, width = drawn.unbind(1)
    assert min(top.min(), left.min()) >= 0
    assert (top + height).max() <= 1000
    assert (left + width).max() <= 1200
    share = height * width / 1.2e6
    assert 0.099 < share.min() < 0.105
    assert 0.39 < share.max() < 0.401
    assert share.mean() == pytest.approx(0.25, abs=0.01)
    logs = (width / height).log2()
    assert -1.01 < logs.min() < -0.95
    assert logs.mean() == pytest.approx(0, abs=0.05)
    # Uniform among the places that it fits in.
    assert (top / (1000 - height)).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ('height', 'width', 'expected'),
    [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10)), (1, 90, (0, 44, 1, 1))],
)
def test_the_middle_where_no_part_fits(
    height: int, width: int, expected: tuple[int, ...]
) -> None:
    transform = RandomResizedCrop(4, scale=(1.0, 1.0))
    assert transform.draw_part(height, width) == expected
    assert 3 / 4 < expected[3] / expected[2] < 4 / 3 + 0.01
    assert math.prod(expected[2:]) < height * width


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: RandomResizedCrop(0), '`size` to be .* but got 0'),
        (lambda: CenterCrop(2.5), '`size` to be .* but got 2.5'),
        (lambda: ResizeShortEdge(True), '`size` to be .* but got True'),
        (lambda: RandomResizedCrop(8, scale=(0.0, 1)), r'`scale` .* but got \(0.0, 1\)'),
        (lambda: RandomResizedCrop(8, scale=(0.1, 1.1)), r'`scale` to end .* got \(0.1, 1.1\)'),
        (lambda: RandomResizedCrop(8, ratio=(2, 1)), r'`ratio` .* but got \(2, 1\)'),
        (lambda: RandomResizedCrop(8, ratio='ab'), "`ratio` .* but got 'ab'"),
        (lambda: RandomResizedCrop(8, ratio=(1,)), r'`ratio` .* but got \(1,\)'),
    ],
)
def test_options_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_image_that_is_too_small() -> None:
    with pytest.raises(InputError, match='at least 5x5 pixels, but got 4x9'):
        CenterCrop(5)(torch.rand(3, 4, 9))
