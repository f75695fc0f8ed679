"""Copies of many small tensors at once, such as the buffers of a module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ['SavedBuffers', 'copied', 'copy_into', 'laid_out_as']

_Buffers = dict[str, Tensor | None]
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


class SavedBuffers:
    """The buffers of a module at one moment: which tensors they are, and their values.

    Args:
        module: Whose buffers are copied, those of its parts included.

    >>> norm = nn.BatchNorm1d(2)
    >>> saved = SavedBuffers(norm)
    >>> _ = norm(torch.rand(4, 2))
    >>> with saved.lent():
    ...     inside = norm.num_batches_tracked.item()
    >>> inside, norm.num_batches_tracked.item()
    (0, 1)
    >>> saved.put_back()
    >>> norm.num_batches_tracked
    tensor(0)
    """

    def __init__(self, module: nn.Module) -> None:
        # A module may also assign a new tensor instead of changing the one it has.
        self._places = [(part._buffers, dict(part._buffers)) for part in module.modules()]
        found = {id(b): b for _, own in self._places for b in own.values() if b is not None}
        self._tensors = list(found.values())
        self._values = copied(self._tensors)

    def put_back(self) -> None:
        """Restore every buffer, in place."""
        _refill(self._places)
        copy_into(self._tensors, self._values)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let the module work on copies of the saved values inside of the block.

        No tensor of its own is written to, so a graph that has noted one can still be
        differentiated.  A buffer with a gradient stays itself, and in the graph.
        """
        places = [(buffers, own) for buffers, own in self._places if buffers or own]
        current = [(buffers, dict(buffers)) for buffers, _ in places]
        copies = zip(self._tensors, copied(self._values), strict=True)
        lent: dict[int, Tensor | None] = {id(None): None}
        lent.update((id(own), own if own.requires_grad else copy) for own, copy in copies)
        try:
            for buffers, own in places:
                buffers.clear()
                buffers.update((name, lent[id(buffer)]) for name, buffer in own.items())
            yield
        finally:
            _refill(current)


def _refill(places: Iterable[tuple[_Buffers, _Buffers]]) -> None:
    """Give dicts of buffers other entries."""
    for buffers, entries in places:
        if buffers or entries:
            buffers.clear()
            buffers.update(entries)
