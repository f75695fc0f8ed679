"""The one place that knows which host is installed.

mmengine brings the base classes and registries, mmcv (or mmcv-lite, which
installs the same package) the builders of norm layers and drop path.  Nothing
else in the core imports either of them.
"""

from __future__ import annotations

from .errors import HostError

__all__ = [
    'BaseModel',
    'BaseModule',
    'ConfigDict',
    'DropPath',
    'Registry',
    'build_activation_layer',
    'build_norm_layer',
    'root',
]

_MISSING = (
    'mmrazor_mutators needs {name}, which cannot be imported here ({error}). '
    'Install it with: pip install {install}'
)

try:
    from mmengine.config import ConfigDict
    from mmengine.model import BaseModel, BaseModule
    from mmengine.registry import Registry, root
except ImportError as error:
    raise HostError(
        _MISSING.format(name='mmengine', error=error, install='"mmengine>=0.10"')
    ) from error

try:
    from mmcv.cnn import build_activation_layer, build_norm_layer
    from mmcv.cnn.bricks import DropPath
except ImportError as error:
    raise HostError(
        _MISSING.format(
            name='mmcv 2.x or mmcv-lite 2.x',
            error=error,
            install='"mmcv-lite>=2.0" (or mmcv, but never both: they overwrite each other)',
        )
    ) from error
