"""Show how far a job is, and how it fares."""

from __future__ import annotations

import time
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from ...registry import HOOKS

__all__ = ['ProgressHook', 'open_bar']


def open_bar(console: Console, title: str, total: int, completed: int = 0) -> Progress:
    """Open a progress bar of one task, which tells what its field ``shown`` says."""
    progress = Progress(
        TextColumn('[bold]{task.description}'),
        BarColumn(bar_width=12),  # All of it fits a line of 80 characters.
        TimeRemainingColumn(compact=True),
        TextColumn('{task.fields[shown]}'),
        console=console,
        transient=True,
    )
    progress.add_task(title, total=total, completed=completed, shown='')
    progress.start()
    return progress


@HOOKS.register_module()
class ProgressHook(Hook):
    """A progress bar with losses and accuracy, and one line per epoch.

    Where the output is no terminal, the lines alone are printed.

    Args:
        title: What is going on, such as ``'search'``.
        leading: Name the leading choice of this many spaces in each line.
        console: Where to print, by default the standard output.
    """

    priority = 'LOW'

    def __init__(
        self, title: str = 'train', leading: int = 3, console: Console | None = None
    ) -> None:
        self.title = title
        self.leading = leading
        self.console = console or Console()
        self._progress: Progress | None = None
        self._sums: dict[str, list[float]] = {}
        self._begin = 0.0
        self._num_graphs = 0

    def before_train(self, runner: Any) -> None:
        """Open the bar."""
        if is_main_process() and self.console.is_terminal:
            self._progress = open_bar(self.console, self.title, runner.max_iters, runner.iter)
            self._task = self._progress.task_ids[0]

    def before_train_epoch(self, runner: Any) -> None:
        """Begin to average."""
        self._sums = {}
        self._begin = time.perf_counter()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Move the bar."""
        for name, value in (outputs or {}).items():
            number = value.item() if isinstance(value, Tensor) else float(value)
            self._sums.setdefault(name, []).append(number)
        if self._progress is not None:
            shown = f'epoch {runner.epoch + 1}/{runner.max_epochs}  {self._averages(20)}'
            self._progress.update(self._task, completed=runner.iter + 1, shown=shown)

    def after_train_epoch(self, runner: Any) -> None:
        """Print the line of the epoch."""
        if not is_main_process():
            return
        parts = [
            f'{self.title} {runner.epoch + 1:>3}/{runner.max_epochs}',
            self._averages(),
            *self._of_mutator(getattr(runner.model, 'module', runner.model)),
            f'{time.perf_counter() - self._begin:.1f}s',
        ]
        line = '  '.join(part for part in parts if part)
        for text in (*self._of_compilation(runner), line):
            self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def after_run(self, runner: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Take the bar away; safe to call at any time."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _of_compilation(self, runner: Any) -> list[str]:
        """Say what compiling has cost since it was said last."""
        model = getattr(runner.model, 'module', runner.model)
        compilation = getattr(model, 'compilation', None)
        if compilation is None or compilation.num_graphs == self._num_graphs:
            return []
        self._num_graphs = compilation.num_graphs
        line = f'compiled {compilation.num_graphs} graphs in {compilation.seconds:.1f}s'
        runner.logger.info(line)
        return [line]

    def _averages(self, last: int | None = None) -> str:
        shown = []
        for name, values in self._sums.items():
            mean = sum(values[-last if last else 0 :]) / len(values[-last if last else 0 :])
            text = f'{100 * mean:.1f}%' if name.endswith('accuracy') else f'{mean:.3f}'
            if name == 'skipped':  # What such steps have is their number.
                text = str(len(values))
            shown.append(f'{name} {text}')
        return '  '.join(shown)

    def _of_mutator(self, model: Any) -> list[str]:
        mutator = getattr(model, 'mutator', None)
        if mutator is None or not hasattr(mutator, 'arch_params'):
            return []
        parts = [f'tau {mutator.tau:.2f}'] if hasattr(mutator, 'tau') else []
        subnet = mutator.search_subnet()
        rated = [(sid, e) for sid, e in subnet.items() if sid in mutator.arch_params]
        rated.sort(key=lambda pair: -pair[1].get('chosen_probs', [0.0])[0])
        leaders = [f'{sid}={entry["chosen"][0]}' for sid, entry in rated[: self.leading]]
        return [*parts, *leaders]
