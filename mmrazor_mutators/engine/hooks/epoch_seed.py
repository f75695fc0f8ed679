"""Let each epoch draw its own random numbers, whatever came before it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook

from ...distributed import rank, world_size
from ...registry import HOOKS

__all__ = ['EpochSeedHook']


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds every generator anew when an epoch begins, from the run's seed and the epoch.

    A run that is resumed then goes on just as if it had not been stopped: no
    state of a generator has to be kept.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Any) -> None:
        """Seed the epoch, differently on each rank."""
        sequence = np.random.SeedSequence([runner.seed, runner.epoch, rank(), world_size()])
        seed = int(sequence.generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
