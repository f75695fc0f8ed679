"""Separable convolutions as one node of a graph, by operations of torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .depthwise import separable_gradients
from .eager_depthwise import CALLS, convolve, gradients
from .graph_nodes import is_plain
from .native import ConvShape

__all__ = ['eager_separable']


class _Separable(torch.autograd.Function):
    """Both convolutions; keeps the input, and the map between if a gradient needs it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, depthwise: Tensor, pointwise: Tensor, shape: ConvShape
    ) -> Tensor:
        between = convolve(x, depthwise, shape)
        kept = between if ctx.needs_input_grad[2] else None
        ctx.save_for_backward(x, depthwise, pointwise, kept)
        ctx.shape = shape
        return _mix(between, pointwise.flatten(1).t())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,), needs, shape = grads, ctx.needs_input_grad, ctx.shape
        x, depthwise, pointwise, between = ctx.saved_tensors
        if torch.is_grad_enabled():
            # These gradients may be differentiated again.
            tensors = grad, x, depthwise, pointwise
            return *separable_gradients(CALLS, *tensors, shape, needs), None
        along_x = along_depthwise = along_pointwise = None
        grad = grad.contiguous(memory_format=torch.channels_last)
        if needs[2]:
            along_pointwise = (_pixels(grad).t() @ _pixels(between)).view_as(pointwise)
        if needs[0] or needs[1]:
            grad = _mix(grad, pointwise.flatten(1))
            along_x, along_depthwise = gradients(grad, x, depthwise, shape, needs[:2])
        return along_x, along_depthwise, along_pointwise, None


def _pixels(x: Tensor) -> Tensor:
    """Return a map as a matrix of one row per pixel."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply each pixel by a matrix."""
    batch, _, height, width = x.shape
    return (_pixels(x) @ matrix).view(batch, height, width, matrix.shape[1]).permute(0, 3, 1, 2)


def eager_separable(
    x: Tensor, depthwise: Tensor, pointwise: Tensor, shape: ConvShape
) -> Tensor | None:
    """Convolve each channel, then each pixel; or return ``None`` where autograd is not alone.

    Args:
        x: Shape ``(N, C, H, W)``, with the channels of a pixel together.
        depthwise: Shape ``(C, 1, K_h, K_w)``.
        pointwise: Shape ``(C_out, C, 1, 1)``.
        shape: What the depthwise convolution is.
    """
    if not is_plain(x, depthwise, pointwise):
        return None
    return _Separable.apply(x, depthwise, pointwise, shape)
