"""Note after every epoch what a search believes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ...algorithms.batches import PreparedBatches
from ...checks import check_count
from ...errors import ConfigError
from ...registry import HOOKS
from ...search import SearchMonitor

__all__ = ['SearchMonitorHook']

_SUMS = 'epoch_sums'


@HOOKS.register_module()
class SearchMonitorHook(Hook):
    """Writes ``epochs.csv`` and ``spaces.csv`` into the work directory of a search.

    They are those of a :class:`SearchMonitor`, with the epochs counted from 1 as in the lines
    of the terminal, and the averages over each epoch of what its steps have logged. A search
    that is resumed goes on in them. The command line brings one along; another in
    ``custom_hooks`` takes its place.

    Args:
        tensorboard: Whether to write the same for TensorBoard.
        measure: Measure the accuracies of the supernet and of the network read off from it in
            every n-th epoch; 0 for never. Each time both run on ``batches`` batches of the
            architecture's half, and the network first on as many of the weights' half, which
            its batch norms get their statistics from: about ``batches`` forward passes of the
            supernet, and two times ``batches`` of the network. The images are drawn once, by a
            seed of their own.
        batches: How many batches.

    Raises:
        ConfigError: Counts that are none.
    """

    priority = 'LOW'  # Its rows are there before the checkpoint of the epoch.

    def __init__(self, tensorboard: bool = False, measure: int = 0, batches: int = 8) -> None:
        self.tensorboard = tensorboard
        self.measure = check_count('measure', measure, 0)
        self.batches = check_count('batches', batches)
        self.monitor: SearchMonitor | None = None
        self._sums: dict[str, tuple[float, int]] = {}
        self._goes_on = False

    def before_run(self, runner: Any) -> None:
        """Check that all can be done before anything is written; a test is not watched."""
        if not isinstance(runner._train_loop, BaseLoop):
            return
        model = getattr(runner.model, 'module', runner.model)
        options = self._measuring(runner, model) if self.measure else {}
        self.monitor = SearchMonitor(
            model.architecture,
            model.mutator,
            runner.work_dir,
            tensorboard=self.tensorboard,
            **options,
        )

    def before_train(self, runner: Any) -> None:
        """Forget what an earlier run has noted of epochs to come."""
        if self.monitor is not None:
            self.monitor.rewind(runner.epoch + 1)

    @classmethod
    def beside(cls, configured: Any, options: Mapping[str, Any]) -> list[Hook]:
        """Return the hook of the command line, unless a config has one of its own.

        Args:
            configured: The ``custom_hooks`` of a config.
            options: Of this hook.

        Raises:
            ConfigError: Both have options.
        """
        kinds = [h.get('type') if isinstance(h, Mapping) else type(h) for h in configured or ()]
        if not any(kind is cls or str(kind).endswith(cls.__name__) for kind in kinds):
            return [cls(**options)]
        if options:
            raise ConfigError(
                f'Expected {", ".join(options)} in the SearchMonitorHook of `custom_hooks`, '
                'which takes the place of the one of the command line, but got it beside it'
            )
        return []

    def _measuring(self, runner: Any, model: Any) -> dict[str, Any]:
        """Return loaders of their own, so that those of the search are left alone."""
        loop = runner.train_loop
        arch_loader = getattr(loop, 'arch_dataloader', None)
        if getattr(model, 'task', None) is not None or arch_loader is None:
            raise ConfigError(
                'Expected a search whose batches are images and classes, with an '
                f'`arch_dataloader`, for measure={self.measure} of a SearchMonitorHook; its '
                'accuracies are measured on the data of the architecture'
            )
        prepare = partial(model._prepare, training=False)
        ours, theirs = (
            PreparedBatches(_sample(loader, self.batches), prepare)
            for loader in (arch_loader, loop.dataloader)
        )
        return {
            'loader': ours,
            'calibration': theirs,
            'batches': self.batches,
            'interval': self.measure,
        }

    def before_train_epoch(self, runner: Any) -> None:
        """Begin to add up, unless the run goes on within the epoch."""
        if not self._goes_on:
            self._sums = {}
        self._goes_on = False

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Add up what a step has logged."""
        for name, value in (outputs or {}).items():
            number = value.item() if isinstance(value, Tensor) else float(value)
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + number, count + 1

    def after_train_epoch(self, runner: Any) -> None:
        """Write the rows of the epoch."""
        if self.monitor is None:
            return
        values = {name: total / count for name, (total, count) in self._sums.items()}
        if 'skipped' in self._sums:  # What such steps have is their number.
            values['skipped'] = float(self._sums['skipped'][1])
        self.monitor.record(runner.epoch + 1, **values)

    def after_run(self, runner: Any) -> None:
        """Close what is open."""
        if self.monitor is not None:
            self.monitor.close()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Keep what an epoch has added up so far."""
        checkpoint[_SUMS] = {name: [*pair] for name, pair in self._sums.items()}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on adding up where the checkpoint was written.

        Raises:
            ConfigError: What is there is none of it.
        """
        kept = checkpoint.get(_SUMS)
        within = (checkpoint.get('meta') or {}).get('within')
        if kept is None or within is None:
            return
        self._sums = _checked(kept)
        self._goes_on = True


def _sample(loader: Any, batches: int) -> DataLoader[Any]:
    """Return a loader of the same images each time: some of all, in whatever order they lie."""
    size = batches * loader.batch_size
    generator = torch.Generator().manual_seed(0)
    indices = torch.randperm(len(loader.dataset), generator=generator)[:size].tolist()
    images = Subset(loader.dataset, indices)
    return DataLoader(images, batch_size=loader.batch_size, collate_fn=loader.collate_fn)


def _checked(kept: Any) -> dict[str, tuple[float, int]]:
    sums = {}
    for name, pair in kept.items() if isinstance(kept, Mapping) else [(None, ())]:
        total, count = pair if isinstance(pair, (list, tuple)) and len(pair) == 2 else (0, 0)
        if not isinstance(name, str) or type(total) is not float or type(count) is not int:
            raise ConfigError(
                f'Expected `{_SUMS}` of a checkpoint to be {{name: [sum, count]}}, but got '
                f'{kept!r:.80}'
            )
        sums[name] = total, max(count, 1)
    return sums
