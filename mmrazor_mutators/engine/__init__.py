"""The runner's side of a search: loops, hooks, jobs; imported when it is used."""

from .hooks import DropPathProbHook, EpochSeedHook, ProgressHook, SearchSubnetHook
from .loops import BilevelTrainLoop
from .metrics import Accuracy
from .optimizers import SeparateOptimWrapperConstructor

__all__ = [
    'Accuracy',
    'BilevelTrainLoop',
    'DropPathProbHook',
    'EpochSeedHook',
    'ProgressHook',
    'SearchSubnetHook',
    'SeparateOptimWrapperConstructor',
]
