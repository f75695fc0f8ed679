"""What the hypergradients through one step of the weights have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...copies import copy_into
from ..guards import buffers_kept, frozen, get_rng_state, replayed, values_kept
from ..second_order import differentiable_twice
from ..virtual_step import pull_back, virtual_step
from .base import ArchGradient, BilevelProblem, Hypergradient
from .micro_batches import loss_and_gradient
from .scaling import inner_product, scaled, times
from .tensors import filled, gradients

__all__ = ['Unrolled', 'exact_mixed_product']


class Unrolled(Hypergradient):
    r"""Differentiates through one virtual step of the weight optimizer.

    DARTS (Liu et al., ICLR 2019), equations 5 to 7: with
    :math:`w' = w + s(g)`, where :math:`g = \nabla_w L_\mathrm{train}(w, \alpha)`
    and :math:`s` is the step that the optimizer would take,

    .. math::
        \frac{d}{d\alpha} L_\mathrm{arch}(w', \alpha)
        = \nabla_\alpha L_\mathrm{arch}(w', \alpha)
        + \nabla^2_{\alpha, w} L_\mathrm{train}(w, \alpha)\, u, \qquad
        u = \Big(\frac{\partial s}{\partial g}\Big)^{\!\top}
            \nabla_{w'} L_\mathrm{arch}(w', \alpha).

    For SGD, :math:`u = -\eta \nabla_{w'} L_\mathrm{arch}`.  Subclasses say how
    to get the mixed product.
    """

    def __call__(
        self, problem: BilevelProblem, train_batch: Any, arch_batch: Any
    ) -> ArchGradient:
        """Return the architecture loss after the virtual step and its total derivative."""
        weights, arch_params = problem.weights, problem.arch_params
        saved = getattr(problem, 'saved_buffers', None)
        with buffers_kept(problem.supernet, saved), values_kept(weights) as put_back:
            draws = get_rng_state()
            with frozen(arch_params):
                _, train_grads = loss_and_gradient(
                    problem, problem.train_loss, train_batch, weights
                )
            leaves = [g if g is None else g.detach().requires_grad_() for g in train_grads]
            stepped = virtual_step(problem.weight_optimizer, weights, leaves)
            copy_into(weights, stepped)
            loss, grads = loss_and_gradient(
                problem, problem.arch_loss, arch_batch, [*arch_params, *weights]
            )
            put_back()
            direct = filled(grads[: len(arch_params)], arch_params)
            direction = pull_back(stepped, leaves, filled(grads[len(arch_params) :], weights))
            with replayed(draws):
                indirect = self.mixed_product(problem, train_batch, direction)
        total = [d + i for d, i in zip(direct, indirect, strict=True)]
        return ArchGradient(loss, total)

    @abstractmethod
    def mixed_product(
        self, problem: BilevelProblem, train_batch: Any, direction: Sequence[Tensor]
    ) -> list[Tensor]:
        r"""Return :math:`\nabla^2_{\alpha, w} L_\mathrm{train}\, u` for a direction :math:`u`.

        Every loss has to be evaluated with the draws of the current random
        state.  The weights may be moved, and the direction be overwritten: the
        caller puts the weights back, and needs the direction no more.
        """


def exact_mixed_product(
    problem: BilevelProblem, train_batch: Any, direction: Sequence[Tensor]
) -> list[Tensor]:
    r"""Return :math:`\nabla_\alpha \langle \nabla_w L_\mathrm{train}, u \rangle`, exactly.

    The gradient is differentiated once more, so every operation of the
    supernet needs a second derivative.
    """
    length: Tensor | None = None

    def product_of(part: Any) -> Tensor:
        nonlocal length
        with differentiable_twice():
            loss = scaled(problem, problem.train_loss(part))
            grads = gradients(loss, problem.weights, create_graph=True)
        product, length = inner_product(problem, grads, direction)
        return product

    _, product = loss_and_gradient(problem, product_of, train_batch, problem.arch_params)
    return filled(times(product, length), problem.arch_params)
