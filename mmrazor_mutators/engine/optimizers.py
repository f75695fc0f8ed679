"""Optimizers for parts of a model, each from its own config."""

from __future__ import annotations

from typing import Any

from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from torch import nn

from ..errors import ConfigError, did_you_mean
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS

__all__ = ['SeparateOptimWrapperConstructor']


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SeparateOptimWrapperConstructor:
    """Makes an ``OptimWrapperDict`` with one wrapper for each named sub-module.

    As in ``optim_wrapper=dict(constructor='SeparateOptimWrapperConstructor',
    architecture=dict(optimizer=...), mutator=dict(optimizer=...))``.

    Args:
        optim_wrapper_cfg: ``{name of a sub-module: config of a wrapper}``.
        paramwise_cfg: Not supported here; give it inside of a wrapper's config.

    Raises:
        ConfigError: Something other than configs of wrappers.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: Any = None) -> None:
        if paramwise_cfg is not None or not optim_wrapper_cfg:
            raise ConfigError(
                'Expected optim_wrapper to be dict(constructor=..., architecture=dict('
                'optimizer=...), mutator=dict(optimizer=...)), but got '
                f'{dict(optim_wrapper_cfg)!r} with paramwise_cfg={paramwise_cfg!r}'
            )
        for name, cfg in optim_wrapper_cfg.items():
            if not isinstance(cfg, dict) or 'optimizer' not in cfg:
                raise ConfigError(
                    f'Expected optim_wrapper[{name!r}] to be dict(optimizer=...), but got '
                    f'{cfg!r}'
                )
        self.optim_wrapper_cfg = optim_wrapper_cfg

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build the wrappers over the parameters of ``model``'s sub-modules."""
        model = getattr(model, 'module', model)
        wrappers = {}
        for name, cfg in self.optim_wrapper_cfg.items():
            part = getattr(model, name, None)
            if not isinstance(part, nn.Module):
                children = [child for child, _ in model.named_children()]
                raise ConfigError(
                    f'optim_wrapper names {name!r}, which is no sub-module of '
                    f'{type(model).__name__}; {did_you_mean(name, children)}'
                )
            cfg = dict(cfg)
            cfg.setdefault('type', 'OptimWrapper')
            wrappers[name] = build_optim_wrapper(part, cfg)
        return OptimWrapperDict(**wrappers)
