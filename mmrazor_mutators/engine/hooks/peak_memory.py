"""Say how much memory a run has needed."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from rich.console import Console

from ...registry import HOOKS
from ...search.memory import peak_of_process

__all__ = ['PeakMemoryHook']


@HOOKS.register_module()
class PeakMemoryHook(Hook):
    """Prints and logs the most memory that the training has held at once.

    On a CUDA device that is what its tensors took, elsewhere the resident set
    of the process, as :func:`peak_of_process` says.

    Args:
        console: Where to print, by default the standard output.
    """

    priority = 'LOWEST'  # The line comes after those of the epochs.

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()

    def before_train(self, runner: Any) -> None:
        """Count from here on, where that can be done."""
        device = _device_of(runner)
        if device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(device)

    def after_train(self, runner: Any) -> None:
        """Print the line."""
        peak = peak_of_process(_device_of(runner))
        if peak is None or not is_main_process():
            return
        line = f'peak memory {peak}'
        runner.logger.info(line)
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)


def _device_of(runner: Any) -> torch.device:
    first = next(runner.model.parameters(), None)
    return torch.device('cpu') if first is None else first.device
