"""Write down what would be chosen now."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from ...errors import ConfigError
from ...mutables import dump_subnet
from ...registry import HOOKS

__all__ = ['SearchSubnetHook']


@HOOKS.register_module()
class SearchSubnetHook(Hook):
    """Writes the subnet found so far as YAML.

    ``subnet.yaml`` is always the latest one; beside it one file per
    ``interval``.

    Args:
        interval: Write a file of its own in every n-th epoch or iteration; -1
            for ``subnet.yaml`` alone.
        by_epoch: Whether to count epochs or iterations.
        out_dir: Where to write; by default the runner's work directory.
        max_keep_subnets: Keep the newest n of the numbered files; -1 for all.
        save_last: Whether to write after the last epoch or iteration as well.
        filename_tmpl: Name of a numbered file, with ``{}`` for the number.
        max_keep_ckpts: Another name of ``max_keep_subnets``, that of MMRazor v0.2.0.

    Raises:
        ConfigError: Both ``max_keep_subnets`` and ``max_keep_ckpts``.
    """

    priority = 70

    def __init__(
        self,
        interval: int = -1,
        by_epoch: bool = True,
        out_dir: str | None = None,
        max_keep_subnets: int = -1,
        save_last: bool = True,
        filename_tmpl: str | None = None,
        max_keep_ckpts: int = -1,
    ) -> None:
        if max_keep_subnets != -1 and max_keep_ckpts != -1:
            raise ConfigError(
                f'Expected `max_keep_subnets` or `max_keep_ckpts`, but got {max_keep_subnets} '
                f'and {max_keep_ckpts}'
            )
        self.interval = interval
        self.by_epoch = by_epoch
        self.out_dir = out_dir
        self.max_keep_subnets = max_keep_subnets if max_keep_ckpts == -1 else max_keep_ckpts
        self.save_last = save_last
        self.filename_tmpl = filename_tmpl or ('epoch_{}.yaml' if by_epoch else 'iter_{}.yaml')
        self._written: list[Path] = []

    def after_train_epoch(self, runner: Any) -> None:
        """Write the subnet of an epoch."""
        if self.by_epoch:
            due = self.every_n_epochs(runner, self.interval)
            self._write(runner, runner.epoch + 1, due, self.is_last_train_epoch(runner))

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Write the subnet of an iteration."""
        if not self.by_epoch:
            due = self.every_n_train_iters(runner, self.interval)
            is_last = self.is_last_train_iter(runner)
            if due or is_last or self.interval < 1:
                self._write(runner, runner.iter + 1, due, is_last)

    def _write(self, runner: Any, number: int, due: bool, is_last: bool) -> None:
        model = getattr(runner.model, 'module', runner.model)
        if not is_main_process() or getattr(model, 'mutator', None) is None:
            return
        folder = Path(self.out_dir or runner.work_dir)
        subnet = model.mutator.search_subnet()
        dump_subnet(subnet, folder / 'subnet.yaml')
        if due or (is_last and self.save_last and self.interval > 0):
            path = folder / self.filename_tmpl.format(number)
            dump_subnet(subnet, path)
            self._written.append(path)
            while 0 < self.max_keep_subnets < len(self._written):
                oldest = self._written.pop(0)
                if oldest != path and oldest.exists():
                    os.remove(oldest)
