"""Write checkpoints so that a run can be ended at any instant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as HostCheckpointHook

from ...errors import ConfigError
from ...registry import HOOKS
from ..checkpoints import STOPPED, set_hint
from ..seals import Facts, read_facts

__all__ = ['CheckpointHook']


@HOOKS.register_module()
class CheckpointHook(HostCheckpointHook):
    """The host's ``CheckpointHook``, which keeps a checkpoint until the next one is safe.

    All arguments are the host's.  With ``by_epoch=False`` there is one every
    ``interval`` steps, and a run goes on from it in the middle of an epoch.
    """

    out_dir: str
    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir, name))
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            set_hint(Path(runner.work_dir), Path(self.last_ckpt))
            self.remove_old(Path(self.last_ckpt))

    def _save_best_checkpoint(self, runner: Any, metrics: Any) -> None:
        # The host removes the best one before it writes its successor.
        previous: dict[str, str | None] = {}
        if self.save_best and len(self.key_indicators) == 1:
            previous[''], self.best_ckpt_path = self.best_ckpt_path, None
        elif self.save_best:
            previous.update(self.best_ckpt_path_dict)
            self.best_ckpt_path_dict = dict.fromkeys(previous)
        runner.validated = True
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            runner.validated = False
        for key, path in previous.items():
            now = self.best_ckpt_path_dict[key] if key else self.best_ckpt_path
            if now is None and key:
                self.best_ckpt_path_dict[key] = path
            elif now is None:
                self.best_ckpt_path = path
            elif path and path != now and is_main_process():
                Path(path).unlink(missing_ok=True)

    def remove_old(self, latest: Path) -> None:
        """Remove what the latest checkpoint has succeeded, of the same run alone."""
        newest = read_facts(latest)
        if newest is None:
            return
        stopped = latest.with_name(STOPPED)
        if latest != stopped and stopped.is_file() and (_facts(stopped) or newest) <= newest:
            stopped.unlink()
        if self.max_keep_ckpts < 1:
            return
        pattern = re.compile(re.sub(r'\\\{.*?\\\}', r'\\d+', re.escape(self.filename_tmpl)))
        ours = []
        for path in latest.parent.iterdir():
            facts = _facts(path) if pattern.fullmatch(path.name) else None
            if facts is not None and facts.run == newest.run and facts <= newest:
                ours.append((facts, path))
        for _, path in sorted(ours)[: -self.max_keep_ckpts]:
            path.unlink()


def _facts(path: Path) -> Facts | None:
    try:
        return read_facts(path)
    except ConfigError:
        return None
