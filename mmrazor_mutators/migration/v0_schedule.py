"""Optimizers and learning rates of a config of MMRazor v0.2.0, as the runner takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, did_you_mean

__all__ = ['optim_wrapper_of', 'schedulers_of']

# What v0.2.0 clips the weights' gradient of a search at.
_CLIP = {'max_norm': 5.0}


def optim_wrapper_of(
    optimizer: Mapping[str, Any], optimizer_config: Mapping[str, Any] | None, notes: list[str]
) -> dict[str, Any]:
    """Return the config of the optimizer wrapper, or wrappers.

    Args:
        optimizer: Config of an optimizer, or of one for each part of the
            algorithm.
        optimizer_config: May have ``grad_clip``.
        notes: Where to note what is not taken over.
    """
    if 'type' not in optimizer:
        wrappers: dict[str, Any] = {'constructor': 'SeparateOptimWrapperConstructor'}
        for name, cfg in optimizer.items():
            wrappers[name] = _wrapper_of(cfg)
        if 'architecture' in wrappers:
            wrappers['architecture']['clip_grad'] = dict(_CLIP)
        return wrappers
    options = dict(optimizer_config or {})
    clip = options.pop('grad_clip', None)
    notes += [f'optimizer_config.{key}' for key in options]
    wrapper = _wrapper_of(optimizer)
    return {**wrapper, 'clip_grad': dict(clip)} if clip else wrapper


def _wrapper_of(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dict(optimizer)
    paramwise = arguments.pop('paramwise_cfg', None)
    wrapper: dict[str, Any] = {'type': 'OptimWrapper', 'optimizer': arguments}
    return {**wrapper, 'paramwise_cfg': paramwise} if paramwise else wrapper


def schedulers_of(
    lr_config: Mapping[str, Any] | None, total: int, by_epoch: bool, notes: list[str]
) -> list[dict[str, Any]]:
    """Return the schedulers of a learning rate that reaches its end after ``total``.

    Args:
        lr_config: ``policy`` and its options, as of mmcv 1.x.
        total: Number of epochs, or of iterations.
        by_epoch: Which of them the run counts.
        notes: Where to note what is not taken over.

    Raises:
        ConfigError: Another policy.

    >>> schedulers_of(dict(policy='CosineAnnealing', min_lr=1e-3), 50, True, [])
    [{'type': 'CosineAnnealingLR', 'T_max': 50, 'eta_min': 0.001, 'by_epoch': True}]
    """
    if lr_config is None:
        return []
    options = dict(lr_config)
    policy = str(options.pop('policy', None))
    options.pop('freeze_optimizers', None)
    name = {p.lower(): p for p in _POLICIES}.get(policy.lower())
    if name is None:
        raise ConfigError(
            f'The policy {policy!r} of lr_config cannot be translated; '
            f'{did_you_mean(policy, _POLICIES)}'
        )
    per_iteration = by_epoch and not options.pop('by_epoch', True)
    scheduler = _POLICIES[name](options, total)
    options.pop('by_epoch', None)
    notes += [f'lr_config.{key}' for key in options]
    if scheduler is None:
        return []
    scheduler['by_epoch'] = by_epoch
    if per_iteration:
        scheduler['convert_to_iter_based'] = True
    return [scheduler]


def _fixed(options: dict[str, Any], total: int) -> dict[str, Any] | None:
    return None


def _cosine(options: dict[str, Any], total: int) -> dict[str, Any] | None:
    scheduler: dict[str, Any] = {'type': 'CosineAnnealingLR', 'T_max': total}
    if 'min_lr_ratio' in options:
        return {**scheduler, 'eta_min_ratio': options.pop('min_lr_ratio')}
    return {**scheduler, 'eta_min': options.pop('min_lr', 0.0) or 0.0}


def _step(options: dict[str, Any], total: int) -> dict[str, Any] | None:
    step, gamma = options.pop('step'), options.pop('gamma', 0.1)
    if isinstance(step, int):
        return {'type': 'StepLR', 'step_size': step, 'gamma': gamma}
    return {'type': 'MultiStepLR', 'milestones': list(step), 'gamma': gamma}


def _poly(options: dict[str, Any], total: int) -> dict[str, Any] | None:
    # The host ends one step before `end`.
    return {
        'type': 'PolyLR',
        'power': options.pop('power', 1.0),
        'eta_min': options.pop('min_lr', 0.0),
        'end': total + 1,
    }


_POLICIES = {'CosineAnnealing': _cosine, 'Fixed': _fixed, 'Poly': _poly, 'Step': _step}
