"""The train loop of a search, which reads two loaders at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import numpy as np
import torch

from ..distributed import rank
from ..errors import ConfigError
from ..registry import LOOPS
from ..search.hypergradients.micro_batches import grouped
from .within_epoch import EpochTrainLoop

__all__ = ['BilevelTrainLoop', 'draws_apart', 'schedules_restored']


@LOOPS.register_module()
class BilevelTrainLoop(EpochTrainLoop):
    """Hands each step a pair of batches, ``(train_batch, arch_batch)``.

    An epoch is one pass over the weights' half of the data.  The loader of
    the architecture's half goes on where it was, from step to step and from
    epoch to epoch, and begins anew when it is through.

    Where the model has ``accumulate``, each of the two is a list of so many batches, and an
    epoch has so many times fewer steps.  Nothing is saved in the middle of a step.

    Args:
        runner: The runner.
        dataloader: Loader of the weights' half, or its config.
        arch_dataloader: Loader of the architecture's half, or its config;
            ``None`` for a single-level search, which sees the training batch
            alone.
        max_epochs: Number of epochs.
        **kwargs: As for ``EpochBasedTrainLoop``.

    Raises:
        ConfigError: A loader without a batch.
    """

    stop_training: bool
    dataloader: Any

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_epochs: int,
        arch_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        if isinstance(arch_dataloader, dict):
            arch_dataloader = runner.build_dataloader(
                arch_dataloader,
                seed=runner.seed,
                diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False),
            )
        count = getattr(self._model, 'accumulate', 1)
        if count > 1:
            self.dataloader = GroupedLoader(self.dataloader, count)
            self._max_iters = self._max_epochs * len(self.dataloader)
            if arch_dataloader is not None:
                arch_dataloader = GroupedLoader(arch_dataloader, count)
        self.arch_dataloader = arch_dataloader
        for name, loader in (
            ('dataloader', self.dataloader),
            ('arch_dataloader', arch_dataloader),
        ):
            if loader is not None and len(loader) == 0:
                least = (
                    f'{count}, as accumulate={count} says' if count > 1 else 'one full batch'
                )
                raise ConfigError(
                    f'`{name}` has no batch: expected at least {least}, but its data set has '
                    f'{len(loader.dataset)} samples'
                )
        self._arch_batches: Iterator[Any] = iter(())
        self._begun = False

    def run_epoch(self) -> None:
        """Run one epoch at the schedules' values for it."""
        if not self._begun:
            # Not before: a run that is resumed learns its iteration after __init__.
            none = self.arch_dataloader is None
            self._arch_batches = repeat(None) if none else self._endless(self._iter)
            self._begun = True
        with schedules_restored(self._model, self.going_on is not None):
            self._model.on_epoch(self._epoch, self._max_epochs, self._iter)
        super().run_epoch()
        self.stop_training = self.stop_training or self._model.stopped

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Run one step, unless an extension has ended the search."""
        if not self._model.stopped:
            super().run_iter(idx, (data_batch, next(self._arch_batches)))

    def run(self) -> Any:
        """Run all epochs, and then what chooses when they are over."""
        self.stop_training = self.stop_training or self._model.stopped
        result = super().run()
        loaders = (self.dataloader, self.arch_dataloader)
        plain = (x.loader if isinstance(x, GroupedLoader) else x for x in loaders)
        self._model.finish(self.runner.optim_wrapper, *plain)
        return result

    @property
    def _model(self) -> Any:
        return getattr(self.runner.model, 'module', self.runner.model)

    def _endless(self, start: int) -> Iterator[Any]:
        """Yield batches for ever, from the one that step ``start`` sees."""
        number, skip = divmod(start, len(self.arch_dataloader))
        while True:
            sampler = self.arch_dataloader.sampler
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(number)
            # A run that is resumed passes here more often than one that is not.
            with draws_apart(self.runner.seed, number):
                batches = iter(self.arch_dataloader)
                # A sampler that draws does so with the first batch.
                seen = skip if hasattr(sampler, 'set_epoch') else max(skip, 1)
                first = [next(batches) for _ in range(seen)]
            yield from first[skip:]
            yield from batches
            number, skip = number + 1, 0


class GroupedLoader:
    """Yields lists of as many batches as a step accumulates; a rest is left out.

    Args:
        loader: Yields batches; all else that is asked for is its own.
        count: How many make a step.
    """

    def __init__(self, loader: Any, count: int) -> None:
        self.loader, self.count = loader, count

    def __len__(self) -> int:
        return len(self.loader) // self.count

    def __iter__(self) -> Iterator[Any]:
        return grouped(self.loader, self.count)

    def __getattr__(self, name: str) -> Any:
        if name == 'loader':  # As while a copy is made.
            raise AttributeError(name)
        return getattr(self.loader, name)


@contextmanager
def schedules_restored(model: Any, begun: bool) -> Iterator[None]:
    """Let a mutator only move its schedules, if the epoch had begun before a checkpoint.

    What is done at the beginning of an epoch has been done, and is in the checkpoint.
    """
    mutator: Any = getattr(model, 'mutator', None)
    if not begun or not hasattr(mutator, 'restoring'):
        yield
        return
    mutator.restoring = True
    try:
        yield
    finally:
        mutator.restoring = False


@contextmanager
def draws_apart(*entropy: int) -> Iterator[None]:
    """Seed the generators that loaders and transforms use; later they are as before."""
    kept = random.getstate(), np.random.get_state()
    seed = int(np.random.SeedSequence([*entropy, rank()]).generate_state(1)[0])
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(seed)
            np.random.seed(seed)
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
