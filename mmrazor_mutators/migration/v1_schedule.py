"""Optimizers, learning rates and hooks of MMRazor 1.0's configs, in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from .v0_config import HOOKS

__all__ = ['bare', 'hooks_of', 'optimizers_of', 'without_scopes']

_SCOPES = ('mmcls', 'mmengine', 'mmrazor')


def bare(name: Any) -> str | None:
    """Return the name of a type without its scope.

    >>> bare('mmrazor.NasMutator')
    'NasMutator'
    """
    return name.rsplit('.', 1)[-1] if isinstance(name, str) else None


def without_scopes(cfg: Any) -> Any:
    """Return a copy of a part of a config without the scopes of the packages it was for."""
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(without_scopes(value) for value in cfg)
    if not isinstance(cfg, Mapping):
        return cfg
    parts = {key: without_scopes(value) for key, value in cfg.items() if key != '_scope_'}
    for key in ('constructor', 'type'):
        scope, _, name = str(parts.get(key)).rpartition('.')
        if scope in _SCOPES:
            parts[key] = name
    return parts


def optimizers_of(
    cfg: Mapping[str, Any], searching: bool, epochs: int, notes: list[str]
) -> dict[str, Any]:
    """Return the optimizers and the schedules of their learning rates.

    Args:
        cfg: The whole config.
        searching: Whether there are two optimizers.
        epochs: How long the run is.
        notes: Where to note what is not taken over and what was assumed.

    Raises:
        ConfigError: No optimizer, or only one in a search.
    """
    wrapper, schedulers = (
        without_scopes(cfg.get(k)) for k in ('optim_wrapper', 'param_scheduler')
    )
    if not isinstance(wrapper, Mapping):
        raise ConfigError(f'Expected `optim_wrapper` to be a dict, but got {wrapper!r}')
    if searching and 'architecture' not in wrapper:
        raise ConfigError(
            'Expected `optim_wrapper` of a search to have one for the `architecture` and one '
            f'for the `mutator`, but got {", ".join(wrapper)}'
        )
    separate = isinstance(schedulers, Mapping) and 'type' not in schedulers
    if not searching and 'architecture' in wrapper:
        notes.append('assumed: the weights keep the optimizer that they have in the search')
        wrapper = wrapper['architecture']
        schedulers = schedulers.get('architecture') if separate else schedulers
        separate = False
    if searching and schedulers and not separate:
        notes.append(
            "assumed: the schedule moves the architecture's learning rate as well, as there; "
            'DARTS keeps it (param_scheduler=dict(architecture=[...], mutator=[]))'
        )
    if separate:
        schedulers = {key: _within(value, epochs, notes) for key, value in schedulers.items()}
    elif schedulers:
        schedulers = _within(schedulers, epochs, notes)
    return {'optim_wrapper': wrapper, **({'param_scheduler': schedulers} if schedulers else {})}


def _within(schedulers: Any, epochs: int, notes: list[str]) -> list[Any]:
    """Return the schedulers that begin before the end."""
    listed = [schedulers] if isinstance(schedulers, Mapping) else list(schedulers or [])
    late = [s for s in listed if s.get('by_epoch', True) and s.get('begin', 0) >= epochs]
    notes += [f'not taken over: {s.get("type")} from epoch {s["begin"]} on' for s in late]
    return [scheduler for scheduler in listed if scheduler not in late]


def hooks_of(cfg: Mapping[str, Any], searching: bool, notes: list[str]) -> dict[str, Any]:
    """Return the hooks; what has no counterpart is noted."""
    ours: dict[str, Any] = {}
    defaults = without_scopes(cfg.get('default_hooks') or {})
    kept = {key: defaults[key] for key in ('checkpoint', 'logger') if defaults.get(key)}
    if kept:
        ours['default_hooks'] = kept
    hooks = []
    for hook in without_scopes(cfg.get('custom_hooks') or []):
        name = 'SearchSubnetHook' if hook.get('type') == 'DumpSubnetHook' else hook.get('type')
        if name == 'SearchSubnetHook' and not searching:
            continue
        if name not in HOOKS:
            notes.append(f'not taken over: the hook {name}')
            continue
        hooks.append({'type': name, **{key: hook[key] for key in HOOKS[name] if key in hook}})
        lost = [key for key in hook if key not in (*HOOKS[name], 'type')]
        notes += [f'not taken over: {key} of the hook {name}' for key in lost]
    if hooks:
        ours['custom_hooks'] = hooks
    return ours
