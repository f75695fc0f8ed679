"""mmengine's runner, made quiet and built from a config with readable errors."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import Runner
from torch import nn

from ..blame import place_of, reason_of
from ..distributed import world_size
from ..errors import ConfigError, NASError
from ..host import RUNNER_PARTS, require_runner
from ..registry import SCOPE
from .hooks.agreed_buffers import AgreedBuffersHook
from .hooks.fields import CheckpointFieldsHook
from .hooks.stopping import StopHook
from .lost_ranks import introduce_ranks
from .saving import SavingRunner

__all__ = ['QuietRunner', 'allow_checkpoint_types', 'build_runner']

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


class QuietRunner(SavingRunner):
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
            return super().build_train_loop(_within_epochs(loop))

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
        _join_on_cpu(cfg)
    parts = {key: cfg.get(key) for key in RUNNER_PARTS if cfg.get(key) is not None}
    with _readable_errors('The runner of the config'):
        runner = QuietRunner(
            model=model,
            work_dir=str(work_dir),
            # Each rank has seen other images, but the statistics of norms are one network's.
            custom_hooks=[
                *(cfg.get('custom_hooks') or []),
                *hooks,
                {'type': 'SyncBuffersHook'},
                AgreedBuffersHook(),
                StopHook(),
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
    introduce_ranks()
    return runner


_OF_HOST = {'EpochBasedTrainLoop': 'EpochTrainLoop', 'IterBasedTrainLoop': 'StepTrainLoop'}


def _within_epochs(loop: Any) -> Any:
    """Return the config of a loop of the host as that of ours, which goes on within epochs."""
    if not isinstance(loop, dict):
        return loop
    kind = loop.get('type')
    if kind is None and 'by_epoch' in loop:
        kind = 'EpochBasedTrainLoop' if loop['by_epoch'] else 'IterBasedTrainLoop'
    if kind not in _OF_HOST:
        return loop
    rest = {key: value for key, value in loop.items() if key != 'by_epoch'}
    return {**rest, 'type': f'{SCOPE}.{_OF_HOST[kind]}'}


def _send_from_first_rank(model: nn.Module) -> None:
    """Make a model equal on all ranks."""
    if world_size() > 1:
        for tensor in model.state_dict().values():
            if isinstance(tensor, torch.Tensor):
                torch.distributed.broadcast(tensor, src=0)


def _join_on_cpu(cfg: Config) -> None:
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
    given = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout')
    timeout = None if given is None else timedelta(seconds=_seconds(given))
    torch.distributed.init_process_group('gloo', timeout=timeout)


def _seconds(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given < 1e9:
        raise ConfigError(
            'Expected `timeout` of `env_cfg.dist_cfg` to be a number of seconds above 0, but '
            f'got {given!r}'
        )
    return float(given)


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


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and what led to it."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain
