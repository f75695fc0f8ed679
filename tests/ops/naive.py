"""Operations written down from their formulas, pixel by pixel or slice by slice."""

from __future__ import annotations

import torch
from torch import Tensor


def conv(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Convolution as a sum over shifted slices; depthwise if ``weight`` is ``(C, 1, k, k)``."""
    batch, channels, height, width = x.shape
    kernel_size = weight.shape[-1]
    pad = kernel_size // 2 * dilation
    canvas = x.new_zeros(batch, channels, height + 2 * pad, width + 2 * pad)
    canvas[:, :, pad : pad + height, pad : pad + width] = x
    depthwise = weight.shape[1] == 1 != channels
    out = torch.zeros(())
    for i in range(kernel_size):
        for j in range(kernel_size):
            top, left = i * dilation, j * dilation
            piece = canvas[:, :, top : top + height : stride, left : left + width : stride]
            tap = torch.diag(weight[:, 0, i, j]) if depthwise else weight[:, :, i, j]
            out = out + torch.einsum('oi,nihw->nohw', tap, piece)
    return out


def norm(x: Tensor, layer: torch.nn.Module | None = None) -> Tensor:
    """Batch normalisation with the statistics of the batch."""
    centred = x - x.mean((0, 2, 3), keepdim=True)
    out = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    if layer is None or layer.weight is None:
        return out
    return out * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)


def pool(x: Tensor, pool_type: str, stride: int, kernel_size: int = 3) -> Tensor:
    """Pooling over the pixels of each window that lie inside the map."""
    height, width = x.shape[2:]
    half = kernel_size // 2
    rows = []
    for i in range(0, height, stride):
        row = []
        for j in range(0, width, stride):
            window = x[:, :, max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1]
            row.append(window.amax((2, 3)) if pool_type == 'max' else window.mean((2, 3)))
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


def factorized_reduce(x: Tensor, weight1: Tensor, weight2: Tensor) -> Tensor:
    """Even pixels times one matrix, odd pixels times the other; zeros outside the map."""
    batch, _, height, width = x.shape
    half = len(weight1)
    out = x.new_zeros(batch, half + len(weight2), -(-height // 2), -(-width // 2))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :half, i, j] = x[:, :, 2 * i, 2 * j] @ weight1[:, :, 0, 0].T
            if 2 * i + 1 < height and 2 * j + 1 < width:
                out[:, half:, i, j] = x[:, :, 2 * i + 1, 2 * j + 1] @ weight2[:, :, 0, 0].T
    return out


def randomize(module: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter a random value, affine norms included, in float64."""
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module
