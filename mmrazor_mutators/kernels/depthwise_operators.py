"""The compiled depthwise convolutions as operators, which ``torch.compile`` leaves in a graph.

Eager code calls :mod:`.native_depthwise` itself, which costs less for each call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .depthwise import derivatives_of, empty_result
from .native import ConvShape, available
from .native_depthwise import CALLS

__all__ = ['traced_depthwise_conv2d']


def _register(kind: str) -> Any:
    """Make an operator of one of the three functions."""

    def real(first: Tensor, second: Tensor, sizes: Sequence[int]) -> Tensor:
        return CALLS[kind](first, second, ConvShape(*sizes))

    def fake(first: Tensor, second: Tensor, sizes: Sequence[int]) -> Tensor:
        return empty_result(kind, first, ConvShape(*sizes))

    def remember(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.sizes = inputs[2]

    def backward(ctx: Any, grad: Tensor) -> Any:
        parts = derivatives_of(kind, grad, *ctx.saved_tensors)
        found = (
            _operators[other](*pair, ctx.sizes) if needed else None
            for needed, (other, *pair) in zip(ctx.needs_input_grad, parts, strict=False)
        )
        return *found, None

    name = f'mmrazor_mutators::depthwise_{kind}'
    operator = torch.library.custom_op(name, real, mutates_args=(), device_types='cpu')
    operator.register_fake(fake)
    operator.register_autograd(backward, setup_context=remember)
    return operator


_operators: dict[str, Callable[..., Tensor]] = {}
# Operators of one's own, and a way to tell an export from a compilation, came with torch 2.7.
if available() and hasattr(torch.compiler, 'is_exporting'):
    _operators.update((kind, _register(kind)) for kind in CALLS)


def traced_depthwise_conv2d(x: Tensor, weight: Tensor, shape: ConvShape) -> Tensor | None:
    """Convolve each channel with its own kernel, in a form that can be compiled.

    Nothing is done for an export, whose result must not need this library, and where the
    tensors are not of the kind that the kernels take; ``None`` is returned then.

    Args:
        x: Shape ``(N, C, H, W)``.
        weight: Shape ``(C, 1, K_h, K_w)``.
        shape: What the convolution is.
    """
    if not _operators or torch.compiler.is_exporting():
        return None
    kinds = x.device.type, x.dtype, weight.dtype
    if kinds not in (('cpu', t, t) for t in (torch.float32, torch.float64)):
        return None
    return _operators['forward'](x, weight, shape)
