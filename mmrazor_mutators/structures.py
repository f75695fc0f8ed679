"""Arithmetic with what modules return: a tensor, or tuples, lists and dicts of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = [
    'Mismatch',
    'accumulate',
    'describe',
    'lend_gradient',
    'map_tensors',
    'scale',
    'total',
]


class Mismatch(Exception):
    """Two outputs cannot be added up; whoever knows where they come from says so."""


def map_tensors(function: Callable[[Tensor], Any], structure: Any) -> Any:
    """Return a structure with ``function`` of each of its tensors, and all else as it is.

    >>> map_tensors(lambda x: x + 1, {'a': torch.zeros(1), 'b': None})
    {'a': tensor([1.]), 'b': None}
    """
    if isinstance(structure, Tensor):
        return function(structure)
    return pytree.tree_map(
        lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, structure
    )


def scale(output: Any, weight: Tensor) -> Any:
    """Return an output times a scalar tensor, leaf by leaf.

    Raises:
        Mismatch: A leaf of whole numbers, such as indices, which cannot be mixed.

    >>> scale((torch.ones(2), None), torch.tensor(0.5))
    (tensor([0.5000, 0.5000]), None)
    """

    def scaled(leaf: Tensor) -> Tensor:
        if not (leaf.is_floating_point() or leaf.is_complex()):
            raise Mismatch(f'whole numbers ({_dtype(leaf)}) cannot be mixed')
        return weight * leaf

    return map_tensors(scaled, output)


def accumulate(total: Any, term: Any) -> Any:
    """Return ``total + term``, leaf by leaf; ``total`` is new and nobody else needs it.

    Raises:
        Mismatch: They differ in structure, or in the shape of a leaf.
    """
    if isinstance(total, Tensor) and isinstance(term, Tensor):
        if total.shape != term.shape:
            raise Mismatch('they differ in shape')
        return total.add_(term) if total.dtype == term.dtype else total + term
    leaves, structure = pytree.tree_flatten(total)
    others, other_structure = pytree.tree_flatten(term)
    if structure != other_structure:
        raise Mismatch('they differ in structure')
    return pytree.tree_unflatten(list(map(_add_leaves, leaves, others)), structure)


def _add_leaves(leaf: Any, other: Any) -> Any:
    if isinstance(leaf, Tensor) and isinstance(other, Tensor):
        return accumulate(leaf, other)
    if isinstance(leaf, Tensor) or isinstance(other, Tensor) or leaf != other:
        raise Mismatch(f'they hold {leaf!r} and {other!r} at the same place')
    return leaf


def total(outputs: Sequence[Any]) -> Any:
    """Return the sum of outputs, none of which is changed.

    Raises:
        Mismatch: They differ in structure, or in the shape of a leaf.

    >>> total([(torch.ones(1), 'a'), (torch.ones(1), 'a')])
    (tensor([2.]), 'a')
    """
    if len(outputs) == 1:
        return outputs[0]
    first, second, *others = outputs
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.shape != second.shape:
            raise Mismatch('they differ in shape')
        found = first + second
    else:
        found = accumulate(map_tensors(torch.clone, first), second)
    return reduce(accumulate, others, found)


def lend_gradient(output: Any, lent: Tensor) -> Any:
    """Return an output to whose gradient ``lent`` listens, as if it were added.

    Args:
        output: Its values stay.
        lent: A scalar tensor.
    """
    nothing = lent - lent.detach()
    return map_tensors(
        lambda leaf: leaf + nothing if leaf.is_floating_point() else leaf, output
    )


def describe(output: Any) -> str:
    """Return the form of an output in words.

    >>> describe({'out': torch.zeros(2, 3), 'state': (torch.zeros(1), None)})
    "{'out': (2, 3), 'state': ((1,), None)}"
    """
    if isinstance(output, Tensor):
        return f'shape {tuple(output.shape)}'
    return str(map_tensors(lambda leaf: tuple(leaf.shape), output))


def _dtype(leaf: Tensor) -> str:
    return str(leaf.dtype).removeprefix('torch.')
