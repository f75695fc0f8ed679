"""Gradients of depthwise convolutions, made of what torch does fast on a CPU.

Forward, torch is fast for every kernel and dilation.  Its gradients are fast only for kernels
of at most three columns without dilation, and several times slower for all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .depthwise import Calls, empty_result
from .native import ConvShape

__all__ = ['CALLS', 'convolve', 'gradients', 'split_parities']


def convolve(x: Tensor, weight: Tensor, shape: ConvShape) -> Tensor:
    """Convolve each channel with its own kernel.

    Args:
        x: Shape ``(N, C, H, W)``.
        weight: Shape ``(C, 1, K_h, K_w)``.
        shape: What the convolution is.
    """
    return F.conv2d(x, weight, None, *_steps(shape), shape.channels)


def gradients(
    grad: Tensor, x: Tensor, weight: Tensor, shape: ConvShape, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of input and weight of :func:`convolve` that are needed.

    Where the size stays, that of the input is a convolution with the kernel turned round.

    Args:
        grad: Of the output.
        x: The input.
        weight: Of the convolution.
        shape: What the convolution is.
        needs: Whether the gradient of the input is needed, and that of the weight.

    >>> shape = ConvShape(1, 2, 6, 6, 6, 6, 5, 5, 1, 1, 4, 4, 2, 2)
    >>> x = torch.rand(1, 2, 6, 6, requires_grad=True)
    >>> grad, weight = torch.rand(1, 2, 6, 6), torch.rand(2, 1, 5, 5, requires_grad=True)
    >>> convolve(x, weight, shape).backward(grad)
    >>> found = gradients(grad, x.detach(), weight.detach(), shape, (True, True))
    >>> [torch.allclose(*pair, atol=1e-5) for pair in zip(found, (x.grad, weight.grad))]
    [True, True]
    """
    if _reads_even_pixels(shape):
        even = x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        along_even, along_weight = gradients(grad, even, weight, _halved(shape), needs)
        if along_even is None:
            return None, along_weight
        # The other pixels are never read.
        along_x = torch.zeros_like(x)
        along_x[:, :, ::2, ::2] = along_even
        return along_x, along_weight
    narrow = shape.kernel_w <= 3 and shape[12:] == (1, 1)
    if narrow or not _keeps_size(shape):
        return _torch_gradients(grad, x, weight, shape, needs)
    return (
        convolve(grad, weight.flip(2, 3), shape) if needs[0] else None,
        _weight_gradient(grad, x, shape) if needs[1] else None,
    )


def _weight_gradient(grad: Tensor, x: Tensor, shape: ConvShape) -> Tensor:
    """Return the gradient of the weight, where the size stays.

    Of five columns the three in the middle are those of a narrower kernel.  So are the
    first, the third and the last, if two neighbouring pixels are read as one pixel of twice
    as many channels.  A dilation of 2 splits both maps by parity.
    """
    dilation, size = shape[12:], shape[6:8]
    if dilation == (2, 2) and not (shape.height % 2 or shape.width % 2):
        half = _halved(shape)._replace(batch=4 * shape.batch)
        return _weight_gradient(split_parities(grad), split_parities(x), half)
    # Maps no larger than the kernel are slow in any form.
    wide = shape.width % 2 == 0 and min(shape.height, shape.width) > 5
    if not (dilation == (1, 1) and size == (5, 5) and wide):
        return _torch_weight_gradient(grad, x, shape)
    narrow = shape._replace(kernel_w=3, padding_w=1)
    paired = narrow._replace(channels=2 * shape.channels, width=shape.width // 2)
    near = _torch_weight_gradient(grad, x, narrow)
    far = _torch_weight_gradient(_pair_columns(grad), _pair_columns(x), paired)
    far = far.view(2, -1, 1, 5, 3).sum(0)
    return torch.cat([far[..., :1], near, far[..., 2:]], 3)


def _input_gradient(grad: Tensor, weight: Tensor, shape: ConvShape) -> Any:
    like = empty_result('input', grad, shape)
    return gradients(grad, like, weight, shape, (True, False))[0]


def _any_weight_gradient(grad: Tensor, x: Tensor, shape: ConvShape) -> Any:
    like = empty_result('weight', grad, shape)
    return gradients(grad, x, like, shape, (False, True))[1]


CALLS: Calls = {'forward': convolve, 'input': _input_gradient, 'weight': _any_weight_gradient}
"""The functions of :mod:`.depthwise`."""


def split_parities(x: Tensor) -> Tensor:
    """Return the four maps of even and odd rows and columns as one batch.

    Args:
        x: Shape ``(N, C, 2 H, 2 W)``; the result is of shape ``(4 N, C, H, W)``.

    >>> split_parities(torch.arange(4.0).view(1, 1, 2, 2)).flatten()
    tensor([0., 1., 2., 3.])
    """
    batch, channels, height, width = x.shape
    half = height // 2, width // 2
    # Channels last, so that what is moved lies together.
    pixels = x.permute(0, 2, 3, 1).reshape(batch, half[0], 2, half[1], 2, channels)
    split = pixels.permute(2, 4, 0, 1, 3, 5).reshape(4 * batch, *half, channels)
    return split.permute(0, 3, 1, 2)


def _pair_columns(x: Tensor) -> Tensor:
    """Return two neighbouring pixels as one of twice as many channels."""
    batch, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height, width // 2, 2 * channels)
    return pixels.permute(0, 3, 1, 2)


def _steps(shape: ConvShape) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return stride, padding and dilation."""
    return shape[8:10], shape[10:12], shape[12:14]


def _keeps_size(shape: ConvShape) -> bool:
    """Whether each output pixel stands in the middle of what it reads, at stride 1."""
    rows, columns = shape.kernel_h - 1, shape.kernel_w - 1
    middle = rows * shape.dilation_h, columns * shape.dilation_w
    padded = 2 * shape.padding_h, 2 * shape.padding_w
    return shape[8:10] == (1, 1) and padded == middle and not (rows % 2 or columns % 2)


def _reads_even_pixels(shape: ConvShape) -> bool:
    """Whether stride and dilation are 2, and the padding is that of the same size."""
    padding = shape.kernel_h - 1, shape.kernel_w - 1
    return shape[8:] == (2, 2, *padding, 2, 2) and not (padding[0] % 2 or padding[1] % 2)


def _halved(shape: ConvShape) -> ConvShape:
    """Return the convolution without dilation on maps of every second row and column."""
    height, width = -(-shape.height // 2), -(-shape.width // 2)
    sizes = height, width, height, width, shape.kernel_h, shape.kernel_w
    half = shape.kernel_h // 2, shape.kernel_w // 2
    return ConvShape(shape.batch, shape.channels, *sizes, 1, 1, *half, 1, 1)


def _torch_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, shape: ConvShape, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    steps = _steps(shape)
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, *steps, False, (0, 0), shape.channels, (*needs, False)
    )[:2]


def _torch_weight_gradient(grad: Tensor, x: Tensor, shape: ConvShape) -> Any:
    like = empty_result('weight', x, shape)
    return _torch_gradients(grad, x, like, shape, (False, True))[1]
