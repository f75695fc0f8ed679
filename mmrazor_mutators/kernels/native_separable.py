"""Separable convolutions by the compiled kernels: ReLU, depthwise, pointwise in one pass.

One image after the other goes through all three, forward and backward, so that what is in
between stays in the cache.  The rectified map and the gradient between both convolutions are
never stored.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .depthwise import separable_gradients
from .native import ConvShape, call, usable
from .native_depthwise import CALLS

__all__ = ['native_separable']


class _Separable(torch.autograd.Function):
    """All three; keeps the input, and the map between if the pointwise gradient needs it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, depthwise: Tensor, pointwise: Tensor, shape: ConvShape, relu: bool
    ) -> Tensor:
        out, between = _forward(x, depthwise, pointwise, shape, relu, ctx.needs_input_grad[2])
        ctx.save_for_backward(x, depthwise, pointwise, between)
        ctx.shape, ctx.relu = shape, relu
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, depthwise, pointwise, between = ctx.saved_tensors
        needs, shape, relu = ctx.needs_input_grad[:3], ctx.shape, ctx.relu
        if torch.is_grad_enabled():
            # These gradients may be differentiated again.
            rectified = x.relu() if relu else x
            tensors = grads[0], rectified, depthwise, pointwise
            found = separable_gradients(CALLS, *tensors, shape, needs)
            if relu and found[0] is not None:
                found[0] = found[0].masked_fill(x <= 0, 0)
        else:
            grad = grads[0].contiguous(memory_format=torch.channels_last)
            found = _backward(grad, x, depthwise, pointwise, between, shape, relu, needs)
        return *found, None, None


def _forward(
    x: Tensor, depthwise: Tensor, pointwise: Tensor, shape: ConvShape, relu: bool, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the output, and the map between both convolutions if it is to be kept."""

    def empty_map(channels: int) -> Tensor:
        return torch.empty(
            (shape.batch, channels, shape.out_height, shape.out_width),
            dtype=x.dtype,
            memory_format=torch.channels_last,
        )

    out, between = empty_map(len(pointwise)), empty_map(shape.channels) if keep else None
    tensors = x, depthwise, pointwise, between, out
    call('separable_forward', x.dtype, shape, relu, len(pointwise), *tensors)
    return out, between


def _backward(
    grad: Tensor,
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    between: Tensor | None,
    shape: ConvShape,
    relu: bool,
    needs: tuple[bool, bool, bool],
) -> list[Tensor | None]:
    """Return the gradients that are needed; ``between`` is read for the pointwise one."""
    found: list[Tensor | None] = [
        torch.empty_like(leaf) if needed else None
        for leaf, needed in zip((x, depthwise, pointwise), needs, strict=True)
    ]
    tensors = grad, x, depthwise, pointwise, between, *found
    call('separable_backward', x.dtype, shape, relu, len(pointwise), *tensors)
    return found


def native_separable(
    x: Tensor, depthwise: Tensor, pointwise: Tensor, shape: ConvShape, relu: bool
) -> Tensor | None:
    """Convolve each channel, then each pixel; or return ``None`` where the kernels cannot.

    Args:
        x: Shape ``(N, C, H, W)``, with the channels of a pixel together.
        depthwise: Shape ``(C, 1, K_h, K_w)``.
        pointwise: Shape ``(C_out, C, 1, 1)``.
        shape: What the depthwise convolution is; it :func:`~.native_depthwise.fits`.
        relu: Whether ``max(x, 0)`` is convolved instead of ``x``.
    """
    if not (
        usable(x, depthwise, pointwise)
        and depthwise.is_contiguous()
        and pointwise.is_contiguous()
        # A thread takes whole images.
        and shape.batch >= torch.get_num_threads()
    ):
        return None
    x = x.contiguous(memory_format=torch.channels_last)
    if torch.is_grad_enabled() and (
        x.requires_grad or depthwise.requires_grad or pointwise.requires_grad
    ):
        return _Separable.apply(x, depthwise, pointwise, shape, relu)
    return _forward(x, depthwise, pointwise, shape, relu, keep=False)[0]
