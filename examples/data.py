"""Real data that comes with packages: nothing is downloaded."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ['Samples', 'Split', 'digits', 'noisy_digits', 'scanned_digits', 'standard_library']

Split = tuple[Tensor, Tensor, Tensor, Tensor]
"""Inputs and targets for training, then for testing."""


def _shuffled(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def _split(inputs: Tensor, targets: Tensor, share: float) -> Split:
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    test, train = order.split(
        [round(share * len(order)), len(order) - round(share * len(order))]
    )
    return inputs[train], targets[train], inputs[test], targets[test]


def digits() -> Split:
    """Return 1,797 scanned digits of scikit-learn, shape ``(N, 1, 8, 8)``; 40% to test."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
    return _split(inputs, torch.tensor(labels), 0.4)


def scanned_digits() -> Split:
    """Return the same digits as series: 64 values one after another, ``(N, 1, 64)``."""
    train, labels, test, expected = digits()
    return train.flatten(2), labels, test.flatten(2), expected


def noisy_digits() -> Split:
    """Return digits under noise, and where their ink is: masks of shape ``(N, 8, 8)``."""
    train, _, test, _ = digits()
    generator = torch.Generator().manual_seed(1)
    masks = (train[:, 0] > 0).long(), (test[:, 0] > 0).long()
    noisy = [x + torch.randn(x.shape, generator=generator) for x in (train, test)]
    return noisy[0], masks[0], noisy[1], masks[1]


def standard_library(length: int = 64, count: int = 6000) -> Split:
    """Return text of Python's standard library: characters, and those that come next.

    Args:
        length: Of a sequence.
        count: How many sequences there are, a fifth of them to test, of other files.
    """
    folder = Path(sysconfig.get_paths()['stdlib'])
    parts: list[list[Tensor]] = [[], []]
    wanted = [count - count // 5, count // 5]
    for number, path in enumerate(sorted(folder.glob('*.py'))):
        text = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8).long()
        # Printable characters and the end of a line; whatever else is one more.
        text = torch.where((text >= 32) & (text < 127), text - 31, (text != 10) * 96)
        which = number % 5 == 4
        if len(text) > length:
            parts[which].append(text[: len(text) // (length + 1) * (length + 1)])
    pieces = []
    for texts, most in zip(parts, wanted, strict=True):
        rows = torch.cat(texts).view(-1, length + 1)
        rows = rows[
            torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:most]
        ]
        pieces += [rows[:, :-1], rows[:, 1:]]
    return pieces[0], pieces[1], pieces[2], pieces[3]


class Samples(Dataset[Any]):
    """The same data for configs.

    Args:
        source: Name of a function of this module.
        split: ``'train'``, its halves ``'weights'`` and ``'arch'``, or ``'test'``.
        limit: How many samples at most.
    """

    def __init__(
        self,
        source: Literal['digits', 'noisy_digits', 'scanned_digits', 'standard_library'],
        split: Literal['train', 'weights', 'arch', 'test'],
        limit: int | None = None,
    ) -> None:
        train, labels, test, expected = globals()[source]()
        self.inputs, self.targets = (test, expected) if split == 'test' else (train, labels)
        if split in ('weights', 'arch'):
            first = int(split == 'arch')
            self.inputs, self.targets = self.inputs[first::2], self.targets[first::2]
        self.inputs, self.targets = self.inputs[:limit], self.targets[:limit]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.targets[index]
