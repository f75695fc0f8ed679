"""Whole config files of MMRazor v0.2.0, translated into ours."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..host import RUNNER_PARTS, Config
from ..registry import SCOPE
from .v0_data import loader_of
from .v0_schedule import optim_wrapper_of, schedulers_of

__all__ = ['HOOKS', 'is_legacy_config', 'report', 'translate', 'translated']

HOOKS = {
    'SearchSubnetHook': (
        'by_epoch',
        'filename_tmpl',
        'interval',
        'max_keep_ckpts',
        'max_keep_subnets',
        'out_dir',
        'priority',
        'save_last',
    ),
    'DropPathProbHook': ('by_epoch', 'interval', 'max_prob', 'priority'),
}
_CHECKPOINT = (
    'by_epoch',
    'filename_tmpl',
    'interval',
    'max_keep_ckpts',
    'out_dir',
    'save_last',
)
_SEARCHER = (
    'candidate_pool_size',
    'candidate_top_k',
    'constraints',
    'max_epoch',
    'mutate_prob',
    'num_crossover',
    'num_mutation',
)

# Entries that mean something there and nothing here; what else is left over are variables.
_LEFT_OUT = {
    'auto_resume': None,
    'dist_params': None,
    'find_unused_parameter': 'gradients are averaged without a reducer',
    'find_unused_parameters': 'gradients are averaged without a reducer',
    'fp16': 'see `autocast` of Darts',
    'gpu_ids': None,
    'log_level': None,
    'momentum_config': None,
    'resume_from': 'use --resume',
    'use_ddp_wrapper': 'gradients are averaged without a reducer',
    'workflow': None,
}


def is_legacy_config(cfg: Mapping[str, Any]) -> bool:
    """Say whether a config is one of MMRazor v0.2.0: it has an ``algorithm``.

    >>> is_legacy_config({'algorithm': {'type': 'Darts'}}), is_legacy_config({'model': {}})
    (True, False)
    """
    return isinstance(cfg.get('algorithm'), Mapping)


def report(notes: list[str]) -> None:
    """Log what was not taken over."""
    if notes:
        logging.getLogger(SCOPE).warning(
            'This is a config of MMRazor v0.2.0. Not taken over: %s', '; '.join(notes)
        )


def translate(cfg: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a config of MMRazor v0.2.0 as one of ours, and what was not taken over.

    Args:
        cfg: With ``algorithm``, ``data``, ``optimizer``, ``runner`` and so on;
            never changed.  Loaders and the like of our own that it has as well
            are left to the caller.

    Raises:
        ConfigError: An entry that is missing or cannot be translated.
    """
    notes: list[str] = []
    algorithm = dict(cfg['algorithm'])
    searching = algorithm.get('mutator') is not None and not algorithm.get('retraining')
    kind = str(algorithm.get('type', '')).rsplit('.', 1)[-1]
    one_shot = searching and kind == 'SPOS'
    total, by_epoch = _length_of(cfg)
    ours: dict[str, Any] = {
        'default_scope': SCOPE,
        'model': {**algorithm, 'type': f'{SCOPE}.{kind}'},
        'train_cfg': {'by_epoch': by_epoch, 'max_epochs' if by_epoch else 'max_iters': total},
    }
    if one_shot:
        ours['train_cfg'] = {'type': 'OneShotTrainLoop', **_length_of_supernet(cfg, notes)}
    elif searching:
        if not by_epoch:
            raise ConfigError(
                'A bilevel search is counted in epochs here, but runner has '
                f'max_iters={total}; give runner=dict(type="EpochBasedRunner", max_epochs=...)'
            )
        ours['train_cfg'] = {'type': 'BilevelTrainLoop', 'max_epochs': total}
    _translate_data(cfg, ours, searching, one_shot, notes)
    _translate_optimizer(cfg, ours, total, by_epoch, notes)
    _translate_hooks(cfg, ours, by_epoch, notes, in_epochs=one_shot)
    if one_shot:
        ours['train_cfg']['evolution'] = _evolution_of(cfg, notes)
    elif cfg.get('searcher'):
        notes.append('searcher')
    if cfg.get('seed') is not None:
        ours['randomness'] = {'seed': cfg['seed']}
    for key in ('load_from', 'work_dir'):
        if cfg.get(key) is not None:
            ours[key] = cfg[key]
    for key, why in _LEFT_OUT.items():
        if cfg.get(key) and cfg[key] != [('train', 1)]:
            notes.append(f'{key} ({why})' if why else key)
    return ours, notes


def _length_of(cfg: Mapping[str, Any]) -> tuple[int, bool]:
    """Return how long a run is, and whether that is in epochs."""
    runner = dict(cfg.get('runner') or {})
    for key, by_epoch in (('max_epochs', True), ('max_iters', False)):
        if runner.get(key) is not None:
            return runner[key], by_epoch
    if cfg.get('total_epochs') is not None:
        return cfg['total_epochs'], True
    raise ConfigError(
        f'Expected `runner` to have max_epochs or max_iters, but got {cfg.get("runner")!r}'
    )


def _length_of_supernet(cfg: Mapping[str, Any], notes: list[str]) -> dict[str, int]:
    """Return how long a supernet is trained before its paths are searched.

    v0.2.0 has a config with a ``searcher`` for a supernet that is trained already.
    """
    total, by_epoch = _length_of(cfg)
    if cfg.get('searcher') and cfg.get('load_from') is not None:
        return {'max_epochs': 0}
    if cfg.get('searcher'):
        notes.append('searcher without load_from (the supernet is trained first)')
    return {'max_epochs' if by_epoch else 'max_iters': total}


def _translate_data(
    cfg: Mapping[str, Any],
    ours: dict[str, Any],
    searching: bool,
    one_shot: bool,
    notes: list[str],
) -> None:
    data, root = cfg.get('data'), cfg.get('data_root')
    if not isinstance(data, Mapping):
        if _brings(cfg, 'train_dataloader'):
            return
        raise ConfigError(f'Expected `data` to be a dict of data sets, but got {data!r}')
    if not _brings(cfg, 'train_dataloader'):
        split = 'weights' if searching else 'train'
        ours['train_dataloader'] = loader_of(data, 'train', split, root, notes)
    halves = bool(data.get('split')) or one_shot
    if searching and halves and not _brings(cfg.get('train_cfg') or {}, 'arch_dataloader'):
        # Paths are scored on images as they are tested, which the supernet has not seen.
        pipeline_of = 'val' if one_shot and data.get('val') else 'train'
        loader = loader_of(data, pipeline_of, 'arch', root, notes)
        ours['train_cfg']['arch_dataloader'] = loader
    elif searching and not halves:
        raise ConfigError(
            f'Expected `data` of a search to have split=True, but got {data.get("split")!r}: '
            'weights and architecture are trained on halves of the training images'
        )
    part = 'test' if data.get('test') else 'val'
    if data.get(part) and not _brings(cfg, 'test_dataloader'):
        ours['test_dataloader'] = loader_of(data, part, 'test', root, notes)
        ours['test_cfg'], ours['test_evaluator'] = {}, {'type': 'Accuracy'}
    evaluation = cfg.get('evaluation')
    if evaluation and searching:
        notes.append('evaluation (a search is not validated)')
    elif evaluation and data.get('val'):
        ours['val_dataloader'] = loader_of(data, 'val', 'test', root, notes)
        ours['val_cfg'], ours['val_evaluator'] = {}, {'type': 'Accuracy'}
        ours['train_cfg']['val_interval'] = evaluation.get('interval', 1)


def _brings(cfg: Mapping[str, Any], loader: str) -> bool:
    """Say whether a config has a whole loader of ours, not some options of one."""
    return 'dataset' in (cfg.get(loader) or {})


def _translate_optimizer(
    cfg: Mapping[str, Any], ours: dict[str, Any], total: int, by_epoch: bool, notes: list[str]
) -> None:
    optimizer = cfg.get('optimizer')
    if not isinstance(optimizer, Mapping):
        if 'optim_wrapper' in cfg:
            return
        raise ConfigError(f'Expected `optimizer` to be a dict, but got {optimizer!r}')
    ours['optim_wrapper'] = optim_wrapper_of(optimizer, cfg.get('optimizer_config'), notes)
    lr_config = cfg.get('lr_config')
    schedulers = schedulers_of(lr_config, total, by_epoch, notes)
    if 'type' in optimizer:
        ours['param_scheduler'] = schedulers
        return
    frozen = (lr_config or {}).get('freeze_optimizers', ())
    ours['param_scheduler'] = {
        name: [] if name in frozen else [dict(scheduler) for scheduler in schedulers]
        for name in optimizer
    }


def _translate_hooks(
    cfg: Mapping[str, Any],
    ours: dict[str, Any],
    by_epoch: bool,
    notes: list[str],
    in_epochs: bool,
) -> None:
    defaults: dict[str, Any] = {}
    checkpoint = dict(cfg.get('checkpoint_config') or {})
    if checkpoint and in_epochs and not checkpoint.get('by_epoch', by_epoch):
        # A run goes on from the end of an epoch, never from the middle of one.
        given = f'{checkpoint.pop("interval", 1)} iterations'
        notes.append(f'checkpoint_config.interval ({given}; there is one for every epoch)')
        checkpoint['by_epoch'] = by_epoch = True
    if checkpoint:
        defaults['checkpoint'] = {
            'type': 'CheckpointHook',
            'by_epoch': by_epoch,
            **{key: checkpoint.pop(key) for key in _CHECKPOINT if key in checkpoint},
        }
        notes += [f'checkpoint_config.{key}' for key in checkpoint]
    log = dict(cfg.get('log_config') or {})
    if log:
        defaults['logger'] = {'type': 'LoggerHook', 'interval': log.get('interval', 10)}
        others = [h['type'] for h in log.get('hooks', ()) if h['type'] != 'TextLoggerHook']
        notes += [f'log_config: {name}' for name in others]
    if defaults:
        ours['default_hooks'] = defaults
    hooks = []
    for hook in cfg.get('custom_hooks') or ():
        name = str(hook.get('type')).rsplit('.', 1)[-1]
        if name not in HOOKS:
            notes.append(f'custom_hooks: {name}')
            continue
        hooks.append({'type': name, **{k: hook[k] for k in HOOKS[name] if k in hook}})
        unknown = [k for k in hook if k not in (*HOOKS[name], 'type')]
        notes += [f'custom_hooks: {name}.{key}' for key in unknown]
    if hooks:
        ours['custom_hooks'] = hooks


def _evolution_of(cfg: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the options of the evolution that follows a one-shot training."""
    searcher = dict(cfg.get('searcher') or {})
    kind = searcher.pop('type', 'EvolutionSearcher')
    if str(kind).rsplit('.', 1)[-1] != 'EvolutionSearcher':
        raise ConfigError(
            f"Expected the type of `searcher` to be 'EvolutionSearcher', but got {kind!r}"
        )
    options = {key: searcher.pop(key) for key in _SEARCHER if key in searcher}
    notes += [f'searcher.{key}' for key in searcher]
    return options


def translated(cfg: Config) -> tuple[Config, list[str]]:
    """Return a config of MMRazor v0.2.0 as one of ours, and what was not taken over.

    Entries of ours in it come last.
    """
    ours, notes = translate(cfg)
    others = {*RUNNER_PARTS, 'data_root', 'retrain'}
    merged = Config(ours)
    merged.merge_from_dict({k: v for k, v in cfg.to_dict().items() if k in others and v})
    return merged, notes
