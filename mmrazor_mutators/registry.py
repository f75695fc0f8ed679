"""Registries: one lookup for each kind of part, and ``MODELS`` for all of them.

The name and place of this module are the ones under which mmengine looks for
the registries of a scope, and with mmcv 1.x ``MODELS`` is a child of
``mmcv.cnn.MODELS``, so ``type='mmrazor_mutators.DartsMutator'`` in the config
of any host project finds our parts.
"""

from __future__ import annotations

import inspect
import pkgutil
from functools import lru_cache
from typing import Any

from . import host
from .blame import one_line, place_of
from .errors import ConfigError, NASError, UnknownTypeError, did_you_mean

__all__ = [
    'ALGORITHMS',
    'ARCHITECTURES',
    'DATASETS',
    'EXTENSIONS',
    'HOOKS',
    'HYPERGRADIENTS',
    'LOOPS',
    'METRICS',
    'MODELS',
    'MUTABLES',
    'MUTATORS',
    'OPS',
    'OPTIMIZERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'SCOPE',
    'TRANSFORMS',
    'PartRegistry',
    'build_from_cfg',
]

SCOPE = 'mmrazor_mutators'


def copy_config(cfg: Any) -> Any:
    """Copy the dicts and lists of a config, and share what they hold.

    A constructor may then fill in defaults without its caller noticing, while
    ready modules inside the config stay the same objects.
    """
    if isinstance(cfg, dict):
        return {key: copy_config(value) for key, value in cfg.items()}
    if type(cfg) in (list, tuple):
        return type(cfg)(copy_config(value) for value in cfg)
    return cfg


def _accepted_arguments(cls: Any) -> frozenset[str] | None:
    """Names that ``cls(...)`` takes, or ``None`` where that cannot be told.

    A constructor that passes ``**kwargs`` on takes what its base class takes.
    """
    constructors = (
        [vars(base)['__init__'] for base in cls.__mro__ if '__init__' in vars(base)]
        if inspect.isclass(cls)
        else [cls]
    )
    accepted: set[str] = set()
    for constructor in constructors:
        try:
            parameters = inspect.signature(constructor).parameters.values()
        except (TypeError, ValueError):
            return None
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        accepted |= {p.name for p in parameters if p.kind in named}
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            return frozenset(accepted - {'self'})
    return None


# A supernet is built of thousands of parts of a few classes.
_arguments_of_class = lru_cache(maxsize=256)(_accepted_arguments)


def build_from_cfg(cfg: Any, registry: PartRegistry, default_args: Any = None) -> Any:
    """Build the object that a config describes.

    Args:
        cfg: ``{'type': name or class, argument: value, ...}``; never changed.
        registry: Where the name is looked up.
        default_args: Arguments for those that the config does not give.

    Raises:
        ConfigError: No dict, no ``type``, or an argument that the class does
            not take.
        UnknownTypeError: A ``type`` that ``registry`` does not know.
    """
    if not isinstance(cfg, dict):
        raise ConfigError(
            f'Expected the config of a {registry.name} to be a dict with a "type", '
            f'but got {type(cfg).__name__}: {cfg!r}'
        )
    arguments = {**copy_config(default_args or {}), **copy_config(cfg)}
    arguments.pop('_scope_', None)
    if 'type' not in arguments:
        raise ConfigError(
            f'Expected the config of a {registry.name} to have a "type", but its keys are '
            f'{sorted(map(str, arguments))}; {did_you_mean("", registry.module_dict)}'
        )
    part = arguments.pop('type')
    if isinstance(part, str):
        part = registry.get(part)
    elif not callable(part):
        raise ConfigError(
            f'Expected the "type" of a {registry.name} to be a name or a class, but got '
            f'{part!r}'
        )
    if inspect.isabstract(part):
        raise ConfigError(
            f'{part.__name__} is abstract and cannot be built: a subclass has to define '
            f'{", ".join(sorted(part.__abstractmethods__))}'
        )
    accepted = (_arguments_of_class if inspect.isclass(part) else _accepted_arguments)(part)
    if accepted is not None:
        for name in arguments:
            if name not in accepted:
                raise ConfigError(
                    f'{part.__name__} takes no argument {name!r}; '
                    f'{did_you_mean(str(name), sorted(accepted))}'
                )
    try:
        return part(**arguments)
    except (NASError, MemoryError):
        raise
    except Exception as error:  # Whatever a constructor raises over a value.
        if isinstance(error, TypeError) and 'required' in str(error):
            raise ConfigError(
                f'The config of {part.__name__} is incomplete: {error}'
            ) from error
        place = place_of(error)
        where = f' ({place})' if place else ''
        raise ConfigError(
            f'{part.__name__} cannot be built with {_shown(arguments)}: '
            f'{one_line(error)}{where}'
        ) from error


def _shown(arguments: dict[str, Any]) -> str:
    """Return arguments as they are written in a call, long ones cut short."""
    shown = (f'{name}={_cut(repr(value))}' for name, value in arguments.items())
    return ', '.join(shown) or 'no arguments'


def _cut(text: str) -> str:
    text = ' '.join(text.split())
    return text if len(text) <= 60 else f'{text[:57]}...'


class PartRegistry(host.Registry):
    """A registry whose unknown names end in an error that lists the known ones.

    Args:
        name: What is registered, in the singular, for messages.
        common: The registry that every entry is added to as well, so that a
            config can name a part without naming its kind.
        **kwargs: As for the host's ``Registry``.
    """

    def __init__(self, name: str, common: PartRegistry | None = None, **kwargs: Any) -> None:
        kwargs.setdefault('build_func', build_from_cfg)
        super().__init__(name, scope=SCOPE, **kwargs)
        self._common = common

    def _register_module(
        self, module: Any, module_name: Any = None, force: bool = False
    ) -> None:
        if self._common is not None:
            self._common._register_module(module, module_name, force)
        try:
            super()._register_module(module, module_name, force)
        except KeyError as error:
            raise ConfigError(
                f'{error.args[0]}; register under another name or pass force=True'
            ) from error

    def __contains__(self, key: str) -> bool:
        try:
            self.get(key)
        except UnknownTypeError:
            return False
        return True

    def get(self, key: str) -> Any:
        """Return the class registered as ``key``.

        A scope names another package's registry (``'mmpretrain.ResNet'``) or
        our own (``'mmrazor_mutators.DartsMutator'``); a dotted path to an
        importable class works as well.

        Raises:
            UnknownTypeError: Nothing callable has that name.
        """
        scope, name = self.split_scope_key(key)
        self.import_from_location()
        if scope in (None, SCOPE) and name in self.module_dict:
            return self.module_dict[name]
        # Ours alone are looked up by bare name: a mutator is never a host's layer.
        try:
            if scope == SCOPE and '.' in name:
                found = pkgutil.resolve_name(key)
            elif scope != SCOPE and (scope is not None or self.parent is not None):
                # One without entries is false, so it is compared with None.
                parent = MODELS.parent if self.parent is None else self.parent
                found = host.find_part(parent, key)
            else:
                found = None
        except Exception as error:  # Whatever importing the name may raise.
            raise self._unknown(key) from error
        if not callable(found):
            raise self._unknown(key)
        return found

    def _unknown(self, key: str) -> UnknownTypeError:
        _, name = self.split_scope_key(key)
        known = {*self.module_dict, *(() if self.parent is None else self.parent.module_dict)}
        return UnknownTypeError(
            f'{key!r} is not a registered {self.name}; '
            f'{did_you_mean(name, sorted(known))}. A part of another package is '
            f"named with its scope, as in 'mmpretrain.ResNet'."
        )


def _parent(name: str) -> Any:
    """Return the host's registry of that name, or ``None`` where it has none."""
    return getattr(host.root, name, None)


# Importing what the package offers registers the parts; what only the engine needs is
# imported when it is first looked up.
_CORE = [f'{SCOPE}.public']
MODELS = PartRegistry('model', parent=_parent('MODELS'), locations=_CORE)
"""Every mutable, op, architecture, mutator and algorithm under one roof."""

MUTABLES = PartRegistry('mutable', common=MODELS, locations=_CORE)
OPS = PartRegistry('op', common=MODELS, locations=_CORE)
ARCHITECTURES = PartRegistry('architecture', common=MODELS, locations=_CORE)
MUTATORS = PartRegistry('mutator', common=MODELS, locations=_CORE)
EXTENSIONS = PartRegistry('extension', common=MODELS, locations=_CORE)
ALGORITHMS = PartRegistry('algorithm', common=MODELS, locations=_CORE)
HYPERGRADIENTS = PartRegistry('hypergradient', locations=_CORE)
OPTIMIZERS = PartRegistry('optimizer', parent=_parent('OPTIMIZERS'), locations=_CORE)

_ENGINE = [f'{SCOPE}.engine']
DATASETS = PartRegistry('dataset', parent=_parent('DATASETS'), locations=[f'{SCOPE}.datasets'])
TRANSFORMS = PartRegistry(
    'transform', parent=_parent('TRANSFORMS'), locations=[f'{SCOPE}.datasets']
)
METRICS = PartRegistry('metric', parent=_parent('METRICS'), locations=_ENGINE)
HOOKS = PartRegistry('hook', parent=_parent('HOOKS'), locations=_ENGINE)
LOOPS = PartRegistry('loop', parent=_parent('LOOPS'), locations=_ENGINE)
OPTIM_WRAPPER_CONSTRUCTORS = PartRegistry(
    'optimizer wrapper constructor',
    parent=_parent('OPTIM_WRAPPER_CONSTRUCTORS'),
    locations=_ENGINE,
)
