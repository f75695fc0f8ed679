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
from ..lines import fitted, width_of

__all__ = ['ProgressHook', 'open_bar', 'room_beside']

_BAR, _TIME = 10, 7


def room_beside(console: Console, title: str) -> int:
    """Return how many characters there are beside a bar with its title and its time left."""
    return max(0, width_of(console) - len(title) - _BAR - _TIME - 3)


def open_bar(console: Console, title: str, total: int, completed: int = 0) -> Progress:
    """Open a progress bar of one task, which tells what its field ``shown`` says."""
    progress = Progress(
        TextColumn('[bold]{task.description}'),
        BarColumn(bar_width=_BAR),
        TimeRemainingColumn(compact=True),
        TextColumn('{task.fields[shown]}'),
        console=console,
        transient=True,
        speed_estimate_period=300.0,  # A step, or a path of an evolution, may take long.
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
        leading: Name the leading choice of at most this many spaces in each line, as far as
            there is room.
        console: Where to print, by default the standard output.
        part: Which of how many runs of the same length it is, from 0; the bar and its time
            left are those of all of them.
    """

    priority = 'LOW'

    def __init__(
        self,
        title: str = 'train',
        leading: int = 3,
        console: Console | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.title = title
        self.leading = leading
        self.console = console or Console()
        self.part = part
        self._progress: Progress | None = None
        self._sums: dict[str, list[float]] = {}
        self._begin = 0.0
        self._num_graphs = 0

    def before_train(self, runner: Any) -> None:
        """Open the bar."""
        if is_main_process() and self.console.is_terminal:
            number, count = self.part
            total = runner.max_iters
            begun = number * total + runner.iter
            self._progress = open_bar(self.console, self.title, count * total, begun)
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
            number, count = self.part
            self._progress.update(
                self._task,
                completed=number * runner.max_iters + runner.iter + 1,
                shown=fitted(
                    [
                        f'epoch {runner.epoch + 1}/{runner.max_epochs}',
                        f'run {number + 1}/{count}' if count > 1 else '',
                        *self._averages(20),
                    ],
                    width=room_beside(self.console, self.title),
                ),
            )

    def after_train_epoch(self, runner: Any) -> None:
        """Print the line of the epoch."""
        if not is_main_process():
            return
        last = runner.max_epochs
        parts = [
            f'{self.title} {runner.epoch + 1:>{len(str(last))}}/{last}',
            *self._averages(),
            *self._of_mutator(getattr(runner.model, 'module', runner.model)),
        ]
        took = f'{time.perf_counter() - self._begin:.1f}s'
        line = fitted(parts, took, width_of(self.console))
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

    def _averages(self, last: int | None = None) -> list[str]:
        shown = []
        for name, values in self._sums.items():
            mean = sum(values[-last if last else 0 :]) / len(values[-last if last else 0 :])
            text = f'{100 * mean:.1f}%' if name.endswith('accuracy') else f'{mean:.3f}'
            if name == 'skipped':  # What such steps have is their number.
                text = str(len(values))
            shown.append(f'{name} {text}')
        return shown

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
