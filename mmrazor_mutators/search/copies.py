"""Copies of many small tensors at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ['copied', 'copy_into', 'laid_out_as']

_Groups = dict[tuple[torch.dtype, torch.device], list[int]]


def _groups(tensors: Sequence[Tensor]) -> _Groups:
    """Return the positions of tensors by dtype and device, one kernel's worth each."""
    groups: _Groups = {}
    for i, tensor in enumerate(tensors):
        groups.setdefault((tensor.dtype, tensor.device), []).append(i)
    return groups


@torch.no_grad()
def copy_into(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values into tensors of their shapes; a kernel for each dtype, not for each tensor.

    Args:
        targets: Changed in place; they stay the same objects.
        values: One for each target.
    """
    for where in _groups(targets).values():
        torch._foreach_copy_([targets[i] for i in where], [values[i] for i in where])


def copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies without a graph, which lie in memory as the tensors do.

    >>> copied([torch.ones(2), torch.tensor(3)])
    [tensor([1., 1.]), tensor(3)]
    """
    copies = [torch.empty_like(tensor, requires_grad=False) for tensor in tensors]
    copy_into(copies, tensors)
    return copies


def laid_out_as(like: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` with the strides of ``like``, itself where it has them already.

    >>> like = torch.zeros(1, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    >>> laid_out_as(like, torch.ones(1, 2, 3, 3)).stride() == like.stride()
    True
    """
    if value.stride() == like.stride():
        return value
    return torch.empty_like(like, dtype=value.dtype, requires_grad=False).copy_(value)
