"""Layers that get smaller: their dead features and the edges of their kernels are cut off."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .attention import read_fewer, slim_attention
from .layers import CONVS, TRANSPOSED, is_norm, numeric_padding

__all__ = ['crop_kernel', 'keep_features', 'may_overrun']

_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def _cut(module: nn.Module, name: str, dim: int, index: Tensor) -> None:
    """Keep some slices of a parameter or buffer, which stays what it is otherwise."""
    old = getattr(module, name, None)
    if old is None:
        return
    with torch.no_grad():
        kept = old.detach().index_select(dim, index.to(old.device))
        if old.dim() == 4 and old.is_contiguous(memory_format=torch.channels_last):
            kept = kept.contiguous(memory_format=torch.channels_last)
    if isinstance(old, nn.Parameter):
        kept = nn.Parameter(kept, requires_grad=old.requires_grad)
    setattr(module, name, kept)


def keep_features(module: Any, axis: str, alive: Tensor) -> None:
    """Cut the features of a layer that are dead, in place.

    Args:
        module: A layer, without mutables.
        axis: ``'in'`` or ``'out'``; both are the same for a depthwise convolution.
        alive: Bool, shape ``(num_features,)``.

    >>> linear = nn.Linear(3, 2)
    >>> keep_features(linear, 'in', torch.tensor([True, False, True]))
    >>> linear.weight.shape, linear.in_features
    (torch.Size([2, 2]), 2)
    """
    index = alive.nonzero().flatten()
    count = len(index)
    if isinstance(module, (*CONVS, *TRANSPOSED)):
        _keep_channels(module, axis, alive, index)
    elif isinstance(module, nn.Linear):
        _cut(module, 'weight', 0 if axis == 'out' else 1, index)
        if axis == 'out':
            _cut(module, 'bias', 0, index)
        setattr(module, f'{axis}_features', count)
    elif isinstance(module, _BATCH_NORMS):
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            _cut(module, name, 0, index)
        module.num_features = count
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = module.num_groups * count // module.num_channels
        for name in ('weight', 'bias'):
            _cut(module, name, 0, index)
        module.num_channels = count
    elif is_norm(module):
        for name in ('weight', 'bias'):
            _cut(module, name, 0, index)
        module.normalized_shape = (count,)
    elif isinstance(module, nn.PReLU):
        if module.num_parameters > 1:
            _cut(module, 'weight', 0, index)
            module.num_parameters = count
    elif isinstance(module, nn.Embedding):
        _cut(module, 'weight', 1, index)
        module.embedding_dim = count
    elif axis == 'in':
        _cut(module, 'in_proj_weight', 1, index)
        read_fewer(module, count)
    else:
        slim_attention(module, alive)


def _keep_channels(conv: Any, axis: str, alive: Tensor, index: Tensor) -> None:
    outs, ins = (1, 0) if isinstance(conv, TRANSPOSED) else (0, 1)
    if conv.groups > 1:
        # Whole groups live or die; inputs and outputs are cut at once, on one of both calls.
        features = conv.in_channels if axis == 'in' else conv.out_channels
        if len(alive) != features:
            return
        groups = alive.view(conv.groups, -1)[:, 0]
        kept = int(groups.sum())
        for name in ('weight', 'bias'):
            tensor = getattr(conv, name)
            if tensor is not None:
                rows = groups.repeat_interleave(len(tensor) // conv.groups)
                _cut(conv, name, 0, rows.nonzero().flatten())
        conv.in_channels = conv.in_channels * kept // conv.groups
        conv.out_channels = conv.out_channels * kept // conv.groups
        conv.groups = kept
        return
    _cut(conv, 'weight', outs if axis == 'out' else ins, index)
    if axis == 'out':
        _cut(conv, 'bias', 0, index)
    setattr(conv, f'{axis}_channels', len(index))


def keep_slices(module: nn.Module, name: str, dim: int, alive: Tensor) -> None:
    """Cut the dead slices of a parameter that belongs to no layer, in place."""
    _cut(module, name, dim, alive.nonzero().flatten())


def crop_kernel(conv: Any, weight: Tensor, size: tuple[int, ...]) -> None:
    """Give a convolution the middle of a kernel, and the padding that keeps its maps.

    Args:
        conv: Without mutables.
        weight: A kernel of at least that size, around the middle of its own.
        size: One number per dimension.

    >>> conv = nn.Conv1d(1, 1, 5, padding=2)
    >>> crop_kernel(conv, conv.weight, (3,))
    >>> conv.kernel_size, conv.padding, conv.weight.shape
    ((3,), (1,), torch.Size([1, 1, 3]))
    """
    padding = numeric_padding(conv)
    kept = weight.detach()
    for dim, side in enumerate(size, 2):
        kept = kept.narrow(dim, (kept.shape[dim] - side) // 2, side)
    conv.padding = tuple(
        pad - (own - side) // 2 * dilation
        for pad, own, side, dilation in zip(
            padding, conv.kernel_size, size, conv.dilation, strict=True
        )
    )
    conv._reversed_padding_repeated_twice = [
        pad for pad in reversed(conv.padding) for _ in range(2)
    ]
    conv.kernel_size = tuple(size)
    conv.weight = nn.Parameter(kept.clone(), requires_grad=conv.weight.requires_grad)


_SAFE_CHANNELS = 16


def may_overrun(conv: nn.Conv2d) -> bool:
    """Whether oneDNN may write past its memory if the channels of a pixel lie together.

    It does where a pixel has fewer channels than it computes at once: 8 with AVX2.  With
    AVX-512 that are 16.  See ``docs/processors.md``.

    >>> may_overrun(nn.Conv2d(8, 8, 1, stride=2)), may_overrun(nn.Conv2d(16, 8, 1, stride=2))
    (True, False)
    """
    if getattr(conv, 'adds_no_pixels', False):  # Ours read the pixels first.
        return False
    strided = conv.kernel_size == (1, 1) and max(conv.stride) > 1
    return strided and conv.groups == 1 and conv.in_channels < _SAFE_CHANNELS
