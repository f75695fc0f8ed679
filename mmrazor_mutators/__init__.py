"""Differentiable neural architecture search for PyTorch.

Prepare a supernet, search it, export the network found:

>>> import torch
>>> import mmrazor_mutators as mm
>>> supernet = mm.build_architecture(
...     dict(
...         type='NasBench201Supernet',
...         in_channels=1,
...         num_classes=10,
...         base_channels=4,
...         num_cells=1,
...     )
... )
>>> mutator = mm.build_mutator(dict(type='DartsMutator'))
>>> mutator.prepare_from_supernet(supernet)
>>> net = mutator.export_subnet(supernet, mutator.search_subnet())
>>> net(torch.zeros(2, 1, 8, 8)).shape
torch.Size([2, 10])
"""

from .algorithms import Darts
from .architectures import DartsBackbone, DartsSupernet, NasBench201Supernet
from .builder import (
    build_algorithm,
    build_architecture,
    build_extension,
    build_hypergradient,
    build_mutable,
    build_mutator,
    build_op,
)
from .errors import NASError
from .mutables import (
    DifferentiableEdge,
    DifferentiableOP,
    GumbelEdge,
    GumbelOP,
    MutableEdge,
    MutableModule,
    MutableOP,
    OneShotOP,
    Placeholder,
    dump_subnet,
    load_subnet,
)
from .mutators import (
    BaseMutator,
    DartsMutator,
    DifferentiableMutator,
    Extension,
    GDASMutator,
    SNASMutator,
)
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
from .search import BilevelSearch
from .version import __version__

__all__ = [
    'ALGORITHMS',
    'ARCHITECTURES',
    'EXTENSIONS',
    'HYPERGRADIENTS',
    'MODELS',
    'MUTABLES',
    'MUTATORS',
    'OPS',
    'BaseMutator',
    'BilevelSearch',
    'Darts',
    'DartsBackbone',
    'DartsMutator',
    'DartsSupernet',
    'DifferentiableEdge',
    'DifferentiableMutator',
    'DifferentiableOP',
    'Extension',
    'GDASMutator',
    'GumbelEdge',
    'GumbelOP',
    'MutableEdge',
    'MutableModule',
    'MutableOP',
    'NASError',
    'NasBench201Supernet',
    'OneShotOP',
    'Placeholder',
    'SNASMutator',
    '__version__',
    'build_algorithm',
    'build_architecture',
    'build_extension',
    'build_hypergradient',
    'build_mutable',
    'build_mutator',
    'build_op',
    'dump_subnet',
    'load_subnet',
]
