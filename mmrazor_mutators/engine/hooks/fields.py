"""What is in a checkpoint to go on from, checked before any of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.logging.history_buffer import HistoryBuffer

from ...errors import ConfigError
from ...search.fields import (
    check_counter,
    check_fields,
    check_names,
    check_optimizer_fields,
    shortened,
)

__all__ = ['CheckpointFieldsHook']


class CheckpointFieldsHook(Hook):
    """Refuses a checkpoint one of whose fields is of another type or shape."""

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Any, checkpoint: Any) -> None:
        """Check all but the weights, which the model compares by itself.

        Raises:
            ConfigError: Which field, what was expected there, and what came.
        """
        if not runner._resume:
            return
        check_fields('checkpoint', checkpoint, {'state_dict': {}, 'meta': {'epoch': 0}})
        check_names(checkpoint.get('state_dict', {}))
        meta = checkpoint.get('meta', {})
        for name in ('epoch', 'iter'):
            if name in meta:
                check_counter(f'meta.{name}', meta[name])
        check_fields('meta', meta, {'seed': 0, 'experiment_name': '', 'dataset_meta': {}})
        if 'optimizer' in checkpoint:
            self._check_optimizers(runner.optim_wrapper, checkpoint['optimizer'])
        if 'param_schedulers' in checkpoint:
            _check_schedulers(runner.param_schedulers, checkpoint['param_schedulers'])
        _check_messages(checkpoint.get('message_hub', {}))

    def _check_optimizers(self, wrapper: Any, given: Any) -> None:
        if hasattr(wrapper, 'optim_wrappers'):
            check_fields('optimizer', given, {key: {} for key in wrapper.optim_wrappers})
            for name, inner in wrapper.optim_wrappers.items():
                if name in given:
                    check_optimizer_fields(f'optimizer.{name}', inner.optimizer, given[name])
        elif hasattr(wrapper, 'optimizer'):
            check_optimizer_fields('optimizer', wrapper.optimizer, given)


def _check_schedulers(ours: Any, given: Any) -> None:
    if isinstance(ours, Mapping):
        states: Any = {name: _states_of(listed) for name, listed in ours.items()}
    else:
        states = _states_of(ours)
    check_fields('param_schedulers', given, states)


def _states_of(schedulers: Any) -> list[dict[str, Any]]:
    return [scheduler.state_dict() for scheduler in schedulers or ()]


def _check_messages(given: Any) -> None:
    names = ('log_scalars', 'runtime_info', 'resumed_keys')
    check_fields('message_hub', given, {name: {} for name in names})
    for name in names:
        for key in given.get(name, {}):
            check_fields(f'message_hub.{name}, a name in it,', key, '')
    for name, buffer in given.get('log_scalars', {}).items():
        _check_history(f'message_hub.log_scalars.{name}', buffer)
    for name, kept in given.get('resumed_keys', {}).items():
        if not isinstance(kept, bool):
            raise ConfigError(
                f'Expected `message_hub.resumed_keys.{name}` of the saved state to be True or '
                f'False, but got {shortened(kept)}'
            )


def _check_history(name: str, buffer: Any) -> None:
    check_fields(name, buffer, HistoryBuffer())
    held = [vars(buffer).get(key) for key in ('_log_history', '_count_history')]
    fits = all(
        isinstance(x, np.ndarray) and x.dtype.kind in 'fiu' and x.ndim == 1 for x in held
    )
    longest = getattr(buffer, 'max_length', None)
    if not fits or len(held[0]) != len(held[1]) or type(longest) is not int or longest < 1:
        raise ConfigError(
            f'Expected `{name}` of the saved state to hold as many numbers as counts, but got '
            f'{", ".join(shortened(value) for value in (*held, longest))}'
        )
