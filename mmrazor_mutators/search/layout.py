"""How weights lie in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..mutables.slicing import may_overrun

__all__ = ['lay_out_channels_last']


def lay_out_channels_last(module: nn.Module) -> None:
    """Let the weights of 2d convolutions keep the channels of a pixel together.

    Feature maps follow their weights.  Parameters stay the same objects, and
    their values the same; their gradients follow.

    Two kinds of convolutions have wrong weight gradients in that layout, and are kept out of
    it (``docs/processors.md``):

    - Strided 1x1 ones of few channels, for which oneDNN writes past its memory.  A forward
      pre-hook gives them their input with the channels apart.
    - Grouped ones, for which PyTorch misreads an image that ``unsqueeze`` made a batch.  Their
      weights keep the channels apart, so that PyTorch copies such an image.

    >>> conv = nn.Conv2d(2, 4, 3)
    >>> lay_out_channels_last(conv)
    >>> conv(torch.rand(1, 2, 5, 5)).is_contiguous(memory_format=torch.channels_last)
    True
    """
    for part in module.modules():
        if not isinstance(part, nn.Conv2d):
            continue
        overruns = may_overrun(part)
        apart = overruns or part.groups > 1
        # What a layer computes its weight of has no layout of its own.
        weight = part._parameters.get('weight')
        if weight is not None:
            weight.data = _apart(weight.data) if apart else _together(weight.data)
        if overruns and keep_channels_apart not in part._forward_pre_hooks.values():
            part.register_forward_pre_hook(keep_channels_apart, with_kwargs=True)


def keep_channels_apart(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give a module its map with the pixels of a channel together, as a hook."""
    kwargs = {name: _apart(value) for name, value in kwargs.items()}
    return tuple(_apart(value) for value in args), kwargs


def _together(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)


def _apart(x: Any) -> Any:
    """Return a tensor with strides that PyTorch can only read as those of NCHW.

    ``contiguous`` would not do: of a map of one channel or one pixel it says that it lies in
    both ways, and leaves it as it is.
    """
    if not isinstance(x, Tensor) or x.dim() < 3 or (x.stride(-1) == 1 and x.shape[-3] > 1):
        return x
    return x.clone(memory_format=torch.contiguous_format)
