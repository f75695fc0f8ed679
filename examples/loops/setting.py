"""What the loops search, and on what."""

from __future__ import annotations

import sys
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader

import mmrazor_mutators as mm
from examples.data import digits

__all__ = ['build', 'loader', 'main', 'optimizers', 'pairs', 'report']

Batch = tuple[Tensor, Tensor]


def build() -> tuple[nn.Module, mm.GDASMutator]:
    """Return a supernet and a mutator that draws paths, the same at each call."""
    torch.manual_seed(0)
    space = {'type': 'NasBench201Supernet', 'in_channels': 1, 'num_classes': 10}
    supernet = mm.build_architecture({**space, 'base_channels': 4, 'num_cells': 1})
    mutator = mm.GDASMutator()
    mutator.prepare_from_supernet(supernet)
    return supernet, mutator


def pairs(size: int = 32, count: int = 6) -> list[tuple[Batch, Batch]]:
    """Return batches of digits for the weights, each with one for the architecture."""
    images, labels, *_ = digits()
    batches = [*zip(images.split(size), labels.split(size), strict=True)]
    return [*zip(batches[:count], batches[count : 2 * count], strict=True)]


def loader() -> DataLoader[tuple[Batch, Batch]]:
    """Return the same as a loader, whose seeds are not drawn from the numbers of the search."""
    return DataLoader(pairs(), collate_fn=itemgetter(0), generator=torch.Generator())


def optimizers(supernet: nn.Module, mutator: mm.GDASMutator) -> tuple[SGD, Adam]:
    """Return an optimizer of the weights, and one of the architecture."""
    weights = SGD(supernet.parameters(), lr=0.05, momentum=0.9)
    return weights, Adam(mutator.arch_params.values(), lr=0.01)


def report(mutator: mm.GDASMutator, folder: Path) -> None:
    """Write down what was found."""
    mm.dump_subnet(mutator.search_subnet(), folder / 'subnet.yaml')


def main(run: Callable[[Path, int], None]) -> None:
    """Run a loop in the folder, and for the epochs, that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    run(folder, int(sys.argv[2]))
