"""Small supernets with cells, in double precision, for the tests of how passes are run."""

from __future__ import annotations

from typing import Any

import torch
import toys
from torch import Tensor, nn

import mmrazor_mutators as mm
from mmrazor_mutators.host import DropPath

ARCHITECTURES: dict[str, dict[str, Any]] = {
    'darts': {'type': 'DartsSupernet', 'num_layers': 3, 'num_nodes': 2, 'drop_path': True},
    'nasbench201': {'type': 'NasBench201Supernet', 'num_cells': 1},
}


def built(
    kind: str, mutator_type: str, drop_prob: float = 0.3, **options: Any
) -> tuple[Any, Any]:
    """Return a supernet that drops paths where it can, and the mutator that it is bound to."""
    torch.manual_seed(0)
    common = {'in_channels': 2, 'num_classes': 3, 'base_channels': 4}
    supernet = mm.build_architecture({**common, **ARCHITECTURES[kind]})
    _, mutator = toys.prepared(mutator_type, supernet, **options)
    supernet.double()  # Now that the candidates are there.
    for module in supernet.modules():
        if isinstance(module, DropPath):
            module.drop_prob = drop_prob
    return supernet, mutator


def batches(size: int = 3, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    """Draw a batch for the weights and one for the architecture."""
    return [
        (torch.randn(size, 2, 8, 8, dtype=dtype), torch.randint(3, (size,))) for _ in range(2)
    ]


def search_over(
    supernet: Any, mutator: Any, hypergradient: Any = 'first_order', **options: Any
) -> mm.BilevelSearch:
    """Return a search with options of its execution."""
    return mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.05),
        hypergradient,
        grad_clip=5.0,
        **options,
    )


def toy_search_over(
    kind: str, mutator_type: str, hypergradient: str, checkpoint_cells: bool, **options: Any
) -> mm.BilevelSearch:
    """Return a search over one of the supernets."""
    supernet, mutator = built(kind, mutator_type, **options)
    return search_over(supernet, mutator, hypergradient, checkpoint_cells=checkpoint_cells)


class Counting:
    """Counts how often the class's forward of a module is run.

    Args:
        module: Gets a forward of its own.
    """

    def __init__(self, module: nn.Module) -> None:
        self.calls = 0
        self._forward = module.forward
        module.__dict__['forward'] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self._forward(*args, **kwargs)
