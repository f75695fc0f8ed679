"""What the hypergradients by the implicit function theorem have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..guards import buffers_kept
from ..second_order import differentiable_twice
from .base import ArchGradient, BilevelProblem, Hypergradient
from .micro_batches import loss_and_gradient
from .scaling import inner_product, scaled, times
from .tensors import filled, gradients

__all__ = ['Implicit', 'MatVec']

MatVec = Callable[[list[Tensor]], list[Tensor]]
"""``v -> H v`` for a symmetric matrix, on vectors that are lists of tensors."""


class Implicit(Hypergradient):
    r"""Differentiates through the minimum of the training loss.

    Lorraine et al., AISTATS 2020, equation 2: where
    :math:`\nabla_w L_\mathrm{train} = 0`,

    .. math::
        \frac{d}{d\alpha} L_\mathrm{arch}
        = \nabla_\alpha L_\mathrm{arch}
        - \nabla^2_{\alpha, w} L_\mathrm{train}\, H^{-1} \nabla_w L_\mathrm{arch},
        \qquad H = \nabla^2_w L_\mathrm{train}.

    Subclasses say how :math:`H^{-1} v` is approximated.
    """

    def __call__(
        self, problem: BilevelProblem, train_batch: Any, arch_batch: Any
    ) -> ArchGradient:
        """Return the architecture loss at the weights and its total derivative."""
        weights, arch_params = list(problem.weights), list(problem.arch_params)
        with buffers_kept(problem.supernet, getattr(problem, 'saved_buffers', None)):
            loss, grads = loss_and_gradient(
                problem, problem.arch_loss, arch_batch, [*arch_params, *weights]
            )
            direct = filled(grads[: len(arch_params)], arch_params)
            loss_grads = grads[len(arch_params) :]
            with differentiable_twice():
                train_loss = scaled(problem, problem.train_loss(train_batch))
                train_grads = gradients(train_loss, weights, create_graph=True)
            # A weight outside of the training loss depends on no architecture parameter.
            vector = filled(
                [
                    None if t is None else g
                    for t, g in zip(train_grads, loss_grads, strict=True)
                ],
                weights,
            )

            def hessian_product(v: list[Tensor]) -> list[Tensor]:
                along, length = inner_product(problem, train_grads, v)
                product = problem.gradient(along, weights, retain_graph=True)
                return filled(times(product, length), weights)

            solution = self.solve(hessian_product, vector)
            along, length = inner_product(problem, train_grads, solution)
            indirect = times(problem.gradient(along, arch_params), length)
        total = [d - i for d, i in zip(direct, filled(indirect, arch_params), strict=True)]
        return ArchGradient(loss, total)

    @abstractmethod
    def solve(self, hessian_product: MatVec, vector: list[Tensor]) -> list[Tensor]:
        """Return an approximation of the inverse Hessian times ``vector``."""
