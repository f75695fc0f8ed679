"""What there is to know of layers: their features, their padding, and which are norms."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

__all__ = [
    'CONVS',
    'NORMS',
    'TRANSPOSED',
    'features_of',
    'is_norm',
    'numeric_padding',
    'original_class',
]

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS: tuple[type, ...] = (nn.LayerNorm, *filter(None, [getattr(nn, 'RMSNorm', None)]))
"""Those over the last dimension, or dimensions."""


def features_of(module: Any) -> tuple[int, int]:
    """Return how many features a layer reads and returns, 0 where nobody knows.

    >>> features_of(nn.Linear(3, 4)), features_of(nn.LayerNorm(5)), features_of(nn.ReLU())
    ((3, 4), (5, 5), (0, 0))
    """
    if isinstance(module, (*CONVS, *TRANSPOSED)):
        return module.in_channels, module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    for name in ('num_features', 'num_channels', 'embedding_dim', 'embed_dim'):
        if isinstance(getattr(module, name, None), int):
            return (getattr(module, name),) * 2
    shape = getattr(module, 'normalized_shape', None)
    return (int(shape[-1]),) * 2 if shape else (0, 0)


def numeric_padding(conv: Any) -> tuple[int, ...]:
    """Return the padding of a convolution on one side of each dimension, as numbers."""
    if conv.padding == 'valid':
        return (0,) * len(conv.kernel_size)
    if conv.padding == 'same':
        sides = zip(conv.kernel_size, conv.dilation, strict=True)
        return tuple(dilation * (side - 1) // 2 for side, dilation in sides)
    return tuple(conv.padding)


def original_class(module: nn.Module) -> type[nn.Module]:
    """Return the class that a layer had before it was made searchable."""
    return getattr(type(module), '_original', type(module))


def is_norm(module: nn.Module) -> bool:
    """Whether a layer normalises over its last dimension.

    A subclass may do it over another one, as ``LayerNorm2d`` of some libraries over channels.

    >>> is_norm(nn.LayerNorm(3)), is_norm(nn.BatchNorm1d(3))
    (True, False)
    """
    cls: Any = original_class(module)
    kind: Any = next((kind for kind in NORMS if issubclass(cls, kind)), None)
    if kind is None or cls.forward is kind.forward:
        return kind is not None
    norm: Any = module
    like = next(module.parameters(recurse=False), torch.empty(()))
    count = 30 * math.prod(norm.normalized_shape)
    x = torch.arange(count, device=like.device).sin().to(like.dtype)
    x = x.reshape(2, 3, 5, *norm.normalized_shape)
    try:
        with torch.no_grad():
            return torch.allclose(cls.forward(norm, x), kind.forward(norm, x), atol=1e-4)
    except Exception:  # It asks for another shape.
        return False
