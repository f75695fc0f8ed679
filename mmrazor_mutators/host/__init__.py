"""The one place that knows which host is installed.

Either mmengine with mmcv 2.x (or mmcv-lite, which installs the same package),
or mmcv 1.x alone.  The names are the same with both; nothing else in the core
imports either of them, and only the engine needs mmengine itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import HostError
from .detection import choose_host, describe, unusable, version_of
from .runner_parts import RUNNER_PARTS

__all__ = [
    'NAME',
    'RUNNER_PARTS',
    'VERSIONS',
    'BaseModel',
    'BaseModule',
    'Config',
    'ConfigDict',
    'ConvModule',
    'DropPath',
    'Registry',
    'build_activation_layer',
    'build_conv_layer',
    'build_norm_layer',
    'find_part',
    'require_runner',
    'root',
]

_found = {package: version_of(package) for package in ('mmengine', 'mmcv')}

NAME = choose_host(**_found)
"""``'mmengine'`` or ``'mmcv1'``."""

VERSIONS = {
    package: str(version)
    for package, version in _found.items()
    if package == 'mmcv' or NAME == 'mmengine'
}
"""``{package: version}`` of the packages that make up the host."""

try:
    from mmcv.cnn import (
        ConvModule,
        build_activation_layer,
        build_conv_layer,
        build_norm_layer,
    )
    from mmcv.cnn.bricks import DropPath

    if TYPE_CHECKING or NAME == 'mmengine':
        from mmengine.config import Config, ConfigDict
        from mmengine.model import BaseModel, BaseModule
        from mmengine.registry import Registry, root

        def find_part(registry: Any, key: str) -> Any:
            """Return what a registry of the host knows by that name, or ``None``."""
            return registry.get(key)

    else:
        from types import SimpleNamespace

        from mmcv.cnn import MODELS
        from mmcv.cnn.bricks import registry as _bricks
        from mmcv.runner import BaseModule
        from mmcv.runner.optimizer.builder import OPTIMIZERS
        from mmcv.utils import Config, ConfigDict
        from mmcv.utils import Registry as _Registry

        from .models import ModelSteps
        from .registries import LateRegistry
        from .registries import find_part as _find_part

        class Registry(LateRegistry, _Registry):
            """A registry of mmcv 1.x with what mmengine's has on top."""

        class BaseModel(ModelSteps, BaseModule):
            """A module of mmcv 1.x with what mmengine's models have on top."""

            @classmethod
            def _build_model(cls, cfg: Any) -> Any:
                return MODELS.children['mmrazor_mutators'].build(cfg)

        # mmengine has models and layers in one registry, and so its configs name them.
        _MODELS_AND_LAYERS = [
            MODELS,
            *(value for value in vars(_bricks).values() if isinstance(value, _Registry)),
        ]

        def find_part(registry: Any, key: str) -> Any:
            """Return what a registry of the host knows by that name, or ``None``."""
            return _find_part(_MODELS_AND_LAYERS if registry is MODELS else [registry], key)

        # The parents of our registries; the rest is the business of mmengine's runner.
        root = SimpleNamespace(MODELS=MODELS, OPTIMIZERS=OPTIMIZERS)
except ImportError as error:
    raise unusable(NAME, VERSIONS, error) from error


def require_runner(what: str) -> None:
    """Make sure that the host brings a runner for our jobs, which mmcv 1.x does not.

    Args:
        what: That needs it, at the start of a sentence.

    Raises:
        HostError: It does not.
    """
    if NAME != 'mmengine':
        raise HostError(
            f'{what} needs the runner of mmengine, but the host here is {describe(VERSIONS)}. '
            'Install "mmengine>=0.10" and "mmcv-lite>=2.0" in its place, or drive the search '
            'with BilevelSearch in a loop of your own'
        )
