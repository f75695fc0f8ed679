"""First order: the weights are taken as they are."""

from __future__ import annotations

from typing import Any

from ...registry import HYPERGRADIENTS
from ..guards import frozen
from .base import ArchGradient, BilevelProblem, Hypergradient
from .micro_batches import loss_and_gradient
from .tensors import filled

__all__ = ['FirstOrder']


@HYPERGRADIENTS.register_module(name='first_order')
class FirstOrder(Hypergradient):
    r"""The direct derivative, :math:`\nabla_\alpha L_\mathrm{arch}(w, \alpha)`.

    DARTS (Liu et al., ICLR 2019), section 2.3, with :math:`\xi = 0`.  One
    pass forward and one backward, which computes no gradient of a weight.
    The pass is at the network's own weights, so it counts in the running
    statistics like any other one.
    """

    def __call__(
        self, problem: BilevelProblem, train_batch: Any, arch_batch: Any
    ) -> ArchGradient:
        """Return the architecture loss and its direct derivative."""
        with frozen(problem.weights):
            loss, grads = loss_and_gradient(
                problem, problem.arch_loss, arch_batch, problem.arch_params
            )
        return ArchGradient(loss, filled(grads, problem.arch_params))
