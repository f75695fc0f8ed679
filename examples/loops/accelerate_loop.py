"""Accelerate: accelerate launch -m examples.loops.accelerate_loop FOLDER EPOCHS."""

from pathlib import Path

from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR

import mmrazor_mutators as mm

from .setting import build, main, optimizers, pairs, report


def run(folder: Path, epochs: int) -> None:
    """Search until there were so many epochs."""
    accelerator = Accelerator(cpu=True)
    supernet, mutator = build()
    weights, arch = optimizers(supernet, mutator)
    schedule = CosineAnnealingLR(weights, T_max=10)
    prepared = accelerator.prepare(supernet, weights, arch, schedule)
    supernet, weights, arch, schedule = prepared
    search = mm.BilevelSearch(supernet, mutator, cross_entropy, weights, arch)
    # Weights and logits, both optimizers, draws and the number of the step.
    accelerator.register_for_checkpointing(search)
    if (folder / 'state').exists():
        accelerator.load_state(str(folder / 'state'))
    for epoch in range(search.iteration // len(pairs()), epochs):
        search.on_epoch(epoch, 10)
        for train_batch, arch_batch in pairs():
            search.step(train_batch, arch_batch)
        schedule.step()
        accelerator.save_state(str(folder / 'state'))
    report(mutator, folder)


if __name__ == '__main__':
    main(run)
