"""Build the parts of a search from config dicts, as what they are known to be."""

from __future__ import annotations

from typing import Any, TypeVar, cast, overload

from torch import nn

from . import builder
from .errors import ConfigError
from .mutables import MutableModule
from .mutators import BaseMutator, Extension
from .search.hypergradients import Hypergradient
from .typing import ConfigDict

__all__ = [
    'build_algorithm',
    'build_architecture',
    'build_extension',
    'build_hypergradient',
    'build_mutable',
    'build_mutator',
    'build_op',
]

Part = TypeVar('Part')


def _of_kind(part: Any, kind: type[Any] | None) -> Any:
    # Without a kind, a part of another package is as good: it may have the same methods.
    if kind is not None and not isinstance(part, kind):
        raise ConfigError(
            f'Expected the config of a {kind.__name__}, but it builds a {type(part).__name__}'
        )
    return part


@overload
def build_mutator(cfg: ConfigDict) -> BaseMutator: ...
@overload
def build_mutator(cfg: ConfigDict, kind: type[Part]) -> Part: ...
def build_mutator(cfg: ConfigDict, kind: type[Any] | None = None) -> Any:
    """Build a mutator, e.g. ``dict(type='DartsMutator')``.

    Args:
        cfg: Its config.
        kind: The class that it is expected to be, for those who check types.

    Raises:
        ConfigError: A config that cannot be built, or that builds something else.

    >>> import mmrazor_mutators as mm
    >>> type(mm.build_mutator(dict(type='DartsMutator'), mm.DartsMutator)).__name__
    'DartsMutator'
    """
    return _of_kind(builder.build_mutator(cfg), kind)


@overload
def build_mutable(cfg: ConfigDict) -> MutableModule: ...
@overload
def build_mutable(cfg: ConfigDict, kind: type[Part]) -> Part: ...
def build_mutable(cfg: ConfigDict, kind: type[Any] | None = None) -> Any:
    """Build a mutable, e.g. ``dict(type='DifferentiableOP', space_id=...)``.

    Args:
        cfg: Its config.
        kind: The class that it is expected to be, for those who check types.

    Raises:
        ConfigError: A config that cannot be built, or that builds something else.
    """
    return _of_kind(builder.build_mutable(cfg), kind)


def build_op(cfg: ConfigDict) -> nn.Module:
    """Build a candidate operation, e.g. ``dict(type='DartsSepConv', ...)``."""
    return cast(nn.Module, builder.build_op(cfg))


def build_architecture(cfg: ConfigDict) -> nn.Module:
    """Build a supernet, e.g. ``dict(type='DartsSupernet', ...)``."""
    return cast(nn.Module, builder.build_architecture(cfg))


def build_algorithm(cfg: ConfigDict) -> nn.Module:
    """Build an algorithm that a runner can drive, e.g. ``dict(type='Darts')``."""
    return cast(nn.Module, builder.build_algorithm(cfg))


def build_extension(cfg: ConfigDict) -> Extension:
    """Build an extension of a mutator, e.g. ``dict(type='BetaDecay')``."""
    return cast(Extension, builder.build_extension(cfg))


def build_hypergradient(cfg: str | ConfigDict) -> Hypergradient:
    """Build a hypergradient from its name or from ``dict(type=name, ...)``."""
    return cast(Hypergradient, builder.build_hypergradient(cfg))
