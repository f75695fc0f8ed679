"""Models of other packages, by the names that MMRazor v0.2.0's configs give them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ..registry import MODELS, SCOPE
from ..typing import ConfigDict

__all__ = ['build_task_model']

# The same package under its old and its new name; ours stands in for both.
_CLASSIFIERS = {'mmcls': ('mmcls', 'mmpretrain'), 'mmpretrain': ('mmpretrain', 'mmcls')}


def build_task_model(cfg: ConfigDict) -> Any:
    """Build a model that another package may bring.

    ``mmcls.ImageClassifier`` is that of mmcls, or of mmpretrain, or our own,
    whichever is there first; the parts inside of it are looked up there and
    then among ours, whatever the default scope is.

    Args:
        cfg: Config of the model; never changed.

    Raises:
        UnknownTypeError: Nobody has that model.
        ConfigError: The config does not fit it.
    """
    kind = cfg.get('type') if isinstance(cfg, Mapping) else None
    if not isinstance(kind, str) or '.' not in kind:
        return MODELS.build(cfg)
    scope, name = kind.split('.', 1)
    if scope == SCOPE:
        return MODELS.build(cfg)
    for package in _CLASSIFIERS.get(scope, (scope,)):
        if _knows(package, name):
            parts = {key: _scoped(value, package) for key, value in cfg.items()}
            return MODELS.build({**parts, 'type': f'{package}.{name}'})
    if scope in _CLASSIFIERS and name in MODELS.module_dict:
        parts = {key: _unscoped(value) for key, value in cfg.items()}
        return MODELS.build({**parts, 'type': name})
    return MODELS.build(cfg)


def _knows(package: str, name: str) -> bool:
    """Say whether a package is there and has registered a model of that name."""
    try:
        importlib.import_module(f'{package}.models')
    except Exception:  # Whatever its import raises: it cannot be used then.
        return False
    return f'{package}.{name}' in MODELS


def _scoped(cfg: Any, package: str) -> Any:
    """Return a part of a config whose names say where they are found."""
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(_scoped(value, package) for value in cfg)
    if not isinstance(cfg, Mapping):
        return cfg
    parts = {key: _scoped(value, package) for key, value in cfg.items()}
    name = cfg.get('type')
    if isinstance(name, str):
        scope, _, bare = name.rpartition('.')
        if scope in _CLASSIFIERS and package in _CLASSIFIERS:
            name = bare
        if '.' not in name:
            ours = name in MODELS.module_dict
            if (ours or name not in MODELS) and f'{package}.{name}' in MODELS:
                name = f'{package}.{name}'
            elif ours:
                name = f'{SCOPE}.{name}'
        parts['type'] = name
    return parts


def _unscoped(cfg: Any) -> Any:
    """Return a part of a config without the scope of a package that is not there."""
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(map(_unscoped, cfg))
    if not isinstance(cfg, Mapping):
        return cfg
    parts = {key: _unscoped(value) for key, value in cfg.items()}
    if isinstance(cfg.get('type'), str):
        scope, _, bare = cfg['type'].rpartition('.')
        parts['type'] = bare if scope in _CLASSIFIERS else cfg['type']
    return parts
