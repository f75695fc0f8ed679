"""Mutators own the architecture parameters of a supernet; one algorithm a file."""

from .base import BaseMutator
from .binding import bind, is_bound, release
from .darts import DartsMutator
from .differentiable import DifferentiableMutator
from .extension import Extension
from .gumbel import GDASMutator, SNASMutator
from .one_path import OnePathMutator

__all__ = [
    'BaseMutator',
    'DartsMutator',
    'DifferentiableMutator',
    'Extension',
    'GDASMutator',
    'OnePathMutator',
    'SNASMutator',
    'bind',
    'is_bound',
    'release',
]
