"""Count how long a run takes, over all of its interruptions."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from ...durable import write_durably

__all__ = ['SecondsHook']

_FILE = 'evolution_seconds.json'


class SecondsHook(Hook):
    """Counts the seconds of a run, those alone whose work was kept.

    A checkpoint holds how long it took to come there; what a run did after its last
    checkpoint, and does again when it goes on, counts once.

    Attributes:
        seconds: Of the whole run, once it has ended.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.seconds = 0.0
        self._before = 0.0
        self._begun = time.perf_counter()

    def after_load_checkpoint(self, runner: Any, checkpoint: Any) -> None:
        """Take up what a checkpoint that is gone on from had taken."""
        seconds = checkpoint.get('meta', {}).get('seconds')
        if runner._resume and isinstance(seconds, float):
            self._before = seconds

    def before_train(self, runner: Any) -> None:
        """Begin to count."""
        self._begun = time.perf_counter()
        folder = Path(runner.work_dir)
        if (folder / 'evolution.json').is_file():  # It goes on from there.
            with suppress(OSError, ValueError):
                kept = json.loads((folder / _FILE).read_text(encoding='utf-8'))
                self._before = max(self._before, float(kept))

    def before_save_checkpoint(self, runner: Any, checkpoint: Any) -> None:
        """Let a checkpoint hold how long it took to come there."""
        checkpoint['meta']['seconds'] = self._until_now()

    def after_generation(self, runner: Any) -> None:
        """Write down how long it took to come to the end of a generation."""
        if is_main_process():
            write_durably(Path(runner.work_dir, _FILE), f'{self._until_now()}\n')

    def after_run(self, runner: Any) -> None:
        """End to count."""
        self.seconds = self._until_now()

    def _until_now(self) -> float:
        return self._before + time.perf_counter() - self._begun
