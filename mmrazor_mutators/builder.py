"""Build the parts of a search from config dicts.

>>> import mmrazor_mutators as mm
>>> type(mm.build_op(dict(type='DartsZero', in_channels=4, out_channels=4))).__name__
'DartsZero'
"""

from __future__ import annotations

from typing import Any

from .registry import (
    ALGORITHMS,
    ARCHITECTURES,
    EXTENSIONS,
    HYPERGRADIENTS,
    MODELS,
    MUTABLES,
    MUTATORS,
    OPS,
)
from .typing import ConfigDict

__all__ = [
    'ALGORITHMS',
    'ARCHITECTURES',
    'EXTENSIONS',
    'HYPERGRADIENTS',
    'MODELS',
    'MUTABLES',
    'MUTATORS',
    'OPS',
    'build_algorithm',
    'build_architecture',
    'build_extension',
    'build_hypergradient',
    'build_mutable',
    'build_mutator',
    'build_op',
]


def build_mutator(cfg: ConfigDict) -> Any:
    """Build a mutator, e.g. ``dict(type='DartsMutator')``."""
    return MUTATORS.build(cfg)


def build_mutable(cfg: ConfigDict) -> Any:
    """Build a mutable, e.g. ``dict(type='DifferentiableOP', space_id=...)``."""
    return MUTABLES.build(cfg)


def build_op(cfg: ConfigDict) -> Any:
    """Build a candidate operation, e.g. ``dict(type='DartsSepConv', ...)``."""
    return OPS.build(cfg)


def build_architecture(cfg: ConfigDict) -> Any:
    """Build a supernet, e.g. ``dict(type='DartsSupernet', ...)``."""
    return ARCHITECTURES.build(cfg)


def build_algorithm(cfg: ConfigDict) -> Any:
    """Build an algorithm that a runner can drive, e.g. ``dict(type='Darts')``."""
    return ALGORITHMS.build(cfg)


def build_extension(cfg: ConfigDict) -> Any:
    """Build an extension of a mutator, e.g. ``dict(type='BetaDecay')``."""
    return EXTENSIONS.build(cfg)


def build_hypergradient(cfg: str | ConfigDict) -> Any:
    """Build a hypergradient from its name or from ``dict(type=name, ...)``."""
    return HYPERGRADIENTS.build({'type': cfg} if isinstance(cfg, str) else cfg)
