"""Let all ranks evaluate one network."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from ...distributed import agree_on_buffers

__all__ = ['AgreedBuffersHook']


class AgreedBuffersHook(Hook):
    """Averages running statistics over ranks before an evaluation.

    The host does so at the end of an epoch alone, and a training by steps is
    validated within one.
    """

    def before_val_epoch(self, runner: Any) -> None:
        """Let the validation be that of one network."""
        agree_on_buffers(runner.model)

    def before_test_epoch(self, runner: Any) -> None:
        """Let the test be that of one network."""
        agree_on_buffers(runner.model)
