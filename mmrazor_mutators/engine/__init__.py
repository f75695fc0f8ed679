"""The runner's side of a search: loops, hooks, jobs; imported when it is used."""

from typing import NoReturn

from .. import host

# Listing and drawing need no runner; whatever is missing here says what does.
if host.NAME == 'mmengine':
    from .evolution import OneShotTrainLoop
    from .hooks import (
        DropPathProbHook,
        EpochSeedHook,
        PeakMemoryHook,
        ProgressHook,
        SearchMonitorHook,
        SearchSubnetHook,
    )
    from .loops import BilevelTrainLoop
    from .metrics import Accuracy
    from .optimizers import SeparateOptimWrapperConstructor
else:

    def __getattr__(name: str) -> NoReturn:
        """Say why a part of the engine is not there."""
        if name in __all__:
            host.require_runner(name)
        raise AttributeError(name)


__all__ = [
    'Accuracy',
    'BilevelTrainLoop',
    'DropPathProbHook',
    'EpochSeedHook',
    'OneShotTrainLoop',
    'PeakMemoryHook',
    'ProgressHook',
    'SearchMonitorHook',
    'SearchSubnetHook',
    'SeparateOptimWrapperConstructor',
]
