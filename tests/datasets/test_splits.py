"""Splits are right by class, by count and by file order."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch

from mmrazor_mutators.datasets.splits import (
    last_of_each_class,
    rank_in_class,
    spread_over_classes,
)


def uneven_labels():
    """211 labels of six classes of different sizes, one of them empty, mixed."""
    sizes = [40, 0, 7, 63, 1, 100]
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    return torch.tensor(labels)[torch.randperm(len(labels))]


def test_ranks_count_each_class_in_file_order():
    labels = uneven_labels()
    seen: Counter[int] = Counter()
    expected = []
    for label in labels.tolist():
        expected.append(seen[label])
        seen[label] += 1
    assert rank_in_class(labels).tolist() == expected


@pytest.mark.parametrize('parts', [1, 2, 5])
def test_the_last_part_of_each_class_is_its_end(parts):
    labels = uneven_labels()
    marked = last_of_each_class(labels, parts)
    for label in labels.unique():
        own = marked[labels == label].tolist()
        count = sum(own)
        assert own == [False] * (len(own) - count) + [True] * count
        assert count == len(own) // parts


@pytest.mark.parametrize('fraction', [0.1, 0.25, 0.29, 1 / 3, 0.5, 0.7, 0.9])
def test_every_class_gives_its_share(fraction):
    labels = uneven_labels()
    marked = spread_over_classes(labels, fraction)
    assert abs(int(marked.sum()) - fraction * len(labels)) <= 0.5
    for label in labels.unique():
        own = labels == label
        assert abs(int(marked[own].sum()) - fraction * int(own.sum())) <= 1


def test_the_share_is_spread_over_the_file():
    labels = uneven_labels()
    marked = spread_over_classes(labels, 0.25)
    own = marked[labels == 5].tolist()
    gaps = [index for index, mark in enumerate(own) if mark]
    assert {after - before for before, after in pairwise(gaps)} == {4}


def test_chance_has_no_part_in_a_split():
    labels = uneven_labels()
    torch.manual_seed(1)
    first = spread_over_classes(labels, 0.5), last_of_each_class(labels, 5)
    torch.manual_seed(2)
    second = spread_over_classes(labels, 0.5), last_of_each_class(labels, 5)
    torch.testing.assert_close(first, second)
