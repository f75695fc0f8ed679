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

from .algorithms import SPOS, Darts
from .architectures import (
    DartsBackbone,
    DartsSupernet,
    NasBench201Supernet,
    SearchableMobileNet,
    SearchableShuffleNetV2,
)
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
from .extensions import (
    AuxiliarySkip,
    BetaDecay,
    EntropyRegularizer,
    ExpectedCost,
    L1Regularizer,
    L2Regularizer,
    ProgressiveShrinking,
    SkipDropout,
    SkipLimit,
    ThresholdPruning,
)
from .mutables import (
    DiffChoiceRoute,
    DifferentiableChannel,
    DifferentiableEdge,
    DifferentiableKernel,
    DifferentiableOP,
    DifferentiableValue,
    DiffMutableOP,
    GumbelChoiceRoute,
    GumbelEdge,
    GumbelOP,
    MutableEdge,
    MutableModule,
    MutableOP,
    OneHotMutableOP,
    OneShotMutableOP,
    OneShotOP,
    PartialChannelOP,
    Placeholder,
    dump_subnet,
    load_subnet,
)
from .mutators import (
    BaseMutator,
    DartsMutator,
    DifferentiableMutator,
    DrNASMutator,
    DSNASMutator,
    Extension,
    FairDartsMutator,
    FBNetMutator,
    GAEAMutator,
    GDASMutator,
    NasMutator,
    OneShotMutator,
    PCDartsMutator,
    ProxylessMutator,
    RandomMutator,
    ReinMaxMutator,
    SNASMutator,
    SparsemaxMutator,
)
from .optim import ExponentiatedGradient
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
from .searchable import make_searchable, restore_original
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
    'SPOS',
    'AuxiliarySkip',
    'BaseMutator',
    'BetaDecay',
    'BilevelSearch',
    'DSNASMutator',
    'Darts',
    'DartsBackbone',
    'DartsMutator',
    'DartsSupernet',
    'DiffChoiceRoute',
    'DiffMutableOP',
    'DifferentiableChannel',
    'DifferentiableEdge',
    'DifferentiableKernel',
    'DifferentiableMutator',
    'DifferentiableOP',
    'DifferentiableValue',
    'DrNASMutator',
    'EntropyRegularizer',
    'ExpectedCost',
    'ExponentiatedGradient',
    'Extension',
    'FBNetMutator',
    'FairDartsMutator',
    'GAEAMutator',
    'GDASMutator',
    'GumbelChoiceRoute',
    'GumbelEdge',
    'GumbelOP',
    'L1Regularizer',
    'L2Regularizer',
    'MutableEdge',
    'MutableModule',
    'MutableOP',
    'NASError',
    'NasBench201Supernet',
    'NasMutator',
    'OneHotMutableOP',
    'OneShotMutableOP',
    'OneShotMutator',
    'OneShotOP',
    'PCDartsMutator',
    'PartialChannelOP',
    'Placeholder',
    'ProgressiveShrinking',
    'ProxylessMutator',
    'RandomMutator',
    'ReinMaxMutator',
    'SNASMutator',
    'SearchableMobileNet',
    'SearchableShuffleNetV2',
    'SkipDropout',
    'SkipLimit',
    'SparsemaxMutator',
    'ThresholdPruning',
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
    'make_searchable',
    'restore_original',
]
