"""Second order by finite differences, as in the DARTS paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError
from ...registry import HYPERGRADIENTS
from ..guards import frozen, get_rng_state, replayed
from .base import BilevelProblem
from .micro_batches import loss_and_gradient
from .tensors import filled, norm
from .unrolled import Unrolled

__all__ = ['FiniteDifference']


@HYPERGRADIENTS.register_module(name='finite_difference')
class FiniteDifference(Unrolled):
    r"""The mixed product by a central difference along :math:`u`.

    DARTS (Liu et al., ICLR 2019), equation 8:
    :math:`(\nabla_\alpha L_\mathrm{train}(w + \epsilon u, \alpha) -
    \nabla_\alpha L_\mathrm{train}(w - \epsilon u, \alpha)) / 2\epsilon` with
    :math:`\epsilon = r / \lVert u \rVert`.  With ReLUs and small batches the
    kinks between the two points dominate the difference; ``exact`` has no
    such error.

    Args:
        radius: The distance :math:`r` of both points from the weights.

    Raises:
        ConfigError: A radius that is not above 0.
    """

    def __init__(self, radius: float = 0.01) -> None:
        if not radius > 0:
            raise ConfigError(f'Expected `radius` to be above 0, but got {radius!r}')
        self.radius = radius

    def mixed_product(
        self, problem: BilevelProblem, train_batch: Any, direction: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the central difference of the architecture gradients; moves the weights."""
        length = norm(direction)
        # Without a direction there is nothing to differentiate along, and 0 is exact.
        epsilon = self.radius / length.clamp_min(self.radius * 1e-20)
        step, draws, sides = list(direction), get_rng_state(), []
        with torch.no_grad():
            torch._foreach_mul_(step, epsilon)
        # In place, which takes no further copy of the weights.
        for times in (1.0, -2.0):
            with torch.no_grad():
                torch._foreach_add_(list(problem.weights), step, alpha=times)
            with replayed(draws), frozen(problem.weights):
                _, grads = loss_and_gradient(
                    problem, problem.train_loss, train_batch, problem.arch_params
                )
            sides.append(filled(grads, problem.arch_params))
        return [(plus - minus) / (2 * epsilon) for plus, minus in zip(*sides, strict=True)]
