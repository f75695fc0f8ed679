"""mmengine's runner, made quiet and built from a config with readable errors."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Sequence
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

from ..distributed import world_size
from ..errors import ConfigError, NASError

__all__ = ['QuietRunner', 'allow_checkpoint_types', 'build_runner']

_RUN_NUMBERS = itertools.count()

_PARTS = (
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    'train_cfg',
    'val_cfg',
    'test_cfg',
    'auto_scale_lr',
    'optim_wrapper',
    'param_scheduler',
    'val_evaluator',
    'test_evaluator',
    'default_hooks',
    'data_preprocessor',
    'load_from',
    'env_cfg',
    'log_processor',
    'visualizer',
    'randomness',
)
"""Entries of a config that are the runner's own arguments."""


def allow_checkpoint_types() -> None:
    """Let ``torch.load`` read what mmengine writes into its checkpoints.

    Its message hub holds history buffers of numpy scalars, which weights-only
    loading refuses.  Just these types are allowed; nothing else is.
    """
    if not hasattr(torch.serialization, 'add_safe_globals'):
        return
    multiarray = getattr(np, '_core', None) or np.core
    scalars = [np.float64, np.float32, np.int64, np.int32, np.bool_]
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
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

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """Move the model to its device, and make it equal on all ranks.

        There is no wrapper: a search and a retraining average their gradients
        themselves, since a reducer does not see ``torch.autograd.grad``.
        """
        model = model.to(get_device())
        if world_size() > 1:
            for tensor in model.state_dict().values():
                if isinstance(tensor, torch.Tensor):
                    torch.distributed.broadcast(tensor, src=0)
        return model


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
    """
    allow_checkpoint_types()
    if 'env_cfg' not in cfg and not torch.cuda.is_available():
        cfg = Config({**cfg.to_dict(), 'env_cfg': {'dist_cfg': {'backend': 'gloo'}}})
    parts = {key: cfg.get(key) for key in _PARTS if cfg.get(key) is not None}
    try:
        return QuietRunner(
            model=model,
            work_dir=str(work_dir),
            custom_hooks=[*(cfg.get('custom_hooks') or []), *hooks],
            resume=resume,
            launcher=launcher,
            log_level='INFO',
            default_scope=cfg.get('default_scope'),
            # Loggers and message hubs are global: a name must not come twice.
            experiment_name=f'{work_dir.name}_{next(_RUN_NUMBERS)}',
            cfg=Config({'work_dir': str(work_dir)}),
            **parts,
        )
    except (NASError, OSError):
        raise
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
        cause = next((e for e in _causes(error) if isinstance(e, NASError)), None)
        if cause is not None:
            raise cause from error
        raise ConfigError(
            f'The runner cannot be built from the config: {type(error).__name__}: {error}'
        ) from error


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and what led to it."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain
