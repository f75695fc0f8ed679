"""Depthwise convolutions by the compiled kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from .depthwise import Calls, differentiable_depthwise, empty_result
from .native import ConvShape, conv, usable

__all__ = ['CALLS', 'fits', 'native_depthwise']

_MAX_KERNEL = 8
_MAX_STRIDE = 2


def fits(shape: ConvShape) -> bool:
    """Whether the kernels know how to do this: 8 taps and stride 2 at most, no empty map.

    >>> from mmrazor_mutators.kernels.depthwise import shape_of
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


CALLS: Calls = {'forward': _run_forward, 'input': _run_input, 'weight': _run_weight}
"""The functions of :mod:`.depthwise`."""


def native_depthwise(x: Tensor, weight: Tensor, shape: ConvShape) -> Tensor | None:
    """Convolve each channel with its own kernel, or return ``None`` where the kernels cannot.

    Args:
        x: Shape ``(N, C, H, W)``.
        weight: Shape ``(C, 1, K_h, K_w)``.
        shape: What the convolution is; it :func:`fits`.
    """
    if not usable(x, weight):
        return None
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return differentiable_depthwise(CALLS, 'forward', x, weight, shape)
    return CALLS['forward'](x, weight, shape)
