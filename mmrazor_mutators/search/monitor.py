"""Write down, epoch by epoch, what a search believes and how it fares."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..distributed import rank
from ..errors import ConfigError, HostError, InputError
from .measuring import Evaluate, Measure
from .records import EPOCHS_FILE, SPACES_FILE, EpochFile, SpaceFile
from .watching import Look, entropy, look_at, margin

__all__ = ['SearchMonitor']

_OWN = ('epoch', 'entropy', 'margin', 'skips', 'temperature')


class SearchMonitor:
    """Notes the state of a search after each epoch, in any loop.

    ``epochs.csv`` gets a row an epoch: what :meth:`record` is given, and

    - ``entropy``: mean over spaces of how undecided they are, from 0 to 1,
    - ``margin``: mean over spaces of the lead of the first choice, in probability,
    - ``skips``: skip connections in the network that would be found now,
    - ``temperature``: where the mutator has one,
    - what extensions tell, as ``cost_params``, ``found_params`` and ``budget_params``,
    - ``supernet_accuracy`` and ``network_accuracy``, of the supernet as it is relaxed and of
      the network read off from it, given or measured.

    ``spaces.csv`` gets a row for each choice that has not left the search: ``epoch``,
    ``space_id``, ``choice``, ``logit`` (its architecture parameter; empty in a space without)
    and ``probability``. Both are whole after a kill, except for a last row of the second. A
    search that is resumed goes on in them: rows of epochs from the recorded one on are
    replaced. On several ranks all have to record; the first one writes.

    Args:
        supernet: That is searched.
        mutator: Prepared from it.
        out_dir: Where to write; made if it is not there. By default nothing is written.
        tensorboard: Whether to write the same for TensorBoard into ``out_dir/tensorboard``.
        evaluate: ``network -> number``, to measure both accuracies with.
        loader: In place of ``evaluate``: batches of inputs and class indices.
        batches: How many of them are used each time; all by default.
        calibration: Training batches, as many of which give the network read off the
            statistics of its own batch norms.
        interval: Measure in epochs whose number is a multiple of this.

    Raises:
        ConfigError: ``tensorboard`` without ``out_dir``, options of no use, or a folder that
            cannot be made.
        HostError: TensorBoard is not installed.

    >>> import mmrazor_mutators as mm
    >>> choices = dict(skip=nn.Identity(), tanh=nn.Tanh())
    >>> supernet = mm.DifferentiableOP(space_id='a', choices=choices)
    >>> mutator = mm.DartsMutator(init={'a': [0.0, 1.0]})
    >>> mutator.prepare_from_supernet(supernet)
    >>> monitor = mm.SearchMonitor(supernet, mutator)
    >>> row = monitor.record(0, loss=2.5)
    >>> {name: round(value, 3) for name, value in row.items()}
    {'loss': 2.5, 'entropy': 0.84, 'margin': 0.462, 'skips': 0.0}
    """

    def __init__(
        self,
        supernet: nn.Module,
        mutator: Any,
        out_dir: str | os.PathLike[str] | None = None,
        tensorboard: bool = False,
        *,
        evaluate: Evaluate | None = None,
        loader: Iterable[Any] | None = None,
        batches: int | None = None,
        calibration: Iterable[Any] | None = None,
        interval: int = 1,
    ) -> None:
        if tensorboard and out_dir is None:
            raise ConfigError('Expected `out_dir` with tensorboard=True, but got None')
        self.supernet, self.mutator = supernet, mutator
        self._measure = Measure(evaluate, loader, batches, calibration, interval)
        self._folder = None if out_dir is None or rank() else Path(out_dir)
        self._tensorboard = tensorboard
        self._files: tuple[EpochFile, SpaceFile] | None = None
        self._board: Any = None
        if tensorboard:
            _writer_class()
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(
                    f'Cannot make the folder {str(out_dir)!r}: {error.strerror}'
                ) from error

    def record(self, epoch: int, **values: Any) -> dict[str, float]:
        """Note an epoch that is over.

        Args:
            epoch: Its number, larger than those before.
            **values: Numbers, such as losses; ``supernet_accuracy`` and ``network_accuracy``
                take the place of measured ones.

        Returns:
            What was noted in the row of the epoch.

        Raises:
            InputError: A number of an epoch or a value that is none, or a name that is taken.
            ConfigError: A file that cannot be written.
        """
        _check_epoch(epoch)
        row = {name: _number(name, value) for name, value in values.items()}
        look = look_at(self.mutator)
        numbers = {**look.numbers, **_figures(self.mutator, look)}
        if self._measure.is_due(epoch):
            measured = self._measure(self.supernet, self.mutator, look.subnet)
            numbers.update({n: v for n, v in measured.items() if n not in row})
        taken = sorted({*_OWN, *numbers} & row.keys())
        if taken:
            raise InputError(
                f'Expected other names than {", ".join(map(repr, taken))} for the values of an '
                'epoch, which the monitor notes itself'
            )
        row.update(numbers)
        if self._folder is not None:
            epochs, spaces = self._opened()
            epochs.rewind(epoch)
            spaces.write(epoch, look.spaces)
            epochs.write(epoch, row)
            if self._tensorboard:
                self._write_board(epoch, row, look)
        return row

    def rewind(self, epoch: int) -> None:
        """Forget what an earlier run noted of an epoch and of those after it.

        Raises:
            InputError: A number of an epoch that is none.
            ConfigError: A file that cannot be written.
        """
        _check_epoch(epoch)
        if self._folder is not None:
            for file in self._opened():
                file.rewind(epoch)

    def close(self) -> None:
        """Close what is open; another :meth:`record` opens it again."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _opened(self) -> tuple[EpochFile, SpaceFile]:
        if self._files is None and self._folder is not None:
            epochs = EpochFile(self._folder / EPOCHS_FILE)
            self._files = epochs, SpaceFile(self._folder / SPACES_FILE)
        return self._files  # type: ignore[return-value]

    def _write_board(self, epoch: int, row: Mapping[str, float], look: Look) -> None:
        if self._board is None:
            folder = str(self._folder / 'tensorboard')  # type: ignore[operator]
            self._board = _writer_class()(folder, purge_step=epoch)
        for name, value in row.items():
            self._board.add_scalar(f'search/{name}', value, epoch)
        for space_id, space in look.spaces.items():
            if space.logits is not None:
                probabilities = space.probabilities
                self._board.add_scalar(f'entropy/{space_id}', entropy(probabilities), epoch)
                self._board.add_scalar(f'margin/{space_id}', margin(probabilities), epoch)
            for choice, p in zip(space.choices, space.probabilities, strict=True):
                self._board.add_scalar(f'probability/{space_id}/{choice}', p, epoch)
            for choice, logit in zip(space.choices, space.logits or (), strict=False):
                self._board.add_scalar(f'logit/{space_id}/{choice}', logit, epoch)
        self._board.flush()


def _figures(mutator: Any, look: Look) -> dict[str, float]:
    found = {}
    if isinstance(getattr(mutator, 'tau', None), (int, float)):
        found['temperature'] = float(mutator.tau)
    with torch.no_grad():
        for extension in getattr(mutator, 'extensions', ()):
            told = extension.figures(mutator, look.subnet)
            found.update({name: _number(name, value) for name, value in told.items()})
    return found


def _check_epoch(epoch: Any) -> None:
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        raise InputError(f'Expected an epoch to be an int of at least 0, but got {epoch!r}')


def _number(name: str, value: Any) -> float:
    is_one = isinstance(value, torch.Tensor) and value.numel() == 1
    try:
        if isinstance(value, str):
            raise TypeError('a text')
        return float(value.detach()) if is_one else float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f'Expected `{name}` to be a number, but got {value!r}') from error


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise HostError(
            f'tensorboard=True needs TensorBoard, which cannot be imported here ({error}). '
            'Install it with: pip install "mmrazor-mutators[tensorboard]"'
        ) from error
    return SummaryWriter
