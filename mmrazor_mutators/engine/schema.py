"""What the entries of a config have to be, checked before anything is built of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import ConfigError, did_you_mean

__all__ = ['SECTIONS', 'check_entries']

Check = tuple[Callable[[Any], bool], str]


def _whole(least: int) -> Check:
    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31

    return fits, f'a whole number from {least} to 2147483647'


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _is(kinds: Any, what: str) -> Check:
    return (lambda value: isinstance(value, kinds)), what


_DICT = _is(Mapping, 'a dict')
_LIST = _is((list, tuple), 'a list')
_TEXT = _is(str, 'a string')
_BOOL = _is(bool, 'True or False')
_POSITIVE: Check = (lambda value: _is_number(value) and value > 0), 'a number above 0'
_PATHS: Check = _is((str, list, tuple), 'a path')
_DICTS: Check = (
    lambda value: (
        isinstance(value, Mapping)
        or (isinstance(value, (list, tuple)) and all(isinstance(v, Mapping) for v in value))
    ),
    'a dict, or a list of dicts',
)
_HOOKS: Check = (
    lambda value: (
        isinstance(value, Mapping)
        and all(v is None or isinstance(v, Mapping) for v in value.values())
    ),
    'a dict of dicts with a `type`, each of which may be None',
)
_PART: Check = (
    lambda value: isinstance(value, Mapping) and isinstance(value.get('type'), (str, type)),
    'a dict with a `type`',
)
_COLLATE: Check = (
    lambda value: (
        callable(value)
        or (isinstance(value, Mapping) and isinstance(value.get('type'), (str, type)))
    ),
    'a function, or a dict with a `type`',
)

_EVERYWHERE: dict[str, Check] = {
    'batch_size': _whole(1),
    'num_workers': _whole(0),
    'prefetch_factor': _whole(1),
    'max_epochs': _whole(0),
    'max_iters': _whole(0),
    'val_interval': _whole(1),
    'val_begin': _whole(0),
    'by_epoch': _BOOL,
    'persistent_workers': _BOOL,
    'pin_memory': _BOOL,
    'drop_last': _BOOL,
    'collate_fn': _COLLATE,
    'sampler': _DICT,
    'dataset': _DICT,
    'init_cfg': _DICTS,
    'clip_grad': _DICT,
    'max_norm': _POSITIVE,
    'norm_type': _is((int, float, str), 'a number'),
    'accumulative_counts': _whole(1),
    'arch_dataloader': _DICT,
    'optimizer': _DICT,
    'paramwise_cfg': _DICT,
    'interval': _whole(1),
}
"""Entries that mean the same wherever they stand in the runner's part; ``None`` is none."""

_TOP: dict[str, Check] = {
    'model': _PART,
    'retrain': _DICT,
    'train_cfg': _DICT,
    'val_cfg': _DICT,
    'test_cfg': _DICT,
    'optim_wrapper': _DICT,
    'param_scheduler': _DICTS,
    'val_evaluator': _DICTS,
    'test_evaluator': _DICTS,
    'default_hooks': _HOOKS,
    'custom_hooks': _LIST,
    'randomness': _DICT,
    'env_cfg': _DICT,
    'log_processor': _DICT,
    'visualizer': _DICT,
    'data_preprocessor': _DICT,
    'auto_scale_lr': _DICT,
    'work_dir': _TEXT,
    'data_root': _PATHS,
    'load_from': _TEXT,
    'default_scope': _TEXT,
    'train_dataloader': _DICT,
    'val_dataloader': _DICT,
    'test_dataloader': _DICT,
}

_ANY: Check = (lambda value: True), 'anything'
_CHECKPOINTS: dict[str, Check] = {
    'type': _ANY,
    'priority': _ANY,
    'interval': _is(int, 'a whole number'),
    'max_keep_ckpts': _is(int, 'a whole number'),
    'by_epoch': _BOOL,
    'save_optimizer': _BOOL,
    'save_param_scheduler': _BOOL,
    'save_last': _BOOL,
    'save_begin': _whole(0),
    'out_dir': _TEXT,
    'save_best': _PATHS,
    'rule': _PATHS,
    'greater_keys': _LIST,
    'less_keys': _LIST,
    'file_client_args': _DICT,
    'filename_tmpl': _TEXT,
    'backend_args': _DICT,
    'published_keys': _PATHS,
}
"""What mmengine's ``CheckpointHook`` takes."""

_RANDOMNESS: dict[str, Check] = {
    'seed': _whole(0),
    'deterministic': _BOOL,
    'diff_rank_seed': _BOOL,
}

_MODEL: dict[str, Check] = {
    'architecture': _DICT,
    'mutator': _PART,
    'loss': _DICT,
    'init_cfg': _DICTS,
}

SECTIONS: dict[str, dict[str, Check]] = {
    '': _TOP,
    'model': _MODEL,
    'randomness': _RANDOMNESS,
    'default_hooks.checkpoint': _CHECKPOINTS,
    '*': _EVERYWHERE,
}
"""All entries that are checked, by where they stand; ``'*'`` is anywhere but in data sets."""


def check_entries(cfg: Mapping[str, Any]) -> None:
    """Refuse entries of another type or out of their range.

    Args:
        cfg: A whole config.

    Raises:
        ConfigError: Which entry, what was expected there, and what came.
    """
    for part, where in ((cfg, ''), (cfg.get('retrain'), 'retrain.')):
        if where and part is None:
            continue
        if not isinstance(part, Mapping):
            raise ConfigError(f'Expected `retrain` to be a dict, but got {part!r}')
        top = {**_TOP, 'model': _DICT} if where else _TOP
        for key, check in top.items():
            _check(f'{where}{key}', part.get(key), check)
        for key, check in _MODEL.items():
            # What differs in a retraining is merged into the search's, which has a type.
            check = _DICT if where and check is _PART else check
            _check(f'{where}model.{key}', (part.get('model') or {}).get(key), check)
        for key, check in _RANDOMNESS.items():
            _check(f'{where}randomness.{key}', (part.get('randomness') or {}).get(key), check)
        for name, value in part.items():
            if name in ('model', 'retrain'):
                continue
            for path, key, entry in _entries(value, f'{where}{name}'):
                if key in _EVERYWHERE:
                    _check(path, entry, _EVERYWHERE[key])
            if name.endswith('_dataloader') and not where:
                _check_loader(name, value)
    _check_checkpoints(cfg.get('default_hooks') or {})
    arch = (cfg.get('train_cfg') or {}).get('arch_dataloader')
    _check_loader('train_cfg.arch_dataloader', arch)


def _check_checkpoints(hooks: Mapping[str, Any]) -> None:
    """Check what the hook that writes checkpoints passes on without a look."""
    hook = hooks.get('checkpoint')
    for key, value in (hook or {}).items():
        if key not in _CHECKPOINTS:
            raise ConfigError(
                f'The entry `default_hooks.checkpoint` takes no {key!r}; '
                f'{did_you_mean(str(key), _CHECKPOINTS)}'
            )
        path, (fits, what) = f'default_hooks.checkpoint.{key}', _CHECKPOINTS[key]
        if value is None and key in ('interval', 'max_keep_ckpts'):
            raise ConfigError(f'Expected `{path}` to be {what}, but got None')
        _check(path, value, (fits, what))


def _check_loader(name: str, loader: Any) -> None:
    sampled = isinstance(loader, Mapping) and loader.get('batch_sampler') is not None
    if isinstance(loader, Mapping) and loader.get('batch_size') is None and not sampled:
        raise ConfigError(f'Expected `{name}.batch_size` to say how many samples a batch has')


def _check(path: str, value: Any, check: Check) -> None:
    fits, what = check
    if value is not None and not fits(value):
        raise ConfigError(f'Expected `{path}` to be {what}, but got {value!r}')


def _entries(value: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield ``(path, key, entry)`` of all dicts inside of a value, but not of data sets."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield f'{path}.{key}', str(key), entry
            if key != 'dataset':
                yield from _entries(entry, f'{path}.{key}')
    elif isinstance(value, (list, tuple)):
        for number, entry in enumerate(value):
            yield from _entries(entry, f'{path}[{number}]')
