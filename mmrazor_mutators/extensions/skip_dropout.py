"""P-DARTS: dropout on skip connections, which would win by being easy to train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..functional import decaying_dropout_rate, first_epoch, stages_until
from ..mutators import Extension
from ..registry import EXTENSIONS
from ..structures import map_tensors
from .choices import (
    check_choice_names,
    check_finite,
    check_names_occur,
    check_stages,
    named_candidates,
)

__all__ = ['SkipDropout']


@EXTENSIONS.register_module()
class SkipDropout(Extension):
    r"""Drops elements of what skip connections return, fewer from epoch to epoch.

    P-DARTS (Chen et al., ICCV 2019), section 3.3, as in the authors' code.  In
    a stage of :math:`T` epochs that begins with the rate :math:`r`, it is
    :math:`r (T - e - 1) / T` while the stage warms up, then
    :math:`r\, e^{-\lambda (e - e_{warm})}`.  Candidates with weights of their
    own, such as the skip connections that halve the size, are left alone.

    Args:
        start: :math:`r` from 0 to below 1; or ``{start: rate}`` for stages,
            with epochs as ints or parts of all epochs as floats between 0 and
            1.  The authors' rates are 0.0, 0.4 and 0.7 in stages of 25 epochs.
        decay: :math:`\lambda`, at least 0.
        warmup: How long the weights are trained alone in each stage: epochs as
            an int, or a part of the stage as a float from 0 to 1.
        names: Of the choices that are skip connections.

    Raises:
        ConfigError: An option outside of its range, or names that are no
            choices of the search space.

    >>> dropout = SkipDropout(start=0.4, warmup=2)
    >>> dropout.on_epoch(1, max_epochs=4)
    >>> dropout.rate
    0.2
    """

    paper = 'Chen et al., ICCV 2019'

    def __init__(
        self,
        start: float | Mapping[float, float] = 0.4,
        decay: float = 0.2,
        warmup: float = 0.4,
        names: Sequence[str] = ('skip_connect',),
    ) -> None:
        super().__init__()
        self.stages = check_stages('start', start if isinstance(start, Mapping) else {0: start})
        for rate in self.stages.values():
            if not check_finite('start', rate, 0.0) < 1:
                raise ConfigError(f'Expected `start` to be from 0 to below 1, but got {rate!r}')
        self.decay = check_finite('decay', decay, 0.0)
        check_finite('warmup', warmup, 0.0)
        if isinstance(warmup, float) and warmup > 1:
            raise ConfigError(
                'Expected `warmup` to be epochs (an int) or a part of the stage (a float from '
                f'0 to 1), but got {warmup!r}'
            )
        self.warmup = warmup
        self.names = check_choice_names(names)
        self._hooks: list[Any] = []

    @property
    def rate(self) -> float:
        """The dropout rate of the epoch; 0 before the first stage."""
        begun = stages_until(self.stages, self.epoch, self.max_epochs)
        if not begun:
            return 0.0
        first, rate = begun[-1]
        later = [first_epoch(start, self.max_epochs) for start in self.stages]
        end = min([self.max_epochs, *(epoch for epoch in later if epoch > self.epoch)])
        num_epochs = end - first
        warmup = first_epoch(self.warmup, num_epochs)
        return decaying_dropout_rate(rate, self.epoch - first, num_epochs, warmup, self.decay)

    def check(self, mutator: Any) -> None:
        """Refuse names that are no choices."""
        check_names_occur(mutator, self.names)

    def attach(self, mutator: Any, supernet: nn.Module) -> None:
        """Put a hook on each skip connection without weights."""
        modules = {id(skip): skip for _, skip in named_candidates(mutator, self.names)}
        self._hooks = [
            skip.register_forward_hook(self._drop)
            for skip in modules.values()
            if not any(True for _ in skip.parameters())
        ]

    def detach(self, mutator: Any) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @contextmanager
    def hidden(self, mutator: Any, supernet: nn.Module) -> Iterator[None]:
        """Let no copy of a candidate take a hook along."""
        attached = bool(self._hooks)
        self.detach(mutator)
        try:
            yield
        finally:
            if attached:
                self.attach(mutator, supernet)

    def _drop(self, skip: nn.Module, inputs: Any, output: Any) -> Any:
        rate = self.rate if skip.training else 0.0
        if not rate:
            return None
        return map_tensors(
            lambda leaf: F.dropout(leaf, rate) if leaf.is_floating_point() else leaf, output
        )
