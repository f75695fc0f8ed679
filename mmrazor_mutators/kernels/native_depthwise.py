"""Depthwise convolutions by the compiled kernels, with derivatives of every order.

Three functions are closed under differentiation: the convolution of a map ``x`` with a
weight ``w``, the gradient of ``x``, and the gradient of ``w``.  Each is linear in both of
its arguments, so the derivatives of each are the two others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .native import ConvShape, conv, usable

__all__ = [
    'RUN',
    'derivatives_of',
    'differentiable_depthwise',
    'empty_result',
    'fits',
    'native_depthwise',
    'shape_of',
]

_MAX_KERNEL = 8
_MAX_STRIDE = 2


def fits(shape: ConvShape) -> bool:
    """Whether the kernels know how to do this: 8 taps and stride 2 at most, no empty map.

    >>> x, weight = torch.zeros(2, 3, 8, 9), torch.zeros(3, 1, 5, 5)
    >>> [fits(shape_of(x, weight, (s, s), (2, 2), (1, 1))) for s in (1, 2, 3)]
    [True, True, False]
    """
    return (
        min(shape[:6]) > 0
        and max(shape.kernel_h, shape.kernel_w) <= _MAX_KERNEL
        and max(shape.stride_h, shape.stride_w) <= _MAX_STRIDE
        # More zeros than that would be outputs that read nothing at all.
        and shape.padding_h <= shape.dilation_h * (shape.kernel_h - 1)
        and shape.padding_w <= shape.dilation_w * (shape.kernel_w - 1)
    )


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


def _last(x: Tensor) -> Tensor:
    """Return ``x`` dense, with the channels of a pixel together."""
    return x.contiguous(memory_format=torch.channels_last)


def _run_forward(x: Tensor, weight: Tensor, shape: ConvShape) -> Tensor:
    out = empty_result('forward', x, shape)
    return conv('forward', shape, _last(x), weight.contiguous(), out)


def _run_input(grad: Tensor, weight: Tensor, shape: ConvShape) -> Tensor:
    out = empty_result('input', grad, shape)
    return conv('input', shape, _last(grad), weight.contiguous(), out)


def _run_weight(grad: Tensor, x: Tensor, shape: ConvShape) -> Tensor:
    return conv('weight', shape, _last(grad), _last(x), empty_result('weight', grad, shape))


RUN: dict[str, Callable[..., Tensor]] = {
    'forward': _run_forward,
    'input': _run_input,
    'weight': _run_weight,
}
"""The three functions, of two tensors and the shape of the convolution."""


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
    def forward(ctx: Any, kind: str, first: Tensor, second: Tensor, shape: ConvShape) -> Tensor:
        ctx.save_for_backward(first, second)
        ctx.kind, ctx.shape = kind, shape
        return RUN[kind](first, second, shape)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        parts = derivatives_of(ctx.kind, *grads, *ctx.saved_tensors)
        found: list[Any] = [None, None, None, None]
        for i, (kind, *pair) in enumerate(parts, 1):
            if not ctx.needs_input_grad[i]:
                continue
            if torch.is_grad_enabled():
                found[i] = _Function.apply(kind, *pair, ctx.shape)
            else:
                found[i] = RUN[kind](*pair, ctx.shape)
        return tuple(found)


def differentiable_depthwise(
    kind: str, first: Tensor, second: Tensor, shape: ConvShape
) -> Tensor:
    """Return one of the three functions of two tensors, with all derivatives."""
    return _Function.apply(kind, first, second, shape)


def native_depthwise(x: Tensor, weight: Tensor, shape: ConvShape) -> Tensor | None:
    """Convolve each channel with its own kernel, or return ``None`` where that must not be.

    Args:
        x: Shape ``(N, C, H, W)``.
        weight: Shape ``(C, 1, K_h, K_w)``.
        shape: What the convolution is; it :func:`fits`.
    """
    if not usable(x, weight):
        return None
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _Function.apply('forward', x, weight, shape)
    return RUN['forward'](x, weight, shape)
