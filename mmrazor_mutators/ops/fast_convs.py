"""Convolutions that a CPU trains faster in another form, with the same results."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.depthwise import shape_of
from ..kernels.depthwise_operators import traced_depthwise_conv2d
from ..kernels.eager_depthwise import split_parities
from ..kernels.native import ConvShape, available
from ..kernels.native_depthwise import fits, native_depthwise

__all__ = ['DepthwiseConv2d', 'PointwiseConv2d']


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution that multiplies pixels by a matrix, while it trains on a CPU.

    With the channels of a pixel together that is what it is, and no library has
    to find out.  With a stride, the pixels that are read are taken first: oneDNN writes
    past its memory in the weight gradient of a strided one on some processors.

    >>> import torch
    >>> conv, x = PointwiseConv2d(3, 4, 1, stride=2, bias=False), torch.rand(2, 3, 5, 5)
    >>> last = x.contiguous(memory_format=torch.channels_last)
    >>> torch.allclose(conv(last), conv(x), atol=1e-6)
    True
    """

    torch_class = nn.Conv2d

    @property
    def is_matrix(self) -> bool:
        """Whether each pixel is multiplied by a matrix, and none is left out or added."""
        return self.stride == (1, 1) and self.groups == 1 and self.adds_no_pixels

    @property
    def adds_no_pixels(self) -> bool:
        """Whether each output pixel is made of one pixel of the map."""
        return self.kernel_size == (1, 1) and self.padding == (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved map."""
        if not (torch.is_grad_enabled() and self.adds_no_pixels and x.device.type == 'cpu'):
            return super().forward(x)
        strided = self.stride != (1, 1)
        if strided:
            x = x[..., :: self.stride[0], :: self.stride[1]]
        together = x.dim() == 4 and x.stride(1) == 1
        if (self.training or strided) and self.groups == 1 and together:
            pixels = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
            return pixels.permute(0, 3, 1, 2)
        return F.conv2d(x, self.weight, self.bias, groups=self.groups)


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution in the form that a CPU runs fastest.

    Where the channels of a pixel lie together that is a compiled kernel, if there is one.

    Without it a dilated convolution is read as several plain ones.  With dilation 2
    an output pixel reads pixels of its own parity alone.  So the map is split into the
    four maps of even and odd rows and columns, which the same kernel without dilation
    convolves as one batch; with stride 2 only the even ones are read at all.  While it
    trains on a CPU that is faster than what dilation has there; elsewhere, and for odd
    sizes at stride 1, the convolution is run as it is.

    >>> import torch
    >>> conv = DepthwiseConv2d(2, 2, 3, padding=2, dilation=2, groups=2, bias=False)
    >>> x = torch.rand(1, 2, 6, 4)
    >>> plain = nn.functional.conv2d(x, conv.weight, padding=2, dilation=2, groups=2)
    >>> torch.allclose(conv(x), plain)
    True
    """

    torch_class = nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved map, shape ``(N, C, ceil(H / stride), ceil(W / stride))``."""
        compiled = self._compiled(x)
        if compiled is not None:
            return compiled
        size, same = self.kernel_size[0], (self.kernel_size[0] - 1,) * 2
        evenly = self.dilation == (2, 2) and self.padding == same
        if not (self.training and evenly and x.device.type == 'cpu'):
            return super().forward(x)
        if self.stride == (2, 2):
            return self._undilated(x[:, :, ::2, ::2], size // 2)
        height, width = x.shape[2:]
        if self.stride != (1, 1) or height % 2 or width % 2:
            return super().forward(x)
        batch, channels = x.shape[:2]
        half = height // 2, width // 2
        split = split_parities(x)
        convolved = self._undilated(split, size // 2).permute(0, 2, 3, 1)
        joined = convolved.reshape(2, 2, batch, *half, channels).permute(2, 3, 0, 4, 1, 5)
        return joined.reshape(batch, height, width, channels).permute(0, 3, 1, 2)

    def shape(self, x: Tensor) -> ConvShape | None:
        """Return what this does with ``x``, or ``None`` if only torch knows how to do it.

        Others know depthwise convolutions without bias, of maps that have the channels of a
        pixel together and zeros around them.
        """
        depthwise = self.groups == self.in_channels == self.out_channels
        plain = self.bias is None and self.padding_mode == 'zeros'
        if not (depthwise and plain) or isinstance(self.padding, str):
            return None
        # Another layout would come out, and the rest of the network run in it.
        if x.dim() != 4 or x.stride(1) != 1 or x.shape[1] != self.in_channels:
            return None
        return shape_of(x, self.weight, self.stride, self.padding, self.dilation)

    def compiled_shape(self, x: Tensor) -> ConvShape | None:
        """Return what this does with ``x``, or ``None`` where no compiled kernel can do it."""
        shape = self.shape(x) if available() else None
        return shape if shape is not None and fits(shape) else None

    def _compiled(self, x: Tensor) -> Tensor | None:
        shape = self.compiled_shape(x)
        if shape is None:
            return None
        if torch.compiler.is_compiling():
            return traced_depthwise_conv2d(x, self.weight, shape)
        return native_depthwise(x, self.weight, shape)

    def _undilated(self, x: Tensor, padding: int) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=padding, groups=self.groups)
