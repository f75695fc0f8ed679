"""Drop more paths as the training goes on."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from ...errors import ConfigError
from ...host import DropPath
from ...registry import HOOKS

__all__ = ['DropPathProbHook']


@HOOKS.register_module()
class DropPathProbHook(Hook):
    """Sets the probability of every ``DropPath``, linearly from 0.

    In epoch e of E it is ``max_prob * e / E`` (DARTS, Liu et al., ICLR 2019,
    section 3.2, as in its authors' code).

    Args:
        max_prob: The probability that is reached in the end, from 0 to below 1.
        interval: Set it in every n-th epoch.
        by_epoch: ``True``: iterations are not counted.

    Raises:
        ConfigError: An option outside of its range.
    """

    def __init__(self, max_prob: float, interval: int = 1, by_epoch: bool = True) -> None:
        if not 0 <= max_prob < 1:
            raise ConfigError(
                f'Expected `max_prob` to be at least 0 and below 1, but got {max_prob!r}'
            )
        if interval < 1:
            raise ConfigError(f'Expected `interval` to be at least 1, but got {interval!r}')
        if by_epoch is not True:
            raise ConfigError(f'Expected `by_epoch` to be True, but got {by_epoch!r}')
        self.max_prob = max_prob
        self.interval = interval
        self.by_epoch = by_epoch

    def before_train_epoch(self, runner: Any) -> None:
        """Set the probability of the epoch."""
        if runner.epoch % self.interval:
            return
        prob = self.max_prob * runner.epoch / runner.max_epochs
        for module in runner.model.modules():
            if isinstance(module, DropPath):
                module.drop_prob = prob
