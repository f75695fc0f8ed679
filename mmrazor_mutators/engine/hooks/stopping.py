"""End a run after a step when a signal asks for it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook

from ...distributed import host_group, world_size
from .. import signals

__all__ = ['StopHook']


class StopHook(Hook):
    """Saves and ends the run at the step after which all ranks know of a signal.

    Ranks tell each other after every step; what they have said is read after the
    next one, so that nobody waits for the answer.
    """

    priority = 'LOWEST'  # All that belongs to the step has been done.

    def __init__(self) -> None:
        self._pending: tuple[Any, torch.Tensor] | None = None

    def before_train(self, runner: Any) -> None:
        """From here on signals wait for the end of a step."""
        signals.requests.in_steps = True

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save and end the run if it was asked for."""
        number = signals.requests.number or 0
        if world_size() > 1:
            told, self._pending = self._answer(), self._tell(number)
            if told:
                self._answer()
            number = told
        if number:
            path = runner.save_stopped(runner.iter + 1)
            raise signals.Interrupted(
                number, f'{path} holds the state after step {runner.iter + 1}'
            )

    def after_train(self, runner: Any) -> None:
        """From here on a signal ends the run at once; one that has come does so now."""
        self._answer()
        number = self.agreed()
        signals.requests.in_steps = False
        if number:
            raise signals.Interrupted(number)

    def agreed(self) -> int:
        """Return the signal that has come to any of the ranks, 0 if none has; all ask."""
        number = signals.requests.number or 0
        if world_size() > 1:
            self._pending = self._tell(number)
            return self._answer()
        return number

    def _tell(self, number: int) -> tuple[Any, torch.Tensor]:
        told = torch.tensor([number])
        work = dist.all_reduce(told, dist.ReduceOp.MAX, group=host_group(), async_op=True)
        return work, told

    def _answer(self) -> int:
        """Return what was told before."""
        if self._pending is None:
            return 0
        work, told = self._pending
        self._pending = None
        work.wait()
        return int(told)
