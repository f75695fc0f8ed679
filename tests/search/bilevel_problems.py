"""A bilevel problem of which every derivative can be written down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmrazor_mutators.search.hypergradients import ArchGradient


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return copies of several tensors as one vector."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


class Quadratic:
    r"""Quadratic in both variables, up to ``bend``, in float64.

    .. math::
        L_{train} = w'Aw / 2 - s(w)'B\alpha, \qquad s(w) = w + \kappa \sin w

        L_{arch} = w'Cw / 2 + c'w + w'D\alpha + \alpha'E\alpha / 2

    ``A`` is positive definite with eigenvalues from 1 to 3; a ``batch`` is
    ignored.  The weights are two tensors of five numbers together, and so are
    the architecture parameters, of four.

    Args:
        seed: Of all numbers.
        bend: :math:`\kappa`; 0 for a quadratic.
    """

    def __init__(self, seed: int = 0, bend: float = 0.0) -> None:
        draws = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=draws)

        basis = torch.linalg.qr(normal(5, 5)).Q
        self.A = basis @ torch.linspace(1, 3, 5, dtype=torch.float64).diag() @ basis.T
        self.B, self.D = normal(5, 4), normal(5, 4)
        self.C, self.c = _symmetric(normal(5, 5)), normal(5)
        self.E = _symmetric(normal(4, 4))
        self.bend = bend
        self.weights = [nn.Parameter(normal(2)), nn.Parameter(normal(1, 3))]
        self.arch_params = [nn.Parameter(normal(3, 1)), nn.Parameter(normal(1))]
        self.supernet = nn.Module()
        self.supernet.register_buffer('passes', torch.zeros((), dtype=torch.long))
        self.weight_optimizer: Any = torch.optim.SGD(self.weights, lr=0.1)

    # What a hypergradient sees.

    def train_loss(self, batch: Any = None) -> Tensor:
        self.supernet.passes += 1
        w, alpha = _joined(self.weights), _joined(self.arch_params)
        return w @ self.A @ w / 2 - (w + self.bend * w.sin()) @ self.B @ alpha

    def arch_loss(self, batch: Any = None) -> Tensor:
        self.supernet.passes += 1
        w, alpha = _joined(self.weights), _joined(self.arch_params)
        return w @ self.C @ w / 2 + self.c @ w + w @ self.D @ alpha + alpha @ self.E @ alpha / 2

    def gradient(
        self, loss: Tensor, params: Sequence[Tensor], *, retain_graph: bool = False
    ) -> list[Tensor | None]:
        return list(
            torch.autograd.grad(loss, params, retain_graph=retain_graph, allow_unused=True)
        )

    # Its derivatives by hand, at any weights.

    @property
    def w(self) -> Tensor:
        return flat(self.weights)

    @property
    def alpha(self) -> Tensor:
        return flat(self.arch_params)

    def slope(self, w: Tensor) -> Tensor:
        """Return the derivative of ``s``."""
        return 1 + self.bend * w.cos()

    def train_gradient(self, w: Tensor) -> Tensor:
        return self.A @ w - self.slope(w) * (self.B @ self.alpha)

    def hessian(self, w: Tensor) -> Tensor:
        return self.A + (self.bend * w.sin() * (self.B @ self.alpha)).diag()

    def mixed(self, w: Tensor) -> Tensor:
        """Return the derivative of the training gradient, shape ``(4, 5)``."""
        return -self.B.T * self.slope(w)

    def arch_gradient(self, w: Tensor) -> Tensor:
        """Return the direct derivative in the architecture parameters."""
        return self.D.T @ w + self.E @ self.alpha

    def weight_gradient(self, w: Tensor) -> Tensor:
        """Return the derivative of the architecture loss in the weights."""
        return self.C @ w + self.c + self.D @ self.alpha

    def arch_value(self, w: Tensor) -> Tensor:
        alpha = self.alpha
        return w @ self.C @ w / 2 + self.c @ w + w @ self.D @ alpha + alpha @ self.E @ alpha / 2

    def evaluate(self, hypergradient: Any) -> tuple[Tensor, Tensor]:
        """Return the loss and the derivative as a vector, after a look at their form."""
        result = hypergradient(self, None, None)
        assert isinstance(result, ArchGradient)
        assert [grad.shape for grad in result.grads] == [p.shape for p in self.arch_params]
        assert not result.loss.requires_grad
        assert not any(grad.requires_grad for grad in result.grads)
        return result.loss, flat(result.grads)


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
