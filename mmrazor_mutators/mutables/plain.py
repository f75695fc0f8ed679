"""What stands for a mutable in a network without anything to search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..structures import total

__all__ = ['EmptyDecoder', 'EmptyEncoder', 'ParallelSum', 'SelectedSum', 'Skip']


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

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Return the sum over all operations."""
        return total([choice(*inputs, **kwargs) for choice in self.choices.values()])


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

    def forward(self, prev_inputs: Sequence[Any], *inputs: Any, **kwargs: Any) -> Any:
        """Return the sum over the selected inputs."""
        selected = zip(self.indices, self.choices.values(), strict=True)
        return total([m(prev_inputs[index], *inputs, **kwargs) for index, m in selected])

    def extra_repr(self) -> str:
        """Show which inputs are read."""
        return f'indices={self.indices}'


class Skip(nn.Module):
    """Returns its first input: what stands for a block that is left out."""

    def forward(self, x: Any, *inputs: Any, **kwargs: Any) -> Any:
        """Return ``x``."""
        return x


class EmptyEncoder(nn.TransformerEncoder):
    """An ``nn.TransformerEncoder`` all of whose layers are left out; it looks at none."""

    def forward(self, src: Any, *inputs: Any, **kwargs: Any) -> Any:
        """Return ``src``, normalised where the encoder has a norm."""
        return src if self.norm is None else self.norm(src)


class EmptyDecoder(nn.TransformerDecoder):
    """An ``nn.TransformerDecoder`` all of whose layers are left out; it looks at none."""

    def forward(self, tgt: Any, *inputs: Any, **kwargs: Any) -> Any:
        """Return ``tgt``, normalised where the decoder has a norm."""
        return tgt if self.norm is None else self.norm(tgt)
