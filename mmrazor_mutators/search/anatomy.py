"""What a module computes with, taken apart: its tensors, and everything else."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from torch import Tensor, nn

from ..sharing import is_hooked

__all__ = ['Anatomy']

_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {'training'}
_PLAIN = (bool, int, float, str, bytes, type(None), type)


class Anatomy:
    """Takes a module apart, so that one like it can compute with its tensors.

    Two modules of equal :meth:`form` compute the same with the same tensors.
    What is looked at are the types, names and attributes of all parts, each
    time anew, so that a schedule that sets an attribute is noticed.

    Args:
        module: The module.
        without: Names of attributes that are no matter.

    Attributes:
        names: Of the parameters and buffers, in the order of :meth:`tensors`.

    >>> a, b, c = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(2, 3, bias=False)
    >>> [Anatomy(a).form() == Anatomy(other).form() for other in (b, c)]
    [True, False]
    """

    def __init__(self, module: nn.Module, without: tuple[str, ...] = ()) -> None:
        self._without = _OF_EVERY_MODULE.union(without)
        self._parts = list(module.named_modules())
        self._slots: list[tuple[dict[str, Any], str]] = []
        names, structure = [], []
        for path, part in self._parts:
            structure.append((path, type(part)))
            for slots in (part._parameters, part._buffers):
                for name, tensor in slots.items():
                    if tensor is not None:
                        names.append(f'{path}.{name}' if path else name)
                        self._slots.append((slots, name))
        self.names = tuple(names)
        self._structure = (tuple(structure), self.names)
        self._size = self._count()

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the parameters and buffers that the module has now."""
        return tuple(slots[name] for slots, name in self._slots)

    def is_whole(self) -> bool:
        """Whether no part, parameter or buffer came or went since it was taken apart."""
        return self._count() == self._size

    def _count(self) -> tuple[int, ...]:
        return tuple(
            len(part._modules) + len(part._parameters) + len(part._buffers)
            for _, part in self._parts
        )

    def is_hooked(self) -> bool:
        """Whether somebody listens to the calls of a part."""
        return any(is_hooked(part) for _, part in self._parts)

    def form(self) -> Hashable:
        """Return everything but the tensors' values, in a form that can be compared."""
        skipped = self._without
        attributes = tuple(
            _comparable(value)
            for _, part in self._parts
            for name, value in part.__dict__.items()
            if name not in skipped
        )
        tensors = tuple((t.shape, t.dtype, t.device, t.requires_grad) for t in self.tensors())
        return self._structure, attributes, tensors


def _comparable(value: Any) -> Hashable:
    """Return plain data as it is, and of anything else which object it is."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (tuple, list)):
        return tuple(map(_comparable, value))
    return type(value), id(value)
