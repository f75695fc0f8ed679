"""Nodes of the autograd graph that stand for several operations.

One node costs less than a node for each operation, with compiled kernels or without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

__all__ = ['gradients_again', 'in_torch_func', 'is_plain']

_PLAIN = frozenset({Tensor, nn.Parameter})
_DTYPES = frozenset({torch.float32, torch.float64})
_functorch = getattr(torch._C, '_functorch', None)
_interpreter = getattr(_functorch, 'peek_interpreter_stack', lambda: None)
_modes = getattr(torch._C, '_len_torch_dispatch_stack', lambda: 0)


def in_torch_func() -> bool:
    """Whether a transform of ``torch.func`` is at work."""
    return _interpreter() is not None


def is_plain(*tensors: Tensor) -> bool:
    """Whether a node of our own can replace an operation on these tensors right now.

    The tensors must be ordinary ones on the CPU, all in single or all in double precision.
    Only autograd may be at work: no compilation, no ``torch.func``, no forward-mode
    derivatives, no tracing or dispatch mode, no autocast.

    >>> x = torch.ones(2)
    >>> is_plain(x, x), is_plain(x, x.double()), is_plain(x.half())
    (True, False, False)
    """
    if torch.compiler.is_compiling():
        return False
    dtype = tensors[0].dtype
    for tensor in tensors:
        if (
            type(tensor) not in _PLAIN
            or tensor.dtype != dtype
            or not tensor.is_cpu
            or tensor.layout != torch.strided
        ):
            return False
    return dtype in _DTYPES and not (
        _modes()
        or torch._C._get_tracing_state() is not None
        or in_torch_func()
        or torch.autograd.forward_ad._current_level >= 0
        or _autocasts()
    )


def _autocasts() -> bool:
    # Only torch 2.4 and later can be asked about a device.
    if hasattr(torch, 'get_autocast_dtype'):
        return torch.is_autocast_enabled('cpu')
    return torch.is_autocast_cpu_enabled()


def gradients_again(
    compute: Callable[..., Tensor],
    leaves: Sequence[Tensor],
    needs: Sequence[bool],
    grad: Tensor,
) -> Iterator[Tensor | None]:
    """Yield gradients that can be differentiated themselves, ``None`` for one not needed.

    Args:
        compute: The function of the leaves, in operations of torch.
        leaves: Its arguments, as they were saved.
        needs: Whether the gradient of each is needed.
        grad: Of the output.
    """
    wanted = [leaf for leaf, need in zip(leaves, needs, strict=True) if need]
    found = iter(torch.autograd.grad(compute(*leaves), wanted, grad, create_graph=True))
    return (next(found) if need else None for need in needs)
