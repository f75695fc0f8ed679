"""The two losses of a search, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..distributed import average_
from ..mutators import DifferentiableMutator
from ..typing import LossFn
from .checks import check_loss, pair_of
from .execution import Execution
from .hypergradients.micro_batches import MicroBatches, mean_loss
from .hypergradients.scaling import unscaled_gradients
from .hypergradients.tensors import unshared
from .loss_scale import LossScale
from .predictions import Predictions

__all__ = ['Losses']


class Losses(Predictions):
    """What is minimised; override :meth:`compute_loss` for batches of another form."""

    mutator: DifferentiableMutator
    execution: Execution
    loss_fn: LossFn
    accumulate: int
    loss_scale: LossScale | None

    def compute_loss(self, batch: Any) -> Tensor:
        """Return the loss of a batch; override it for batches of another form.

        The supernet is run within ``self.execution.forward_context()``.

        Args:
            batch: A pair ``(inputs, targets)``.
        """
        inputs, targets = pair_of(batch)
        with self.execution.forward_context():
            return self.loss_fn(self.supernet(inputs), targets)

    def train_loss(self, batch: Any) -> Tensor:
        """Return the loss that the weights minimise, of all micro-batches together."""
        return check_loss(mean_loss(self.compute_loss, batch))

    def arch_loss(self, batch: Any) -> Tensor:
        """Return the loss that the architecture minimises, regularisation included."""
        return self.mutator.arch_objective(self.train_loss(batch))

    def gradient(
        self, loss: Tensor, params: Sequence[Tensor], *, retain_graph: bool = False
    ) -> list[Tensor | None]:
        """Return gradients, averaged over the ranks of a distributed run.

        ``None`` where the loss does not depend on a parameter.
        """
        grads = unshared(unscaled_gradients(self, loss, params, retain_graph=retain_graph))
        average_([grad for grad in grads if grad is not None])
        return grads

    def _whole(self, train_batch: Any, arch_batch: Any) -> tuple[Any, Any]:
        """Return what a step was given, with micro-batches that know their sizes."""
        if self.accumulate == 1:
            return train_batch, arch_batch
        given = {'train_batch': train_batch, 'arch_batch': arch_batch}
        train, arch = (
            batch
            if batch is None
            else MicroBatches.of(name, batch, self.accumulate, self.size_of)
            for name, batch in given.items()
        )
        return train, arch
