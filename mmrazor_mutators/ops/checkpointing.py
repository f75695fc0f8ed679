"""Memory for time: blocks that run a second time in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ['ScratchBuffers', 'run_checkpointed']


class ScratchBuffers:
    """Lets a module work on copies of its buffers, which are thrown away afterwards.

    It can be entered again, since a graph can be run through more than once.

    Args:
        module: Whose buffers, those of its parts included.

    >>> norm = nn.BatchNorm2d(2)
    >>> with ScratchBuffers(norm):
    ...     _ = norm(torch.rand(4, 2, 3, 3))
    >>> norm.running_mean
    tensor([0., 0.])
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kept: list[tuple[nn.Module, dict[str, Tensor | None]]] = []

    def __enter__(self) -> None:
        self._kept = [(part, dict(part._buffers)) for part in self._module.modules()]
        for part, buffers in self._kept:
            for name, buffer in buffers.items():
                part._buffers[name] = None if buffer is None else buffer.clone()

    def __exit__(self, *_: object) -> None:
        for part, buffers in self._kept:
            part._buffers.update(buffers)


def run_checkpointed(
    function: Callable[[Tensor], Tensor], x: Tensor, module: nn.Module, enabled: bool = True
) -> Tensor:
    """Return ``function(x)``, whose inner maps are computed again when they are needed.

    The second run draws what the first one drew, and leaves no trace: batch
    norms count a batch once.

    Args:
        function: What to run; all that it uses is in ``module``.
        x: Any tensor.
        module: Whose buffers the second run must not change.
        enabled: Whether to do so at all.  Without gradients it is not done.

    >>> block = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> x = torch.rand(4, 2)
    >>> torch.equal(run_checkpointed(block, x, block), block(x))
    True
    """
    if not enabled or not torch.is_grad_enabled():
        return function(x)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), ScratchBuffers(module)

    return checkpoint(function, x, use_reentrant=False, context_fn=contexts)
