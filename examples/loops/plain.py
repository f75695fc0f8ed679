"""Plain PyTorch: python -m examples.loops.plain FOLDER EPOCHS goes on from what is there."""

from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR

import mmrazor_mutators as mm

from .setting import build, main, optimizers, pairs, report


def run(folder: Path, epochs: int) -> None:
    """Search until there were so many epochs."""
    supernet, mutator = build()
    weights, arch = optimizers(supernet, mutator)
    search = mm.BilevelSearch(supernet, mutator, cross_entropy, weights, arch)
    schedule = CosineAnnealingLR(weights, T_max=10)
    path, begin = folder / 'search.pth', 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        search.load_state_dict(state['search'])
        schedule.load_state_dict(state['schedule'])
        begin = state['epochs']
    for epoch in range(begin, epochs):
        search.on_epoch(epoch, 10)
        for train_batch, arch_batch in pairs():
            search.step(train_batch, arch_batch)
        schedule.step()
        parts = {'search': search.state_dict(), 'schedule': schedule.state_dict()}
        torch.save({**parts, 'epochs': epoch + 1}, path)
    report(mutator, folder)


if __name__ == '__main__':
    main(run)
