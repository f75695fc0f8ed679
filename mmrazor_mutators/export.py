"""From a supernet and a subnet to a network without anything to search."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

from torch import Tensor, nn

from .mutables import MutableEdge, MutableModule, match_subnet
from .typing import Subnet

__all__ = ['ParallelSum', 'SelectedSum', 'deploy_subnet', 'export_subnet']


class ParallelSum(nn.Module):
    """The sum of what several operations make of one input.

    Args:
        choices: ``{name: operation}``.

    >>> import torch
    >>> ParallelSum({'a': nn.Identity(), 'b': nn.ReLU()})(torch.tensor([2.0, -2.0]))
    tensor([ 4., -2.])
    """

    def __init__(self, choices: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.choices = nn.ModuleDict(choices)

    def forward(self, x: Any) -> Tensor:
        """Return the sum over all operations."""
        return reduce(add, [choice(x) for choice in self.choices.values()])


class SelectedSum(nn.Module):
    """The sum of selected inputs, each through its own module.

    Args:
        choices: ``{name: module}`` of the inputs that are kept.
        indices: Which of the inputs each of them reads.

    >>> import torch
    >>> SelectedSum({'b': nn.ReLU()}, [1])([torch.tensor([5.0]), torch.tensor([-2.0])])
    tensor([0.])
    """

    def __init__(self, choices: Mapping[str, nn.Module], indices: Sequence[int]) -> None:
        super().__init__()
        self.choices = nn.ModuleDict(choices)
        self.indices = tuple(indices)

    def forward(self, prev_inputs: Sequence[Tensor]) -> Tensor:
        """Return the sum over the selected inputs."""
        selected = zip(self.indices, self.choices.values(), strict=True)
        return reduce(add, [choice(prev_inputs[index]) for index, choice in selected])

    def extra_repr(self) -> str:
        """Show which inputs are read."""
        return f'indices={self.indices}'


def deploy_subnet(supernet: nn.Module, subnet: Subnet) -> None:
    """Remove from ``supernet``, in place, every choice that ``subnet`` does not make.

    Raises:
        SubnetError: The subnet does not fit; nothing is removed then.
    """
    for mutable, chosen in match_subnet(supernet, subnet):
        mutable.export(chosen)


def export_subnet(supernet: nn.Module, subnet: Subnet) -> nn.Module:
    """Return the network of ``subnet`` as a new, plain module with copied weights.

    Candidates that were not chosen are never copied.

    Raises:
        SubnetError: The subnet does not fit.
    """
    memo: dict[int, Any] = {}
    # Inner mutables first: an outer one then finds their replacements in the memo.
    for mutable, chosen in reversed(match_subnet(supernet, subnet)):
        memo[id(mutable)] = _plain(mutable, chosen, memo)
    return copy.deepcopy(supernet, memo)


def _plain(mutable: MutableModule, chosen: Sequence[str], memo: dict[int, Any]) -> nn.Module:
    """Return what stands for ``mutable`` in a plain network."""
    names = [name for name in mutable.full_choice_names if name in chosen]
    choices = {name: copy.deepcopy(mutable.choices[name], memo) for name in names}
    if isinstance(mutable, MutableEdge):
        return SelectedSum(choices, [mutable.full_choice_names.index(name) for name in names])
    return next(iter(choices.values())) if len(choices) == 1 else ParallelSum(choices)
