"""Constraints on a search, whose strength is found by the search itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..checks import check_count
from ..errors import ConfigError
from ..mutators import Extension

__all__ = ['Constrained']


class Constrained(Extension):
    r"""Presses costs below their limits, by an augmented Lagrangian.

    Nocedal & Wright, Numerical Optimization, section 17.4.  With the excess
    :math:`g = E[\mathrm{cost}] / \mathrm{limit} - 1` of each constraint the penalty is

    .. math:: \frac{1}{2 \rho} \left(\max(0, \lambda + \rho g)^2 - \lambda^2\right)

    Its multiplier :math:`\lambda` follows the excess, and :math:`\rho` grows as long as that
    does not shrink.  In the first part of a search the limits come down geometrically, from
    what the costs are at first: a network that is far above a limit would be made cheap
    before the loss has said what is worth its cost.

    Args:
        count: How many constraints.
        interval: After how many passes the multipliers follow.
        ramp: Share of the epochs, from the first penalty on, until limits are what they are.

    Raises:
        ConfigError: A number out of its range.
    """

    multipliers: Tensor
    strengths: Tensor
    excess: Tensor
    passes: Tensor
    start: Tensor

    def __init__(self, count: int, interval: int, ramp: float) -> None:
        super().__init__()
        if isinstance(ramp, bool) or not isinstance(ramp, (int, float)) or not 0 <= ramp <= 1:
            raise ConfigError(f'Expected `ramp` from 0 to 1, but got {ramp!r}')
        self.interval = check_count('interval', interval)
        self.ramp = float(ramp)
        self._begun = -1
        self.register_buffer('multipliers', torch.zeros(count))
        self.register_buffer('strengths', torch.ones(count))
        self.register_buffer('excess', torch.zeros(count))
        self.register_buffer('passes', torch.zeros((), dtype=torch.long))
        self.register_buffer('start', torch.zeros(count))

    def pressure(self, ratios: Tensor) -> Tensor:
        """Return the penalty, and let multipliers follow where there is a graph.

        Args:
            ratios: Expected costs over their limits, shape ``(count,)``.
        """
        excess = ratios / self._allowed(ratios.detach()) - 1
        # Copies, as they move before the backward pass.
        multipliers, strengths = self.multipliers.clone(), self.strengths.clone()
        multipliers, strengths = multipliers.to(excess), strengths.to(excess)
        pressed = (multipliers + strengths * excess).clamp_min(0)
        penalty: Tensor = ((pressed.square() - multipliers.square()) / (2 * strengths)).sum()
        if torch.is_grad_enabled():
            self._follow(excess.detach())
        return penalty

    def _allowed(self, ratios: Tensor) -> Tensor:
        """Return how many times its limit each cost may be by now, from ``start`` to 1."""
        start = torch.where(self.start > 0, self.start, ratios.to(self.start))
        first = self.epoch if self._begun < 0 else self._begun
        if torch.is_grad_enabled():
            self.start.copy_(start)
            self._begun = first
        # Where nobody tells the epochs there is but one, and nothing comes down.
        done = (self.epoch - first) / max(self.max_epochs - 1 - first, 1)
        left = 1 - done / self.ramp if self.ramp and self.max_epochs > 1 else 0.0
        return (start.clamp_min(1) ** max(left, 0.0)).to(ratios)

    @torch.no_grad()
    def _follow(self, excess: Tensor) -> None:
        """Move the multipliers every so many passes, without waiting for the device."""
        self.passes += 1
        now = self.passes % self.interval == 0
        excess = excess.to(self.excess)
        # Bounded, so that an excess that takes long to go away leaves no inertia behind.
        step = self.strengths * excess.clamp(-0.2, 0.2)
        moved = (self.multipliers + step).clamp_min(0)
        stuck = (excess > 0.02) & (excess > 0.9 * self.excess)
        grown = torch.where(stuck, 1.2 * self.strengths, self.strengths).clamp_max(100.0)
        self.multipliers.copy_(torch.where(now, moved, self.multipliers))
        self.strengths.copy_(torch.where(now, grown, self.strengths))
        self.excess.copy_(torch.where(now, excess, self.excess))

    def get_extra_state(self) -> dict[str, Any]:
        """Return what ``state_dict`` holds beside the buffers."""
        return {**super().get_extra_state(), 'begun': self._begun}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`get_extra_state` was called."""
        super().set_extra_state(state)
        self._begun = state.get('begun', -1)  # Checkpoints before limits came down lack it.
