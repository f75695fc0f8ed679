"""What mutators have in common that draw one choice per space and run nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..typing import Mixture
from .differentiable import DifferentiableMutator

__all__ = ['OnePathMutator']


class OnePathMutator(DifferentiableMutator):
    """Runs the choice that :meth:`relax` has drawn, as one-hot weights.

    Args:
        exact_gates: Whether the choices that were not drawn run as well while
            architecture parameters are stepped, without a graph, so that the
            gradient of every weight is exact.  Otherwise their weights count
            as the scalars that they are, which is cheaper.
        **kwargs: As for the mutator that this class is combined with.
    """

    cost = 'one path'

    def __init__(self, exact_gates: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.exact_gates = bool(exact_gates)

    def sample_paths(self, weights: dict[str, Tensor]) -> dict[str, Mixture]:
        """Run the drawn choice of every space.

        Which one that is has to be known to the host: one look at the device in
        each forward pass, for all spaces together.
        """
        if not weights:
            return {}
        drawn = torch.stack([weight.detach().argmax() for weight in weights.values()]).tolist()
        mixtures = {}
        for (space_id, weight), index in zip(weights.items(), drawn, strict=True):
            silent: tuple[int, ...] = ()
            if self.exact_gates and weight.requires_grad:
                silent = tuple(i for i in self.kept_indices(space_id) if i != index)
            mixtures[space_id] = Mixture(weight, (index,), silent)
        return mixtures
