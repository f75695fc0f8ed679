"""FBNet: soft Gumbel draws, and a loss that knows what the network costs."""

from __future__ import annotations

from typing import Any

from ..builder import MUTATORS, build_extension
from ..errors import ConfigError
from .gumbel import SNASMutator

__all__ = ['FBNetMutator']


@MUTATORS.register_module()
class FBNetMutator(SNASMutator):
    r"""Mixes by a soft Gumbel draw whose temperature falls by a factor per epoch.

    FBNet (Wu et al., CVPR 2019), sections 3.2, 3.3 and 4.1: weights
    :math:`m = \mathrm{softmax}((\log p + G) / \tau)` with :math:`\tau =
    \tau_\mathrm{max} \cdot \mathrm{decay}^\mathrm{epoch}`, however long the
    search is.

    With ``costs`` the architecture minimises equation 2, :math:`L \cdot
    0.2\,\log(\mathrm{LAT})^{0.6}`, where :math:`\mathrm{LAT} = \sum m_i c_i`
    over the weights that were drawn.  Some descriptions,
    and implementations by others, add the two terms; that is
    ``cost_form='fbnet_sum'``.  Others read the equation as :math:`L \cdot 0.2\,
    \log(\mathrm{LAT}^{0.6})`; that is an :class:`ExpectedCost` of the form
    ``'fbnet'`` with ``alpha=0.12, beta=1``.

    The authors' search code is not public.  In reimplementations the temperature
    stays while weights alone are trained, in the first 10 epochs, and the cost
    scales the gradient of the weights too.  Here it falls from the first epoch
    on, as the paper says, and weights minimise :math:`L`.

    Args:
        tau_max: Temperature in the first epoch, above 0.
        decay: Factor from one epoch to the next, above 0 and at most 1.
        costs: A table of costs, or the path of one, as for
            :class:`~mmrazor_mutators.extensions.ExpectedCost`, which is then
            added to ``extensions``.
        cost_form: ``'fbnet'`` (the paper's product), ``'fbnet_sum'``, or any
            other form of that extension that needs no further options.
        **kwargs: As for :class:`DartsMutator`.

    Raises:
        ConfigError: An option outside of its range, or one of the schedule of
            :class:`SNASMutator`.

    >>> import mmrazor_mutators as mm
    >>> mutator = mm.build_mutator(dict(type='FBNetMutator'))
    >>> mutator.on_epoch(2, max_epochs=90)
    >>> round(mutator.tau, 3)
    4.57
    """

    paper = 'Wu et al., CVPR 2019'
    refused_options = ('tau_min', 'schedule')

    def __init__(
        self,
        tau_max: float = 5.0,
        decay: float = 0.956,
        costs: Any | None = None,
        cost_form: str = 'fbnet',
        **kwargs: Any,
    ) -> None:
        for name in self.refused_options:
            if name in kwargs:
                raise ConfigError(
                    f'The temperature of FBNetMutator falls by `decay` in every epoch, so it '
                    f'takes no {name}={kwargs[name]!r}'
                )
        super().__init__(tau_max=tau_max, **kwargs)
        if not 0 < decay <= 1:
            raise ConfigError(
                f'Expected `decay` to be above 0 and at most 1, but got {decay!r}'
            )
        self.decay = float(decay)
        if costs is not None:
            cost = {'type': 'ExpectedCost', 'costs': costs, 'form': cost_form}
            self.extensions.append(build_extension({**cost, 'expectation': 'drawn'}))

    def temperature(self, epoch: int, max_epochs: int) -> float:
        """Return the temperature of an epoch; the length of the search is not looked at."""
        return float(self.tau_max * self.decay**epoch)
