"""What a mutator can be combined with; one method a file."""

from .auxiliary_skip import AuxiliarySkip
from .beta_decay import BetaDecay
from .budget import Budget
from .clocked import agree_with_clock
from .early_stopping import HessianEarlyStopping, SkipEarlyStopping
from .expected_cost import ExpectedCost
from .operation_freezing import OperationFreezing
from .perturbation import AdversarialPerturbation, RandomPerturbation
from .perturbation_selection import PerturbationSelection
from .regularizers import EntropyRegularizer, L1Regularizer, L2Regularizer, Regularizer
from .shrinking import ProgressiveShrinking, Shrinking, ThresholdPruning
from .skip_dropout import SkipDropout
from .skip_limit import SkipLimit

__all__ = [
    'AdversarialPerturbation',
    'AuxiliarySkip',
    'BetaDecay',
    'Budget',
    'EntropyRegularizer',
    'ExpectedCost',
    'HessianEarlyStopping',
    'L1Regularizer',
    'L2Regularizer',
    'OperationFreezing',
    'PerturbationSelection',
    'ProgressiveShrinking',
    'RandomPerturbation',
    'Regularizer',
    'Shrinking',
    'SkipDropout',
    'SkipEarlyStopping',
    'SkipLimit',
    'ThresholdPruning',
    'agree_with_clock',
]
