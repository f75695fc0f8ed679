"""Train loops that go on in the middle of an epoch, with the batches that come next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from ..distributed import gathered, rank, world_size
from ..errors import NonFiniteLossError
from ..registry import LOOPS
from .random_state import random_state, set_random_state

__all__ = ['EpochTrainLoop', 'StepTrainLoop', 'go_on_from', 'place_within']


def place_within(loop: Any, model: Any) -> dict[str, Any] | None:
    """Return where in its epoch a loop is, for a checkpoint; ``None`` between epochs.

    All ranks have to ask.
    """
    taken = getattr(loop, 'batches_taken', 0)
    if not taken:
        return None
    # Between epochs ranks have the same buffers, see ``SyncBuffersHook``.
    buffers = dict(model.named_buffers()) if world_size() > 1 else {}
    own = {
        'random': random_state(),
        'buffers': {name: value.detach().cpu() for name, value in buffers.items()},
    }
    return {'batches': taken, 'of': len(loop.dataloader), 'ranks': gathered(own)}


def go_on_from(loop: Any, model: Any, meta: Mapping[str, Any]) -> None:
    """Let a loop go on where a checkpoint was written.

    Args:
        loop: With its numbers of epochs and steps as in the checkpoint.
        model: With the state of the checkpoint.
        meta: Of the checkpoint.
    """
    place = meta.get('within')
    by_step = isinstance(loop, IterBasedTrainLoop)
    between = by_step or place is None  # Where there may be a validation.
    loop.validation_owed = between and not meta.get('validated', True)
    if place is None or not hasattr(loop, 'batches_taken'):
        return
    of = len(loop.dataloader)
    if len(place['ranks']) == world_size() and place['of'] == of:
        own = place['ranks'][rank()]
        buffers = dict(model.named_buffers())
        for name, value in own['buffers'].items():
            buffers[name].data.copy_(value)
        loop.going_on = place['batches'], own['random']
        return
    taken = place['batches']
    if not by_step:
        # With another number of ranks as many images are skipped, but others come next.
        taken = taken * of // place['of']
        loop._iter = loop._epoch * of + taken
    loop.going_on = taken, None


@contextmanager
def saved_before_error(loop: Any) -> Iterator[None]:
    """Save what a step leaves as it was that ends in a loss or gradient that is not finite.

    Raises:
        NonFiniteLossError: The same, which says where the state is.
    """
    try:
        yield
    except NonFiniteLossError as error:
        if not error.agreed:
            raise  # The other ranks would not come to save their part.
        params = [param.detach() for param in loop.runner.model.parameters()]
        if not bool(torch.stack([param.isfinite().all() for param in params]).all()):
            raise NonFiniteLossError(
                f'{error}. The weights are not finite by now, so that they were not saved; go '
                'on from the last checkpoint'
            ) from error
        loop.batches_taken -= 1
        path = loop.runner.save_stopped(loop.iter)
        raise NonFiniteLossError(f'{error}. {path} holds the state before it') from error


class _GoesOn:
    """Takes the batches that a resumed run has seen from a loader, and drops them.

    Attributes:
        batches_taken: How many of the epoch the steps have had; 0 between epochs.
        going_on: How many to skip, and the state of the generators after that.
        validation_owed: Whether the run was ended before a validation that may be due.
    """

    batches_taken = 0
    going_on: tuple[int, dict[str, Any] | None] | None = None
    validation_owed = False
    runner: Any
    val_begin: int
    val_interval: int

    def _skip(self, batches: Iterator[Any]) -> None:
        """Skip what was seen; what is drawn is drawn as if the run had not been ended."""
        if self.going_on is None:
            return
        (taken, state), self.going_on = self.going_on, None
        for _ in range(taken):
            next(batches, None)
        if state is not None:
            set_random_state(state)

    def _validate_if_due(self, done: int, last: int) -> None:
        """Validate after so many epochs or steps, if that is due."""
        due = done % self.val_interval == 0 or done == last
        if self.runner.val_loop is not None and done >= self.val_begin and due:
            self.runner.val_loop.run()


@LOOPS.register_module()
class EpochTrainLoop(_GoesOn, EpochBasedTrainLoop):
    """The host's ``EpochBasedTrainLoop``, which also goes on within an epoch.

    All arguments are the host's.
    """

    stop_training: bool
    runner: Any

    def run(self) -> Any:
        """Run all epochs that are left."""
        self.runner.call_hook('before_train')
        if self.validation_owed:
            self._validate_if_due(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Run one epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        batches = iter(self.dataloader)
        first = self.going_on[0] if self.going_on else 0
        self._skip(batches)
        for number, batch in enumerate(batches, first):
            self.batches_taken = number + 1
            with saved_before_error(self):
                self.run_iter(number, batch)
        self.batches_taken = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class StepTrainLoop(_GoesOn, IterBasedTrainLoop):
    """The host's ``IterBasedTrainLoop``, which goes on with the same random numbers.

    All arguments are the host's.
    """

    stop_training: bool
    runner: Any

    def run(self) -> Any:
        """Run all steps that are left."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        batches = self.dataloader_iterator
        if self.going_on is None:
            self.going_on = self._iter, None
        self._skip(batches)
        if self.validation_owed:
            self._validate_if_due(self._iter, self._max_iters)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            batch = next(batches)
            self.batches_taken = self._iter + 1
            with saved_before_error(self):
                self.run_iter(batch)
            self._decide_current_val_interval()
            self._validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model
