"""Mutators own the architecture parameters of a supernet; one algorithm a file."""

from .base import BaseMutator
from .binding import bind, is_bound, release
from .darts import DartsMutator
from .differentiable import DifferentiableMutator
from .gumbel import GDASMutator, SNASMutator

__all__ = [
    'BaseMutator',
    'DartsMutator',
    'DifferentiableMutator',
    'GDASMutator',
    'SNASMutator',
    'bind',
    'is_bound',
    'release',
]
