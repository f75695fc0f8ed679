r"""Weighted sums of maps by the compiled kernels, some of the maps normalised on the way.

.. math:: y = \sum_k w_k f_k(x_k)

Each :math:`f_k` is a batch norm without parameters or the identity.  Every map is read
once per pass, and only the sum is written.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..sharing import is_hooked
from .native import call, read_address, usable

__all__ = [
    'BatchNorm',
    'addresses',
    'batch_norm_of',
    'fused_sum',
    'norm_gradients',
    'takes_map',
]

_Norms = Sequence['BatchNorm | None']


class BatchNorm(NamedTuple):
    """What a sum has to know of a batch norm.

    Attributes:
        mean: The running one, shape ``(C,)``.
        var: The running one, shape ``(C,)``.
        batches: How many there were so far.
        momentum: By how much the running ones follow.
        eps: What is added to the variance.
    """

    mean: Tensor
    var: Tensor
    batches: Tensor
    momentum: float
    eps: float


def batch_norm_of(norm: nn.Module, channels: int) -> BatchNorm | None:
    """Return what a sum needs to normalise in the place of ``norm``, or ``None``.

    It can replace an ordinary batch norm in training mode without scale, shift and hooks,
    whose running statistics follow by a fixed momentum.

    Args:
        norm: Any module.
        channels: How many it has to normalise.

    >>> batch_norm_of(nn.BatchNorm2d(3, affine=False, eps=1e-3), 3).eps
    0.001
    >>> batch_norm_of(nn.BatchNorm2d(3), 3) is None
    True
    """
    if type(norm) is not nn.BatchNorm2d or not norm.training or norm.affine:
        return None
    # Faster than attributes, and this runs for every candidate.
    names = 'running_mean', 'running_var', 'num_batches_tracked'
    mean, var, batches = map(norm._buffers.get, names)
    if mean is None or var is None or batches is None or norm.momentum is None or norm.eps <= 0:
        return None
    if is_hooked(norm):
        return None
    if not mean.shape == var.shape == (channels,):
        return None
    if not (mean.is_contiguous() and var.is_contiguous()):
        return None
    return BatchNorm(mean, var, batches, norm.momentum, norm.eps)


def takes_map(x: Tensor) -> bool:
    """Whether a sum can take a map: dense, the channels of a pixel together, not one pixel."""
    return (
        x.dim() == 4
        and x.numel() > x.shape[1]
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def norm_gradients(
    grad: Tensor,
    x: Tensor,
    scale: Tensor | None,
    saved: Tensor,
    eps: float,
    needs: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of ``scale * norm(x)``, which can be differentiated again.

    Args:
        grad: Of the output.
        x: The input, shape ``(N, C, H, W)``.
        scale: A tensor of one number; ``None`` for 1.
        saved: Mean and inverse deviation of the batch, shape ``(2, C)``.
        eps: What was added to the variance.
        needs: Whether the gradient of ``x`` is needed, and that of ``scale``.
    """
    # The kernel of torch takes it for dense.
    scales = None if scale is None else scale.expand(x.shape[1]).contiguous()
    along_x, along_scales, _ = torch.ops.aten.native_batch_norm_backward(
        grad, x, scales, None, None, saved[0], saved[1], True, eps, [*needs, False]
    )
    if scale is None or not needs[1]:
        return along_x, None
    return along_x, along_scales.sum().view_as(scale)


def addresses(tensors: Sequence[Tensor | None], written: bool = False) -> Any:
    """Return where tensors lie, as C takes it, which reads them or writes to them."""
    address = Tensor.data_ptr if written else read_address
    found = [None if tensor is None else address(tensor) for tensor in tensors]
    return (ctypes.c_void_p * len(found))(*found)


def _forward(
    norms: _Norms, weights: Sequence[Tensor], maps: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the sum, and mean and inverse deviation of each norm, shape ``(K, 2, C)``."""
    x, count = maps[0], len(maps)
    channels, numbers = x.shape[1], ctypes.c_double * count
    out, saved = torch.empty_like(x), x.new_empty((count, 2, channels))
    call(
        'sum_forward',
        x.dtype,
        x.numel() // channels,
        channels,
        count,
        addresses(maps),
        addresses(weights),
        numbers(*(0 if norm is None else norm.eps for norm in norms)),
        numbers(*(0 if norm is None else norm.momentum for norm in norms)),
        addresses([None if norm is None else norm.mean for norm in norms], written=True),
        addresses([None if norm is None else norm.var for norm in norms], written=True),
        saved.data_ptr(),
        out.data_ptr(),
    )
    batches = [norm.batches for norm in norms if norm is not None]
    if batches:
        torch._foreach_add_(batches, 1)
    return out, saved


def _backward(
    grad: Tensor,
    normalised: Sequence[bool],
    saved: Tensor,
    weights: Sequence[Tensor],
    maps: Sequence[Tensor | None],
    needs: Sequence[bool],
) -> tuple[Sequence[Tensor | None], Sequence[Tensor | None]]:
    """Return the gradients of weights and maps that are needed."""
    grad = grad.contiguous(memory_format=torch.channels_last)
    count, channels = len(maps), grad.shape[1]
    along_maps = [torch.empty_like(grad) if need else None for need in needs[count:]]
    along_weights = grad.new_empty(count) if any(needs[:count]) else None
    call(
        'sum_backward',
        grad.dtype,
        grad.numel() // channels,
        channels,
        count,
        grad.data_ptr(),
        addresses(maps),
        addresses(weights),
        bytes(normalised),
        saved.data_ptr(),
        addresses(along_maps, written=True),
        None if along_weights is None else along_weights.data_ptr(),
    )
    if along_weights is None:
        return [None] * count, along_maps
    parts = along_weights.unbind()
    return [p if need else None for p, need in zip(parts, needs, strict=False)], along_maps


class _Sum(torch.autograd.Function):
    """The sum; it keeps only the maps that its derivatives read."""

    @staticmethod
    def forward(ctx: Any, norms: _Norms, *tensors: Tensor) -> Tensor:
        count = len(norms)
        weights, maps = tensors[:count], tensors[count:]
        out, saved = _forward(norms, weights, maps)
        needs = ctx.needs_input_grad[1:]
        kept = [
            x if needs[k] or (norms[k] is not None and needs[count + k]) else None
            for k, x in enumerate(maps)
        ]
        ctx.save_for_backward(saved, *weights, *kept)
        ctx.eps = [None if norm is None else norm.eps for norm in norms]
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,), (saved, *tensors), needs = grads, ctx.saved_tensors, ctx.needs_input_grad[1:]
        count = len(ctx.eps)
        weights, maps = tensors[:count], tensors[count:]
        if torch.is_grad_enabled():
            # These gradients may be differentiated again: use operations of torch.
            found = _differentiable(grad, ctx.eps, saved, weights, maps, needs)
        else:
            normalised = [eps is not None for eps in ctx.eps]
            found = _backward(grad, normalised, saved, weights, maps, needs)
        return (None, *found[0], *found[1])


def _differentiable(
    grad: Tensor,
    all_eps: Sequence[float | None],
    saved: Tensor,
    weights: Sequence[Tensor],
    maps: Sequence[Tensor | None],
    needs: Sequence[bool],
) -> tuple[Sequence[Tensor | None], Sequence[Tensor | None]]:
    """Return the same gradients, which can be differentiated again."""
    along_weights: list[Tensor | None] = []
    along_maps: list[Tensor | None] = []
    for k, (eps, weight, x) in enumerate(zip(all_eps, weights, maps, strict=True)):
        along_map = along_weight = None
        both = needs[len(maps) + k], needs[k]
        if eps is not None and x is not None:
            along_map, along_weight = norm_gradients(grad, x, weight, saved[k], eps, both)
        elif eps is None:
            along_map = grad * weight if both[0] else None
            along_weight = None if x is None or not both[1] else (grad * x).sum()
        along_weights.append(along_weight)
        along_maps.append(along_map)
    return along_weights, along_maps


def fused_sum(
    maps: Sequence[Tensor], norms: _Norms, weights: Sequence[Tensor]
) -> Tensor | None:
    """Return the weighted sum, or ``None`` where the kernels must not make it.

    The running statistics of the norms follow.

    Args:
        maps: All of one shape ``(N, C, H, W)``; each one :func:`takes_map`.
        norms: What normalises each map; ``None`` for nothing.
        weights: A scalar tensor for each.
    """
    running = [part for norm in norms if norm is not None for part in norm[:2]]
    if any(weight.dim() for weight in weights) or not usable(*maps, *weights, *running):
        return None
    if torch.is_grad_enabled() and any(t.requires_grad for t in (*maps, *weights)):
        return _Sum.apply(norms, *weights, *maps)
    return _forward(norms, weights, maps)[0]
