"""What the registries of mmcv 1.x lack: late imports, scopes and dotted paths.

Nothing of mmcv is imported here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError

__all__ = ['LateRegistry', 'find_by_path', 'find_part']


class LateRegistry:
    """Imports what registers its entries on first use; mixed into mmcv 1.x's ``Registry``.

    Args:
        *args: As for the host's ``Registry``.
        locations: Modules to import.
        **kwargs: As for the host's ``Registry``.
    """

    _register_module: Any  # The host's.

    def __init__(self, *args: Any, locations: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._locations = tuple(locations)

    def register_module(self, name: Any = None, force: bool = False, module: Any = None) -> Any:
        """Register a class or function, or return the decorator that does.

        Args:
            name: One or more names instead of its own.
            force: Whether another one of that name is replaced.
            module: The class or function.

        Raises:
            ConfigError: ``name`` is something else, as of a decorator
                without parentheses.
        """
        names = [name] if isinstance(name, str) else name
        if names is not None and not (
            isinstance(names, (list, tuple)) and all(isinstance(n, str) for n in names)
        ):
            raise ConfigError(
                f'Expected `name` to be None, a name or a list of names, but got {name!r}; a '
                'decorator is written register_module()'
            )
        if module is None:
            return lambda part: self.register_module(name, force, part)
        # Releases of mmcv differ in what they call the first argument.
        self._register_module(module, name, force)
        return module

    def import_from_location(self) -> None:
        """Import the modules that register the entries, once."""
        locations, self._locations = self._locations, ()
        for location in locations:
            importlib.import_module(location)


def find_part(registries: Sequence[Any], key: str) -> Any:
    """Return what one of mmcv 1.x's registries knows by that name, or ``None``.

    A package that is named as the scope is imported where it has to be, and a
    dotted path to an importable class works as well.

    Args:
        registries: Without a parent, such as ``mmcv.cnn.MODELS``; the first
            of them is the one that other packages' registries are children of.
        key: ``'ResNet'``, ``'mmcls.ResNet'`` or ``'package.module.Class'``.
    """
    root = registries[0]
    scope, name = root.split_scope_key(key)
    if scope in (None, root.scope):
        return next((r.module_dict[name] for r in registries if name in r.module_dict), None)
    if scope not in root.children:
        _import_models_of(scope)
    found = root.get(key) if scope in root.children else None
    return find_by_path(key) if found is None else found


def find_by_path(key: str) -> Any:
    """Import what a dotted path names.

    >>> find_by_path('torch.nn.ReLU')
    <class 'torch.nn.modules.activation.ReLU'>
    """
    return pkgutil.resolve_name(key)


def _import_models_of(scope: str) -> None:
    """Import where the packages of mmcv 1.x's time register their models, if it is there."""
    name = f'{scope}.models'
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A package that is there, but lacks something itself, is worth an error.
        if error.name not in (scope, name):
            raise
