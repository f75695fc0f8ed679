"""The runner's checkpoints: written as a whole or not at all, and found again."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from ..distributed import gathered
from ..durable import draft_of, publish, remove_stale_drafts, sync
from ..errors import ConfigError
from ..registry import SCOPE
from .checkpoints import STOPPED, Found, newest_checkpoint, next_run, set_hint
from .hooks.checkpoint import CheckpointHook
from .hooks.progress import ProgressHook
from .seals import Facts, seal
from .within_epoch import go_on_from, place_within

__all__ = ['SavingRunner']


class SavingRunner(Runner):
    """A runner that goes on from whatever the end of its process has left.

    A checkpoint is written to a draft, synchronised, sealed, and given its name;
    then ``last.pth`` and ``last_checkpoint`` name it, and old ones are removed.
    """

    run_number = 0
    validated = False
    """Whether the checkpoint that is written now comes after a validation."""

    _latest: tuple[Path, int, int] | None = None
    """The checkpoint written last, with the steps and epochs done."""

    _resuming = False
    _has_loaded: bool
    _meta: dict[str, Any]

    def register_default_hooks(self, hooks: Any = None) -> None:
        """Register the host's hooks, with our way to write checkpoints."""
        hooks = dict(hooks or {})
        given = hooks.get('checkpoint', {'type': 'CheckpointHook', 'interval': 1})
        if isinstance(given, dict) and given.get('type') == 'CheckpointHook':
            hooks['checkpoint'] = {**given, 'type': f'{SCOPE}.CheckpointHook'}
        super().register_default_hooks(hooks)

    def load_or_resume(self) -> None:
        """Go on from the newest checkpoint of the work directory, or load weights."""
        if self._has_loaded:
            return
        found = self._start() if is_main_process() else None
        found = gathered(found)[0]
        self.run_number = found.facts.run
        if found.path is not None:
            self.resume(str(found.path))
        elif self._load_from is not None:
            self.load_checkpoint(self._load_from)
        self._has_loaded = True  # Or a test after the training would begin another run.

    def _start(self) -> Found:
        """Return what to begin with, and say what is not to be expected."""
        work_dir = Path(self.work_dir)
        for folder in {work_dir, Path(self._checkpoint_dir)}:
            remove_stale_drafts(folder)
        if not self._resume:
            return Found(None, Facts(next_run(work_dir), 0, 0), [])
        found = newest_checkpoint(work_dir)
        skipped = '; '.join(found.skipped)
        if found.path is not None:
            of_epoch = f'epoch {found.facts.epoch}, step {found.facts.step}'
            self._say(
                f'goes on from {found.path.name} ({of_epoch})'
                f'{f"; skipped {skipped}" if skipped else ""}'
            )
            if found.path.name != 'last.pth':
                # The run may have been ended between the file and its other names.
                _set_last(found.path)
            set_hint(work_dir, found.path)
            for hook in self.hooks:
                # It may have been ended before it removed what this one replaces.
                if isinstance(hook, CheckpointHook) and found.path.parent == work_dir:
                    hook.remove_old(found.path)
            return found
        if skipped:
            raise ConfigError(
                f'None of the checkpoints in {str(work_dir)!r} can be gone on from: {skipped}; '
                'start without --resume to begin anew'
            )
        self._say('the run was ended before its first checkpoint: it begins anew')
        return found._replace(facts=Facts(next_run(work_dir), 0, 0))

    def _say(self, line: str) -> None:
        self.logger.info(line)
        for hook in self.hooks:
            if isinstance(hook, ProgressHook):
                hook.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint, also in the middle of an epoch."""
        self._resuming = True
        try:
            super().resume(filename, *args, **kwargs)
        finally:
            self._resuming = False
        go_on_from(self.train_loop, self.model, self._meta)
        built: Any = self.param_schedulers or []
        for schedulers in built.values() if isinstance(built, dict) else [built]:
            for scheduler in schedulers:
                # It warns where no step was taken before its own, as at the end of an epoch.
                scheduler.optimizer._global_step = self.iter

    def load_checkpoint(
        self, filename: str, map_location: Any = 'cpu', strict: bool = False, **kwargs: Any
    ) -> Any:
        """Read a checkpoint; one to resume from has to fit exactly."""
        # The host prints where it loads from.
        with redirect_stdout(io.StringIO()):
            checkpoint = super().load_checkpoint(
                filename, map_location, strict=strict or self._resuming, **kwargs
            )
        if self._resuming:
            self._meta = checkpoint['meta']
        return checkpoint

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        *args: Any,
        meta: dict[str, Any] | None = None,
        by_epoch: bool = True,
        **kwargs: Any,
    ) -> None:
        """Write a checkpoint in one go, and let ``last.pth`` be the latest of them."""
        meta = dict(meta or {})
        meta.setdefault('epoch', self.epoch + 1 if by_epoch else self.epoch)
        meta.setdefault('iter', self.iter if by_epoch else self.iter + 1)
        meta.update(within=place_within(self.train_loop, self.model), validated=self.validated)
        target = Path(out_dir, filename)
        draft = draft_of(target)
        try:
            super().save_checkpoint(
                out_dir, draft.name, *args, meta=meta, by_epoch=by_epoch, **kwargs
            )
            if is_main_process():
                seal(draft, Facts(self.run_number, meta['iter'], meta['epoch']))
                publish(draft, target)
                if not filename.startswith('best_'):
                    _set_last(target)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise ConfigError(
                f'The checkpoint {str(target)!r} cannot be written: {error.strerror}; those '
                'that were written before stay'
            ) from error
        if not filename.startswith('best_'):
            self._latest = target, meta['iter'], meta['epoch']

    def save_stopped(self, steps: int) -> Path:
        """Write a checkpoint between regular ones, before the run ends; all ranks call it.

        Where a regular one of this very step has just been written, that is all.

        Args:
            steps: How many were taken.

        Returns:
            The checkpoint that holds the state.
        """
        if self._latest is not None and self._latest[1:] == (steps, self.epoch):
            return self._latest[0]
        folder = self._checkpoint_dir
        meta = {'epoch': self.epoch, 'iter': steps}
        self.save_checkpoint(folder, STOPPED, meta=meta, by_epoch=False)
        if is_main_process():
            set_hint(Path(self.work_dir), Path(folder, STOPPED))
        return Path(folder, STOPPED)

    @property
    def _checkpoint_dir(self) -> str:
        folders = (h.out_dir for h in self.hooks if isinstance(h, CheckpointHook))
        return next(folders, None) or self.work_dir


def _set_last(checkpoint: Path) -> None:
    """Make ``last.pth`` beside ``checkpoint`` another name of it, or a copy."""
    last = checkpoint.with_name('last.pth')
    if last.is_file() and last.samefile(checkpoint):
        return
    draft = draft_of(last)
    draft.unlink(missing_ok=True)
    try:
        os.link(checkpoint, draft)
    except OSError:  # Not every file system has hard links.
        shutil.copyfile(checkpoint, draft)
        sync(draft)
    os.replace(draft, last)
    sync(last.parent)
