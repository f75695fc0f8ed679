"""Poolings that a CPU does faster in another form, with the same results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.native import call, usable

__all__ = ['AveragePool2d', 'native_average_pool']


class AveragePool2d(nn.AvgPool2d):
    """Average pooling, by a compiled kernel over 3x3 pixels at stride 1 if there is one.

    The kernel wants the channels of a pixel together, and counts no border.

    >>> pool = AveragePool2d(3, 1, 1, count_include_pad=False)
    >>> x = torch.rand(2, 3, 5, 6).contiguous(memory_format=torch.channels_last)
    >>> torch.allclose(pool(x), nn.AvgPool2d(3, 1, 1, count_include_pad=False)(x))
    True
    """

    torch_class = nn.AvgPool2d

    @property
    def is_plain(self) -> bool:
        """Whether it is what the kernels know."""
        sizes = self.kernel_size, self.stride, self.padding
        plain = not (self.count_include_pad or self.ceil_mode or self.divisor_override)
        return sizes == (3, 1, 1) and plain

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled map."""
        pooled = native_average_pool(x) if self.is_plain else None
        return super().forward(x) if pooled is None else pooled


class _Pool(torch.autograd.Function):
    """The pooling or its transposed operation, each of which is the derivative of the other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, transposed: bool) -> Tensor:
        ctx.transposed = transposed
        return _run(x, transposed)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,), transposed = grads, not ctx.transposed
        if torch.is_grad_enabled():
            return _Pool.apply(grad, transposed), None
        return _run(grad, transposed), None


def _run(x: Tensor, transposed: bool) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(x)
    batch, channels, height, width = x.shape
    sizes = batch, height, width, channels
    call('average_pool', x.dtype, *sizes, transposed, x, out)
    return out


def native_average_pool(x: Tensor) -> Tensor | None:
    """Average over 3x3 pixels at stride 1, or return ``None`` where the kernel must not.

    Args:
        x: Shape ``(N, C, H, W)``.
    """
    if not usable(x) or x.dim() != 4 or not x.numel() or 1 not in (x.stride(1), x.shape[1]):
        return None
    if torch.is_grad_enabled() and x.requires_grad:
        return _Pool.apply(x, False)
    return _run(x, False)
