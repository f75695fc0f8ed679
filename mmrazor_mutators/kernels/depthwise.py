"""Depthwise convolutions with derivatives of every order, whatever computes them.

Three functions are closed under differentiation: the convolution of a map ``x`` with a
weight ``w``, the gradient of ``x``, and the gradient of ``w``.  Each is linear in both of
its arguments, so the derivatives of each are the two others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .native import ConvShape

__all__ = [
    'Calls',
    'derivatives_of',
    'differentiable_depthwise',
    'empty_result',
    'separable_gradients',
    'shape_of',
]

Calls = Mapping[str, Callable[[Tensor, Tensor, ConvShape], Tensor]]
"""The three functions of two tensors: ``'forward'`` of map and weight, ``'input'`` of the
gradient of the output and the weight, ``'weight'`` of that gradient and the map."""


def shape_of(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> ConvShape:
    """Return all sizes of the convolution of ``x`` with ``weight``.

    >>> x, weight = torch.zeros(2, 3, 8, 9), torch.zeros(3, 1, 5, 5)
    >>> shape_of(x, weight, (2, 2), (2, 2), (1, 1))[4:6]
    (4, 5)
    """
    batch, channels, height, width = x.shape
    _, _, rows, columns = weight.shape
    out_height = (height + 2 * padding[0] - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    out_width = (width + 2 * padding[1] - dilation[1] * (columns - 1) - 1) // stride[1] + 1
    sizes = batch, channels, height, width, out_height, out_width, rows, columns
    return ConvShape(*sizes, *stride, *padding, *dilation)


def empty_result(kind: str, like: Tensor, shape: ConvShape) -> Tensor:
    """Return a tensor that one of the three functions can fill.

    Args:
        kind: ``'forward'``, ``'input'`` or ``'weight'``.
        like: Gives dtype and device.
        shape: Of the convolution.
    """
    if kind == 'weight':
        return like.new_empty((shape.channels, 1, shape.kernel_h, shape.kernel_w))
    height, width = shape.height, shape.width
    if kind == 'forward':
        height, width = shape.out_height, shape.out_width
    return torch.empty(
        (shape.batch, shape.channels, height, width),
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last,
    )


def derivatives_of(kind: str, grad: Tensor, first: Tensor, second: Tensor) -> Any:
    """Return which function of what each derivative of one of the three is.

    Args:
        kind: The function.
        grad: The gradient of its result.
        first: Its first argument.
        second: Its second argument.
    """
    if kind == 'forward':
        return ('input', grad, second), ('weight', grad, first)
    if kind == 'input':
        return ('forward', grad, second), ('weight', first, grad)
    return ('forward', second, grad), ('input', first, grad)


class _Function(torch.autograd.Function):
    """Any of the three, for autograd in eager mode."""

    @staticmethod
    def forward(
        ctx: Any, calls: Calls, kind: str, first: Tensor, second: Tensor, shape: ConvShape
    ) -> Tensor:
        ctx.save_for_backward(first, second)
        ctx.calls, ctx.kind, ctx.shape = calls, kind, shape
        return calls[kind](first, second, shape)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        found: list[Any] = [None] * 5
        parts = derivatives_of(ctx.kind, *grads, *ctx.saved_tensors)
        for i, (kind, *pair) in enumerate(parts, 2):
            if not ctx.needs_input_grad[i]:
                continue
            if torch.is_grad_enabled():
                found[i] = _Function.apply(ctx.calls, kind, *pair, ctx.shape)
            else:
                found[i] = ctx.calls[kind](*pair, ctx.shape)
        return tuple(found)


def differentiable_depthwise(
    calls: Calls, kind: str, first: Tensor, second: Tensor, shape: ConvShape
) -> Tensor:
    """Return one of the three functions of two tensors, with all derivatives."""
    return _Function.apply(calls, kind, first, second, shape)


def separable_gradients(
    calls: Calls,
    grad: Tensor,
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    shape: ConvShape,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Return gradients of a depthwise and a pointwise convolution, with all derivatives.

    Args:
        calls: What computes the depthwise convolution.
        grad: Of the output of both.
        x: The input, shape ``(N, C, H, W)``.
        depthwise: Shape ``(C, 1, K_h, K_w)``.
        pointwise: Shape ``(C_out, C, 1, 1)``.
        shape: What the depthwise convolution is.
        needs: Whether each of the three gradients is needed.
    """
    found: list[Tensor | None] = [None, None, None]
    pixels = grad.permute(0, 2, 3, 1)
    inner = (pixels @ pointwise.flatten(1)).permute(0, 3, 1, 2)
    if needs[0]:
        found[0] = differentiable_depthwise(calls, 'input', inner, depthwise, shape)
    if needs[1]:
        found[1] = differentiable_depthwise(calls, 'weight', inner, x, shape)
    if needs[2]:
        between = differentiable_depthwise(calls, 'forward', x, depthwise, shape)
        along = pixels.flatten(0, 2).t() @ between.permute(0, 2, 3, 1).flatten(0, 2)
        found[2] = along.view_as(pointwise)
    return found
