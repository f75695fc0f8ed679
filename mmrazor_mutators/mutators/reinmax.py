"""ReinMax: one path per space, with a gradient of second order."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..builder import MUTATORS
from ..errors import ConfigError
from ..functional import reinmax
from .darts import DartsMutator
from .one_path import OnePathMutator

__all__ = ['ReinMaxMutator']


@MUTATORS.register_module()
class ReinMaxMutator(OnePathMutator, DartsMutator):
    r"""Draws one path from :math:`\mathrm{softmax}(\alpha)`, with the ReinMax gradient.

    Liu et al., NeurIPS 2023, "Bridging Discrete and Backpropagation",
    algorithm 2: with the draw :math:`D`, :math:`\pi_0 =
    \mathrm{softmax}(\alpha)` and :math:`\pi_1 = (\mathrm{softmax}(\alpha /
    \tau) + D) / 2`, the gradient is that of :math:`2 \pi_1 - \pi_0 / 2`, where
    :math:`\pi_1` counts as a softmax of the logits.  At :math:`\tau = 1` it
    is right on average for every quadratic function of one space's
    :math:`D`; a plain straight-through only for a linear one.

    Args:
        tau: Temperature, at least 1.  Larger ones trade bias for variance.
        exact_gates: As for :class:`OnePathMutator`; without them the gradient
            is not the paper's.
        **kwargs: As for :class:`OnePathMutator` and :class:`DartsMutator`.

    Raises:
        ConfigError: A temperature below 1, for which the estimator is not made.
    """

    paper = 'Liu et al., NeurIPS 2023'
    samples = 'one choice'
    hard = True

    def __init__(self, tau: float = 1.0, exact_gates: bool = True, **kwargs: Any) -> None:
        super().__init__(exact_gates=exact_gates, **kwargs)
        if not 1 <= tau < math.inf:
            raise ConfigError(f'Expected `tau` to be at least 1 and finite, but got {tau!r}')
        self.tau = float(tau)

    def relax(self, arch_param: Tensor) -> Tensor:
        """Draw one-hot weights, shape ``(num_choices,)``, from logits of that shape."""
        return reinmax(arch_param, self.tau)
