"""Arithmetic with what modules return: a tensor, or structures of tensors.

A structure is a tuple, a named tuple, a list, a dict or a dataclass, or a subclass of one of
them, which may hold further structures.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Hashable, MutableMapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

__all__ = [
    'Mismatch',
    'accumulate',
    'describe',
    'lend_gradient',
    'map_tensors',
    'scale',
    'tensors_in',
    'total',
]


class Mismatch(Exception):
    """Two outputs cannot be added up; whoever knows where they come from says so."""


def _children(node: Any) -> dict[Hashable, Any] | None:
    """Return what a structure holds by key or position; ``None`` for a leaf."""
    if isinstance(node, Tensor):
        return None
    if isinstance(node, (tuple, list)):
        return dict(enumerate(node))
    if isinstance(node, MutableMapping):
        return dict(node)
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    return None


def _with_children(node: Any, children: dict[Hashable, Any]) -> Any:
    """Return a structure of the kind of ``node`` that holds ``children``."""
    if isinstance(node, (tuple, list)):
        # A subclass of a named tuple may have a constructor of its own.
        make = getattr(type(node), '_make', type(node))
        return make(list(children.values()))
    if type(node) is dict:
        return {key: children[key] for key in node}
    made = copy.copy(node)
    for key, child in children.items():
        if isinstance(node, MutableMapping):
            made[key] = child
        else:
            object.__setattr__(made, str(key), child)  # The dataclass may be frozen.
    return made


def map_tensors(function: Callable[[Tensor], Any], structure: Any) -> Any:
    """Return a structure with ``function`` of each of its tensors, and all else as it is.

    >>> map_tensors(lambda x: x + 1, {'a': torch.zeros(1), 'b': None})
    {'a': tensor([1.]), 'b': None}
    """
    if isinstance(structure, Tensor):
        return function(structure)
    children = _children(structure)
    if children is None:
        return structure
    mapped = {key: map_tensors(function, child) for key, child in children.items()}
    return _with_children(structure, mapped)


def tensors_in(structure: Any) -> list[Tensor]:
    """Return all tensors of a structure, in their order.

    >>> tensors_in((torch.zeros(1), {'a': torch.ones(1), 'b': 2}))
    [tensor([0.]), tensor([1.])]
    """
    found: list[Tensor] = []
    map_tensors(found.append, structure)
    return found


def scale(output: Any, weight: Tensor | float) -> Any:
    """Return an output times a number or a scalar tensor, leaf by leaf.

    Whole numbers and truth values, such as lengths beside a sequence, stay as they are.

    Raises:
        Mismatch: An output that is nothing but whole numbers, such as indices.

    >>> scale((torch.ones(2), torch.tensor(3), None), torch.tensor(0.5))
    (tensor([0.5000, 0.5000]), tensor(3), None)
    """
    if isinstance(output, Tensor):
        if not _is_mixed(output):
            raise Mismatch(f'whole numbers ({_dtype(output)}) cannot be mixed')
        if (
            isinstance(weight, Tensor) and weight.device != output.device
        ):  # The parts of a network may lie apart.
            weight = weight.to(output.device)
        return weight * output
    return map_tensors(lambda leaf: scale(leaf, weight) if _is_mixed(leaf) else leaf, output)


def accumulate(total: Any, term: Any) -> Any:
    """Return ``total + term``, leaf by leaf; ``total`` is new and nobody else needs it.

    Raises:
        Mismatch: They differ in structure, in the shape of a leaf, or in what is no number
            to be added.
    """
    if isinstance(total, Tensor) and isinstance(term, Tensor):
        if total.shape != term.shape:
            raise Mismatch('they differ in shape')
        return total.add_(term) if total.dtype == term.dtype else total + term
    return _combined(accumulate, total, term)


def _combined(add: Callable[[Any, Any], Any], total: Any, term: Any) -> Any:
    """Return ``add`` of each pair of leaves of two structures."""
    children, others = _children(total), _children(term)
    if children is None or others is None:
        return _combined_leaves(add, total, term)
    if type(total) is not type(term) or children.keys() != others.keys():
        raise Mismatch('they differ in structure')
    combined = {key: _combined(add, child, others[key]) for key, child in children.items()}
    return _with_children(total, combined)


def _combined_leaves(add: Callable[[Any, Any], Any], leaf: Any, other: Any) -> Any:
    pair = isinstance(leaf, Tensor), isinstance(other, Tensor)
    if all(pair):
        if _is_mixed(leaf) or _is_mixed(other):
            return add(leaf, other)
        if leaf is other or (leaf.shape == other.shape and torch.equal(leaf, other)):
            return leaf
        raise Mismatch(
            f'whole numbers ({_dtype(leaf)}) inside of them, which are not added, differ'
        )
    if any(pair) or _children(leaf) is not None or _children(other) is not None:
        raise Mismatch('they differ in structure')
    if not _equal(leaf, other):
        raise Mismatch(f'they hold {leaf!r} and {other!r} at the same place')
    return leaf


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        return bool(one == other)
    except Exception:  # Whatever a comparison of somebody else's may raise, as for arrays.
        return False


def total(outputs: Sequence[Any]) -> Any:
    """Return the sum of outputs, none of which is changed.

    Raises:
        Mismatch: See :func:`accumulate`.

    >>> total([(torch.ones(1), 'a'), (torch.ones(1), 'a')])
    (tensor([2.]), 'a')
    """
    if len(outputs) == 1:
        return outputs[0]
    first, second, *others = outputs
    return reduce(accumulate, others, _sum_of_two(first, second))


def _sum_of_two(first: Any, second: Any) -> Any:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.shape != second.shape:
            raise Mismatch('they differ in shape')
        return first + second
    return _combined(_sum_of_two, first, second)


def lend_gradient(output: Any, lent: Tensor) -> Any:
    """Return an output that also gives a gradient to ``lent``, as if it were added.

    Args:
        output: Its values stay.
        lent: A scalar tensor.
    """
    nothing = lent - lent.detach()
    return map_tensors(
        lambda leaf: leaf + nothing.to(leaf.device) if _is_mixed(leaf) else leaf, output
    )


def describe(output: Any) -> str:
    """Return the form of an output in words.

    >>> describe({'out': torch.zeros(2, 3), 'state': (torch.zeros(1), None)})
    "{'out': (2, 3), 'state': ((1,), None)}"
    """
    if isinstance(output, Tensor):
        return f'shape {tuple(output.shape)}'
    return str(map_tensors(lambda leaf: tuple(leaf.shape), output))


def _is_mixed(leaf: Tensor) -> bool:
    return leaf.is_floating_point() or leaf.is_complex()


def _dtype(leaf: Tensor) -> str:
    return str(leaf.dtype).removeprefix('torch.')
