"""What candidates have in common that begin with a ReLU and end with a norm."""

from __future__ import annotations

from abc import abstractmethod
from itertools import islice
from typing import Any, ClassVar

from torch import Tensor, nn

from ..sharing import Open, Prologue, is_hooked
from .base import BaseOP
from .batch_norm import scaled_norm

__all__ = ['RectifiedOP', 'before_norm', 'run_inside']


class RectifiedOP(BaseOP):
    """A candidate whose ReLU is shared, and whose norm is left open.

    Args:
        **kwargs: As for :class:`BaseOP`.

    Attributes:
        entered: Names of submodules that are run from inside, so that hooks on them would
            not be called.
    """

    entered: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def first(self) -> Any:
        """The module that it begins with; only a plain ReLU is shared."""

    @abstractmethod
    def after_first(self, x: Tensor) -> Open:
        """Go on after the first module, whose output is ``x``, and stop before the norm."""

    def prologue(self) -> Prologue | None:
        """Share the ReLU."""
        first = self.first
        if type(first) is not nn.ReLU or first.inplace or is_hooked(first):
            return None
        if any(is_hooked(self.get_submodule(name)) for name in self.entered):
            return None
        return Prologue('relu', first)

    def epilogue(self, rectified: Tensor) -> Tensor:
        """Go on after the ReLU."""
        return self.after_first(rectified).close()

    def open_epilogue(self, rectified: Tensor) -> Open:
        """Go on after the ReLU, up to the norm."""
        return self.after_first(rectified)


class ScaledOpen(Open):
    """An open candidate whose norm multiplies by the weight."""

    def close(self, weight: Tensor | None = None) -> Tensor:
        """Return the output, multiplied."""
        return scaled_norm(self.norm, self.map, weight)


def before_norm(x: Tensor, norm: nn.Module, drop_path: nn.Module | None = None) -> Open:
    """Leave ``norm`` open, unless something is dropped after it.

    Args:
        x: What the norm reads.
        norm: Any module.
        drop_path: What follows, if anything.
    """
    if drop_path is None or drops_nothing(drop_path):
        return ScaledOpen(x, norm)
    return Open(drop_path(scaled_norm(norm, x)))


def drops_nothing(drop_path: nn.Module) -> bool:
    """Whether a drop path is the identity just now, and has no hooks."""
    if is_hooked(drop_path):
        return False
    if isinstance(drop_path, nn.Identity):
        return True
    return not drop_path.training or getattr(drop_path, 'drop_prob', None) == 0


def run_inside(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Run all layers but the first one, whose output is ``x``, and the last one."""
    for layer in islice(layers, 1, len(layers) - 1):
        x = layer(x)
    return x
