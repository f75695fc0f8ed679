"""mmengine's runner, made quiet and built from a config with readable errors."""

from __future__ import annotations

import io
import itertools
import logging
import os
import pickle
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import Runner
from torch import nn

from ..blame import in_worker, one_line, place_of
from ..distributed import world_size
from ..errors import ConfigError, NASError
from ..host import RUNNER_PARTS, require_runner
from .hooks.fields import CheckpointFieldsHook

__all__ = ['QuietRunner', 'allow_checkpoint_types', 'build_runner', 'reason_of']

_RUN_NUMBERS = itertools.count()

_STATISTICS = ('min', 'max', 'current', 'mean')


def _method_of_history(owner: Any, name: Any) -> Any:
    """Stand in for ``getattr`` in checkpoints, for the methods of a history buffer alone."""
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise pickle.UnpicklingError(f'the attribute {name!r} of {owner!r} is not allowed')
    return getattr(owner, name)


# The name under which a checkpoint asks for it; see allow_checkpoint_types.
_method_of_history.__module__, _method_of_history.__qualname__ = 'builtins', 'getattr'


def allow_checkpoint_types() -> None:
    """Let ``torch.load`` read what mmengine writes into its checkpoints.

    Its message hub holds history buffers of numpy scalars, and these name four
    of their own methods by ``getattr``; weights-only loading refuses both.
    Just these types and methods are allowed; nothing else is.
    """
    if not hasattr(torch.serialization, 'add_safe_globals'):
        return
    multiarray = getattr(np, '_core', None) or np.core
    scalars = [np.float64, np.float32, np.int64, np.int32, np.bool_]
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            _method_of_history,
            np.ndarray,
            np.dtype,
            multiarray.multiarray.scalar,
            multiarray.multiarray._reconstruct,
            *[type(np.dtype(scalar)) for scalar in scalars],
            *scalars,
        ]
    )


class QuietRunner(Runner):
    """A runner that logs to its file, and to the terminal nothing but errors."""

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        """Build the logger and quiet its handlers that write to a terminal."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (
                sys.stdout,
                sys.stderr,
            ):
                handler.setLevel(logging.ERROR)
        return logger

    def build_train_loop(self, loop: Any) -> Any:
        """Build the train loop and its loaders; what does not fit is the config's fault."""
        with _readable_errors('The train loop of `train_cfg`, or its loaders,'):
            return super().build_train_loop(loop)

    def build_val_loop(self, loop: Any) -> Any:
        """Build the validation loop and its loader."""
        with _readable_errors('The validation loop of `val_cfg`, or its loader or evaluator,'):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: Any) -> Any:
        """Build the test loop and its loader."""
        with _readable_errors('The test loop of `test_cfg`, or its loader or evaluator,'):
            return super().build_test_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the optimizers."""
        with _readable_errors('The optimizers of `optim_wrapper`'):
            return super().build_optim_wrapper(optim_wrapper)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the schedulers."""
        with _readable_errors('The schedulers of `param_scheduler`'):
            return super().build_param_scheduler(scheduler)

    def load_or_resume(self) -> None:
        """Read the checkpoint that the run begins with, if there is one."""
        with _readable_errors('The checkpoint to begin with', 'used'):
            super().load_or_resume()

    def load_checkpoint(
        self, filename: str, map_location: Any = 'cpu', strict: bool = False, **kwargs: Any
    ) -> Any:
        """Read a checkpoint; one to resume from has to fit exactly."""
        # The host prints where it loads from.
        with redirect_stdout(io.StringIO()):
            return super().load_checkpoint(
                filename, map_location, strict=strict or self._resume, **kwargs
            )

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint in one go, and let ``last.pth`` be the latest of them."""
        draft = f'.{filename}.{os.getpid()}'
        super().save_checkpoint(out_dir, draft, *args, **kwargs)
        if is_main_process():
            target = Path(out_dir, filename)
            os.replace(Path(out_dir, draft), target)
            if not filename.startswith('best_'):
                _set_last(target)

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """Move the model to its device, and make it equal on all ranks.

        There is no wrapper: a search and a retraining average their gradients
        themselves, since a reducer does not see ``torch.autograd.grad``.
        """
        model = model.to(get_device())
        _send_from_first_rank(model)
        return model

    def _init_model_weights(self) -> None:
        # The host's own sends every entry of the state, which need not be tensors.
        if hasattr(self.model, 'init_weights'):
            self.model.init_weights()
        _send_from_first_rank(self.model)


def build_runner(
    cfg: Config,
    model: nn.Module,
    work_dir: Path,
    hooks: Sequence[Hook] = (),
    *,
    resume: bool = False,
    launcher: str = 'none',
) -> Runner:
    """Build a runner for ``model`` from the rest of a config.

    Args:
        cfg: The config.
        model: Built from ``cfg.model``.
        work_dir: Where the run writes.
        hooks: Beside those of the config.
        resume: Whether to go on from the latest checkpoint in ``work_dir``.
        launcher: ``'none'`` or ``'pytorch'``.

    Raises:
        ConfigError: An entry that the runner does not take.
        HostError: mmcv 1.x is the host, even if mmengine is there as well.
    """
    require_runner('A job')
    allow_checkpoint_types()
    if launcher == 'pytorch' and not torch.cuda.is_available():
        _join_on_cpu()
    parts = {key: cfg.get(key) for key in RUNNER_PARTS if cfg.get(key) is not None}
    with _readable_errors('The runner of the config'):
        return QuietRunner(
            model=model,
            work_dir=str(work_dir),
            # Each rank has seen other images, but the statistics of norms are one network's.
            custom_hooks=[
                *(cfg.get('custom_hooks') or []),
                *hooks,
                {'type': 'SyncBuffersHook'},
                CheckpointFieldsHook(),
            ],
            resume=resume,
            launcher=launcher,
            log_level='INFO',
            default_scope=cfg.get('default_scope'),
            # Loggers and message hubs are global: a name must not come twice.
            experiment_name=f'{work_dir.name}_{next(_RUN_NUMBERS)}',
            cfg=Config({'work_dir': str(work_dir)}),
            **parts,
        )


def _set_last(checkpoint: Path) -> None:
    """Make ``last.pth`` beside ``checkpoint`` another name of it, or a copy."""
    draft = checkpoint.with_name(f'.last.{os.getpid()}')
    draft.unlink(missing_ok=True)
    try:
        os.link(checkpoint, draft)
    except OSError:  # Not every file system has hard links.
        shutil.copyfile(checkpoint, draft)
    os.replace(draft, checkpoint.with_name('last.pth'))


def _send_from_first_rank(model: nn.Module) -> None:
    """Make a model equal on all ranks."""
    if world_size() > 1:
        for tensor in model.state_dict().values():
            if isinstance(tensor, torch.Tensor):
                torch.distributed.broadcast(tensor, src=0)


def _join_on_cpu() -> None:
    """Join the processes of ``torchrun``; the host's way asks for a CUDA device.

    Raises:
        ConfigError: This process was not started by ``torchrun``.
    """
    if torch.distributed.is_initialized():
        return
    missing = {'RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'} - {*os.environ}
    if missing:
        raise ConfigError(
            "launcher='pytorch' is for processes that torchrun starts, but the environment "
            f'has no {", ".join(sorted(missing))}; start with: torchrun --nproc_per_node 2 -m '
            'mmrazor_mutators ... --launcher pytorch'
        )
    torch.distributed.init_process_group('gloo')


@contextmanager
def _readable_errors(what: str, verb: str = 'built') -> Iterator[None]:
    """Turn what the host raises over a config or a checkpoint into our own errors."""
    try:
        yield
    except (NASError, MemoryError):
        raise
    except Exception as error:  # The host lets through whatever its parts raise.
        cause = next((e for e in _causes(error) if isinstance(e, NASError)), None)
        if cause is not None:
            raise cause from error
        place = place_of(error)
        where = f' ({place})' if place else ''
        raise ConfigError(f'{what} cannot be {verb}: {reason_of(error)}{where}') from error


def reason_of(error: Exception) -> str:
    """Return what an error of torch or of the host says, without its advice.

    >>> reason_of(ValueError('no such key'))
    'ValueError: no such key'
    """
    if in_worker(error):
        return one_line(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, pickle.UnpicklingError) and len(lines) > 1:
        refused = [line.split('. ')[0] for line in lines if 'WeightsUnpickler error' in line]
        lines = refused or lines[:1]
    return f'{type(error).__name__}: {" ".join(lines[:4]) or "no reason given"}'


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and what led to it."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain
