"""What a hypergradient is given, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ['ArchGradient', 'BilevelProblem', 'Hypergradient']


class BilevelProblem(Protocol):
    r"""Two losses, the outer one at the minimum of the inner one.

    Minimise :math:`L_\mathrm{arch}(w^*(\alpha), \alpha)` over :math:`\alpha`,
    where :math:`w^*` minimises :math:`L_\mathrm{train}(w, \alpha)`.

    Attributes:
        supernet: The network, whose buffers virtual passes must not change.
        weights: The parameters :math:`w`, in the order of ``weight_optimizer``.
        arch_params: The parameters :math:`\alpha`.
        weight_optimizer: Takes the steps in :math:`w`.

    It may have ``saved_buffers`` too: copies of the supernet's as they are when
    a hypergradient is called, which then need not be copied once more; and ``loss_scale``, a
    :class:`LossScale` by which losses are multiplied before they are differentiated.
    """

    supernet: nn.Module
    weights: Sequence[Tensor]
    arch_params: Sequence[Tensor]
    weight_optimizer: Optimizer

    def train_loss(self, batch: Any) -> Tensor:
        r"""Return :math:`L_\mathrm{train}` at the current parameters."""

    def arch_loss(self, batch: Any) -> Tensor:
        r"""Return :math:`L_\mathrm{arch}`, regularisation included."""

    def gradient(
        self, loss: Tensor, params: Sequence[Tensor], *, retain_graph: bool = False
    ) -> list[Tensor | None]:
        """Return the gradient of ``loss``, averaged over the ranks of a distributed run."""


class ArchGradient(NamedTuple):
    """The result of one evaluation.

    Attributes:
        loss: The architecture loss, a detached scalar.
        grads: The total derivative with respect to every architecture
            parameter, in their order and shapes.
    """

    loss: Tensor
    grads: list[Tensor]


class Hypergradient(ABC):
    r"""A way to differentiate :math:`L_\mathrm{arch}(w^*(\alpha), \alpha)`.

    Instances hold options only, no state.  Parameters, their ``.grad``, the
    optimizer's state and (for passes at weights that are not the network's
    own) the buffers are after a call what they were before it.
    """

    @abstractmethod
    def __call__(
        self, problem: BilevelProblem, train_batch: Any, arch_batch: Any
    ) -> ArchGradient:
        """Return the architecture loss and its total derivative."""
