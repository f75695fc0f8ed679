"""Mutators that draw: SNAS softly, GDAS one path at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from ..builder import MUTATORS
from ..errors import ConfigError, did_you_mean
from ..functional import exponential_schedule, gumbel_softmax, linear_schedule
from .darts import DartsMutator
from .one_path import OnePathMutator

__all__ = ['GDASMutator', 'SNASMutator']

Schedule = Literal['linear', 'exponential']

_SCHEDULES: dict[str, Callable[[float, float, float, int], float]] = {
    'linear': linear_schedule,
    'exponential': exponential_schedule,
}


@MUTATORS.register_module()
class SNASMutator(DartsMutator):
    r"""Mixes by a soft Gumbel draw, :math:`\mathrm{softmax}((\log p + G) / \tau)`.

    SNAS (Xie et al., ICLR 2019), sections 2.2 and 2.3, with
    :math:`p = \mathrm{softmax}(\alpha)`.  There is one draw per space and
    forward pass, shared by all mutables of the space.

    Args:
        tau_max: Temperature in the first epoch, above 0.
        tau_min: Temperature in the last epoch, above 0.
        schedule: How to get from one to the other: ``'linear'``, as in the authors' code, or
            ``'exponential'``.
        **kwargs: As for :class:`DartsMutator`.

    Attributes:
        tau: The temperature of the epoch.

    Raises:
        ConfigError: A temperature that is not above 0, or an unknown schedule.

    >>> import mmrazor_mutators as mm
    >>> mutator = mm.SNASMutator(tau_max=1.0, tau_min=0.25)
    >>> mutator.on_epoch(1, max_epochs=3)
    >>> mutator.tau
    0.625
    """

    paper = 'Xie et al., ICLR 2019'
    samples = 'Gumbel noise'
    hard = False

    def __init__(
        self,
        tau_max: float = 1.0,
        tau_min: float = 0.03,
        schedule: Schedule = 'linear',
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, tau in (('tau_max', tau_max), ('tau_min', tau_min)):
            if not tau > 0:
                raise ConfigError(f'Expected `{name}` to be above 0, but got {tau!r}')
        if schedule not in _SCHEDULES:
            raise ConfigError(
                f'{schedule!r} is not a temperature schedule; '
                f'{did_you_mean(str(schedule), _SCHEDULES)}'
            )
        self.tau_max = float(tau_max)
        self.tau_min = float(tau_min)
        self.schedule = schedule
        self.tau = self.tau_max

    def temperature(self, epoch: int, max_epochs: int) -> float:
        """Return the temperature of an epoch."""
        return _SCHEDULES[self.schedule](self.tau_max, self.tau_min, epoch, max_epochs)

    def on_epoch(self, epoch: int, max_epochs: int) -> None:
        """Set the temperature of an epoch, also in mutables that draw by themselves."""
        super().on_epoch(epoch, max_epochs)
        self.tau = self.temperature(epoch, max_epochs)
        for space in self.search_spaces.values():
            for mutable in space['modules']:
                if hasattr(mutable, 'set_temperature'):
                    mutable.set_temperature(self.tau)

    def relax(self, arch_param: Tensor) -> Tensor:
        """Draw weights, shape ``(num_choices,)``, from logits of that shape."""
        return gumbel_softmax(arch_param, self.tau, hard=self.hard)


@MUTATORS.register_module()
class GDASMutator(OnePathMutator, SNASMutator):
    r"""Draws one path per space and runs nothing else.

    GDAS (Dong & Yang, CVPR 2019), section 3.2: the weights are the one-hot
    argmax of a Gumbel-softmax draw with the gradient of the soft one.  The
    chosen candidate runs.  In the authors' code for NAS-Bench-201 each other one adds its
    weight as a scalar, which is 0 but lets a gradient through.  In that for the DARTS space
    it does not (``lend_unchosen=False``), pools have no norm, and two operations on one input
    may be kept; the last has no counterpart here, since a node chooses among its inputs.

    Args:
        lend_unchosen: Whether candidates that are not run lend the gradient of their weight.
        tau_max: Temperature in the first epoch, above 0.
        tau_min: Temperature in the last epoch, above 0.
        schedule: ``'linear'`` (the authors') or ``'exponential'``.
        **kwargs: As for :class:`OnePathMutator` and :class:`SNASMutator`.
    """

    paper = 'Dong & Yang, CVPR 2019'
    samples = 'one choice (Gumbel)'
    hard = True

    def __init__(
        self,
        tau_max: float = 10.0,
        tau_min: float = 0.1,
        schedule: Schedule = 'linear',
        lend_unchosen: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(tau_max=tau_max, tau_min=tau_min, schedule=schedule, **kwargs)
        if not isinstance(lend_unchosen, bool):
            raise ConfigError(
                f'Expected `lend_unchosen` to be True or False, but got {lend_unchosen!r}'
            )
        self.lend_unchosen = lend_unchosen

    def relax(self, arch_param: Tensor) -> Tensor:
        """Draw a one-hot vector, ``(num_choices,)``, with the gradient of a soft draw."""
        weights = super().relax(arch_param)
        # The value is the same; what is 0 has no gradient any more.
        return weights if self.lend_unchosen else weights * weights.detach()
