"""The train loop of a one-shot search: a supernet, then an evolution over its paths."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from mmengine.dist import is_main_process
from rich.console import Console

from ..algorithms import SPOS
from ..checks import check_count
from ..durable import write_durably
from ..errors import ConfigError
from ..registry import LOOPS
from ..search import Evolution, Scored
from . import signals
from .hooks import ProgressHook, StopHook
from .hooks.progress import open_bar, room_beside
from .lines import fitted, width_of
from .loops import draws_apart, schedules_restored
from .within_epoch import EpochTrainLoop

__all__ = ['OneShotTrainLoop', 'read_evolution']

_FILE = 'evolution.json'
_CHECKSUM = 'sha256'


@LOOPS.register_module()
class OneShotTrainLoop(EpochTrainLoop):
    """Trains a supernet, and lets an evolution find its best path.

    SPOS (Guo et al., ECCV 2020).  The evolution writes ``evolution.json`` into
    the work directory after each generation: every path evaluated, with its
    score, costs and generation.  A run that is resumed goes on from there, with
    the same result.

    Args:
        runner: The runner, whose model is a :class:`SPOS`.
        dataloader: Loader of the images that train the supernet, or its config.
        max_epochs: Number of epochs of the supernet; the evolution has its own.  With
            0 only the evolution is run, on the weights of ``load_from``.
        arch_dataloader: Loader of the images on which paths are scored, or its
            config; best without shuffling and augmentation.
        evolution: Options of the :class:`Evolution`, by default those of the
            paper.
        calibration_batches: From how many training batches each path gets the
            statistics of its batch norms; the same ones for all paths.  With 0
            it has those of the supernet.
        max_iters: In place of ``max_epochs``, a number of steps; the epoch in which
            the last of them falls is finished.
        **kwargs: As for ``EpochBasedTrainLoop``.

    Raises:
        ConfigError: A loader that is missing or has no batch, another model, or
            an option outside of its range.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_epochs: int | None = None,
        arch_dataloader: Any = None,
        evolution: Mapping[str, Any] | None = None,
        calibration_batches: int = 20,
        max_iters: int | None = None,
        **kwargs: Any,
    ) -> None:
        if (max_epochs is None) == (max_iters is None):
            raise ConfigError(
                'Expected either `max_epochs` or `max_iters` for an OneShotTrainLoop, but got '
                f'{max_epochs} and {max_iters}'
            )
        super().__init__(runner, dataloader, max_epochs or 0, **kwargs)
        if not isinstance(self._model, SPOS):
            raise ConfigError(
                'Expected the model of an OneShotTrainLoop to be SPOS, but got '
                f'{type(self._model).__name__}'
            )
        if isinstance(arch_dataloader, Mapping):
            arch_dataloader = runner.build_dataloader(dict(arch_dataloader), seed=runner.seed)
        if arch_dataloader is None:
            raise ConfigError(
                'Expected `arch_dataloader` of an OneShotTrainLoop to be a loader or its '
                'config, on whose images paths are scored, but got None'
            )
        for name, loader in (
            ('dataloader', self.dataloader),
            ('arch_dataloader', arch_dataloader),
        ):
            if len(loader) == 0:
                raise ConfigError(
                    f'`{name}` has no batch: expected at least one full batch, but its data '
                    f'set has {len(loader.dataset)} samples'
                )
        if max_iters is not None:
            self._max_epochs = -(-check_count('max_iters', max_iters) // len(self.dataloader))
            self._max_iters = self._max_epochs * len(self.dataloader)
        self.arch_dataloader = arch_dataloader
        self.calibration_batches = check_count('calibration_batches', calibration_batches, 0)
        options = dict(evolution or {})
        self.evolution: Evolution = self._model.build_evolution(
            **{'seed': runner.seed, **options}
        )

    @property
    def _model(self) -> Any:
        return getattr(self.runner.model, 'module', self.runner.model)

    @property
    def _path(self) -> Path:
        return Path(self.runner.work_dir, _FILE)

    def run_epoch(self) -> None:
        """Run one epoch of the supernet."""
        with schedules_restored(self._model, self.going_on is not None):
            self._model.on_epoch(self._epoch, self._max_epochs, self._iter)
        super().run_epoch()

    def run(self) -> Any:
        """Train the supernet, and then let the evolution choose."""
        # Before anything is trained: without a feasible path all of it is in vain.
        self.evolution.ask()
        # By iterations, the last checkpoint is one within the last epoch.
        stays = self.runner._resume and self._iter >= self._max_iters
        if not stays and is_main_process():
            # It would be of another supernet than the one to come.
            with suppress(FileNotFoundError):
                self._path.unlink()
        result = super().run()
        if self._path.is_file():
            self.evolution.load_state_dict(read_evolution(self._path))
        self._evolve()
        mutator = self._model.mutator
        mutator.set_chosen_subnet(mutator.subnet_to_masks(self.evolution.best.candidate))
        return result

    def _evolve(self) -> None:
        progress = next((h for h in self.runner.hooks if isinstance(h, ProgressHook)), None)
        if progress is not None:
            progress.close()  # A terminal shows one bar at a time.
        console = progress.console if progress is not None and is_main_process() else None
        calibration = self._calibration()
        evolution, begun, bar = self.evolution, time.perf_counter(), None
        signals.requests.in_steps = True
        try:
            while not evolution.finished:
                epoch, waiting = evolution.epoch, evolution.ask()
                if bar is None and console is not None:
                    bar = open_bar(console, 'evolution', evolution.max_epoch)
                for number, candidate in enumerate(waiting):
                    if bar is not None and console is not None:
                        bar.update(
                            bar.task_ids[0],
                            completed=epoch + number / len(waiting),
                            shown=_shown(evolution, number, len(waiting), console),
                        )
                    score = self._model.score(candidate, self.arch_dataloader, calibration)
                    evolution.tell(candidate, score)
                    self._stop_if_asked()
                if is_main_process():
                    _write(self._path, evolution.state_dict())
                self.runner.call_hook('after_generation')
                parts, took = _parts(evolution, epoch), f'{time.perf_counter() - begun:.1f}s'
                self.runner.logger.info('  '.join([*parts, took]))
                if console is not None:
                    line = fitted(parts, took, width_of(console))
                    console.print(line, highlight=False, soft_wrap=True, markup=False)
                begun = time.perf_counter()
        finally:
            signals.requests.in_steps = False
            if bar is not None:
                bar.stop()

    def _stop_if_asked(self) -> None:
        """Write down what was evaluated and end the run, if a signal has asked for it."""
        hook = next((h for h in self.runner.hooks if isinstance(h, StopHook)), None)
        number = hook.agreed() if hook is not None else 0
        if number:
            if is_main_process():
                _write(self._path, self.evolution.state_dict())
            raise signals.Interrupted(number, f'{self._path} holds what was evaluated')

    def _calibration(self) -> Sequence[Any]:
        """Return training batches, the same in a run that was resumed."""
        count = self.calibration_batches
        if not count or self._model.bn_training_mode:
            return []
        sampler = self.dataloader.sampler
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(self._max_epochs)
        with draws_apart(self.runner.seed, self._max_epochs):
            return list(islice(self.dataloader, count))


def _shown(evolution: Evolution, number: int, count: int, console: Console) -> str:
    """Say beside the bar how far a generation is."""
    best = f'best {evolution.best.score:.1f}%' if evolution.evaluated else ''
    parts = [f'epoch {evolution.epoch + 1}/{evolution.max_epoch}', f'{number} of {count}', best]
    return fitted(parts, width=room_beside(console, 'evolution'))


def _parts(evolution: Evolution, epoch: int) -> list[str]:
    """Say how a generation fared."""
    scores = [scored.score for scored in evolution.evaluated if scored.epoch == epoch]
    best: Scored = evolution.best
    last = evolution.max_epoch
    return [
        f'evolution {epoch + 1:>{len(str(last))}}/{last}',
        f'{len(scores)} paths',
        f'median {median(scores):.1f}%',
        f'best {best.score:.1f}%',
        *(f'{name} {cost:.3g}' for name, cost in best.costs.items()),
    ]


def _write(path: Path, state: Mapping[str, Any]) -> None:
    write_durably(path, json.dumps({**state, _CHECKSUM: _checksum(state)}) + '\n')


def read_evolution(path: Path) -> Any:
    """Return the state that an evolution has written.

    Raises:
        ConfigError: It cannot be read, or is not as it was written.
    """
    try:
        state = json.loads(path.read_text(encoding='utf-8'))
        # Those of earlier versions have none.
        told = state.pop(_CHECKSUM, None) if isinstance(state, dict) else None
        if told is not None and told != _checksum(state):
            raise ValueError('its checksum is not that of what was written')
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f'The evolution {str(path)!r} cannot be read: {error}; remove the file to begin it '
            'anew'
        ) from error
    return state


def _checksum(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
