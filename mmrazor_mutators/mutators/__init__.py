"""Mutators own the architecture parameters of a supernet; one algorithm a file."""

from .base import BaseMutator
from .binding import bind, is_bound, release
from .darts import DartsMutator
from .differentiable import DifferentiableMutator
from .drnas import DrNASMutator
from .dsnas import DSNASMutator
from .extension import Extension
from .fair_darts import FairDartsMutator
from .fbnet import FBNetMutator
from .gaea import GAEAMutator
from .gumbel import GDASMutator, SNASMutator
from .nas_mutator import NasMutator
from .one_path import OnePathMutator
from .one_shot import OneShotMutator
from .pc_darts import PCDartsMutator
from .proxyless import ProxylessMutator
from .random_search import RandomMutator
from .reinmax import ReinMaxMutator
from .sparse import SparsemaxMutator

__all__ = [
    'BaseMutator',
    'DSNASMutator',
    'DartsMutator',
    'DifferentiableMutator',
    'DrNASMutator',
    'Extension',
    'FBNetMutator',
    'FairDartsMutator',
    'GAEAMutator',
    'GDASMutator',
    'NasMutator',
    'OnePathMutator',
    'OneShotMutator',
    'PCDartsMutator',
    'ProxylessMutator',
    'RandomMutator',
    'ReinMaxMutator',
    'SNASMutator',
    'SparsemaxMutator',
    'bind',
    'is_bound',
    'release',
]
