"""Separable convolutions: what the candidates of DARTS are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.eager_separable import eager_separable
from ..kernels.native import available
from ..kernels.native_separable import native_separable
from ..sharing import is_hooked
from .batch_norm import scaled_norm
from .fast_convs import DepthwiseConv2d, PointwiseConv2d

__all__ = ['SeparableConv']


class SeparableConv(nn.Sequential):
    """ReLU, depthwise convolution, pointwise convolution, norm.

    The first three run at once where there is a compiled kernel for them and none of them
    has hooks; without it both convolutions are one node of the graph.

    >>> conv = SeparableConv(
    ...     nn.ReLU(),
    ...     DepthwiseConv2d(3, 3, 3, padding=1, groups=3, bias=False),
    ...     PointwiseConv2d(3, 4, 1, bias=False),
    ...     nn.BatchNorm2d(4),
    ... )
    >>> x = torch.randn(2, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    >>> torch.allclose(conv(x), conv[3](conv[2](conv[1](conv[0](x)))), atol=1e-6)
    True
    """

    torch_class = nn.Sequential

    def forward(self, input: Tensor) -> Tensor:
        """Return the norm of the convolved map."""
        return scaled_norm(self[-1], self.inside(input))

    def after_relu(self, x: Tensor) -> Tensor:
        """Go on after the ReLU, whose output is ``x``."""
        return scaled_norm(self[-1], self.inside(x, rectified=True))

    def inside(self, x: Tensor, rectified: bool = False) -> Tensor:
        """Return what the norm reads.

        Args:
            x: The input.
            rectified: Whether it is the output of the ReLU already.
        """
        relu, depthwise, pointwise, _ = self._modules.values()
        if not (rectified or available()):
            x, rectified = relu(x), True
        out = _fused(x, None if rectified else relu, depthwise, pointwise)
        if out is not None:
            return out
        for layer in (depthwise, pointwise) if rectified else (relu, depthwise, pointwise):
            x = layer(x)
        return x


def _fused(x: Tensor, relu: Any, depthwise: Any, pointwise: Any) -> Tensor | None:
    """Run all three (two, without ``relu``) at once; ``None`` where that cannot be."""
    if (
        torch.compiler.is_compiling()
        or type(depthwise) is not DepthwiseConv2d
        or type(pointwise) is not PointwiseConv2d
        or not pointwise.is_matrix
        or is_hooked(depthwise)
        or is_hooked(pointwise)
    ):
        return None
    if relu is not None and (type(relu) is not nn.ReLU or relu.inplace or is_hooked(relu)):
        return None
    compiled = available()
    # In evaluation there is nothing to be gained without the kernels.
    if not (compiled or depthwise.training):
        return None
    shape = depthwise.compiled_shape(x) if compiled else depthwise.shape(x)
    if shape is None or pointwise.bias is not None or pointwise.in_channels != shape.channels:
        return None
    if not compiled:
        return eager_separable(x, depthwise.weight, pointwise.weight, shape)
    return native_separable(x, depthwise.weight, pointwise.weight, shape, relu is not None)
