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

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .public import *  # noqa: F403

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
    'Budget',
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
    'DifferentiableMutable',
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
    'SearchMonitor',
    'SearchableMobileNet',
    'SearchableShuffleNetV2',
    'SkipDropout',
    'SkipLimit',
    'SparsemaxMutator',
    'ThresholdPruning',
    '__version__',
    'agree_with_clock',
    'build_algorithm',
    'build_architecture',
    'build_extension',
    'build_hypergradient',
    'build_mutable',
    'build_mutator',
    'build_op',
    'calibrate_batch_norm',
    'dump_subnet',
    'expected_cost',
    'load_subnet',
    'make_searchable',
    'restore_original',
    'suggest_rules',
    'summary',
    'write_network',
    'write_report',
]


def __getattr__(name: str) -> Any:
    """Import everything when a name is asked for, since help and lists need nothing."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from . import public

    globals().update({key: getattr(public, key) for key in __all__})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
