r"""Mixed edges by the compiled kernels: all candidates that read one source, in one call.

.. math:: y = \sum_k w_k f_k(x)

Each :math:`f_k` is the identity, a mean over 3x3 pixels, or a convolution of
:math:`\max(x, 0)` with a batch norm or without.  The kernels take one image after the other
through all of them, and keep only the maps before the norms.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import IntEnum
from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .fused_sum import BatchNorm, addresses, batch_norm_of, takes_map
from .graph_nodes import gradients_again
from .native import call, usable

__all__ = ['Term', 'TermKind', 'mixed_edge', 'term_of_conv']

_MOST_TERMS = 64
"""What the kernels have room for."""
_MOST_NUMBERS = 2**20
"""Of an image: larger ones do not stay in a cache."""


class TermKind(IntEnum):
    """What the kernels can compute of a source."""

    SAME = 0
    POOLED = 1
    POINTWISE = 2
    SQUARE = 3


class Term(NamedTuple):
    """A candidate as the kernels know it.

    Attributes:
        kind: ``SAME`` for the source itself, ``POOLED`` for its mean over the 3x3 pixels
            inside of the map, ``POINTWISE`` and ``SQUARE`` for a ReLU and a 1x1 or 3x3
            convolution that keeps the size.
        weight: Of the convolution, shape ``(C_out, C, K, K)``.
        norm: What follows the convolution, or ``None``.
    """

    kind: TermKind
    weight: Tensor | None = None
    norm: nn.Module | None = None


class _Plan(NamedTuple):
    """What an edge is, beside its tensors.

    Attributes:
        kinds: Of each term.
        norms: What normalises each.
        convs: Which of them are convolutions.
    """

    kinds: bytes
    norms: tuple[BatchNorm | None, ...]
    convs: tuple[int, ...]


_CONVS = {1: TermKind.POINTWISE, 3: TermKind.SQUARE}


def term_of_conv(conv: nn.Module, norm: nn.Module | None) -> Term | None:
    """Return a ReLU with a convolution and a norm as a term, or ``None`` if it is none.

    Args:
        conv: The convolution, which does what its numbers say.
        norm: What follows it, or ``None``.

    >>> conv, norm = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    >>> term_of_conv(conv, norm).kind.name
    'SQUARE'
    >>> term_of_conv(nn.Conv2d(2, 4, 3, bias=False), norm) is None
    True
    """
    if not isinstance(conv, nn.Conv2d) or conv.groups != 1 or conv.bias is not None:
        return None
    size = conv.kernel_size[0]
    keeps = size in _CONVS and conv.kernel_size == (size, size) and conv.stride == (1, 1)
    same = conv.padding == (size // 2, size // 2) and conv.padding_mode == 'zeros'
    if not keeps or not same or (size > 1 and conv.dilation != (1, 1)):
        return None
    return Term(_CONVS[size], conv.weight, norm)


def _sizes(x: Tensor, channels: int) -> Any:
    batch, inputs, height, width = x.shape
    return (ctypes.c_int64 * 5)(batch, height, width, inputs, channels)


def _strides(plan: _Plan, weights: Sequence[Tensor]) -> Any:
    numbers = [0] * (4 * len(plan.kinds))
    for k, weight in zip(plan.convs, weights, strict=True):
        numbers[4 * k : 4 * k + 4] = weight.stride()
    return (ctypes.c_int64 * len(numbers))(*numbers)


def _spread(plan: _Plan, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return what belongs to the convolutions as one entry per term."""
    found: list[Tensor | None] = [None] * len(plan.kinds)
    for k, tensor in zip(plan.convs, tensors, strict=True):
        found[k] = tensor
    return found


def _forward(
    plan: _Plan, x: Tensor, weights: Sequence[Tensor], factors: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return the sum, the maps of the convolutions, and what the norms found, ``(K, 2, C)``."""
    count, channels = len(plan.kinds), weights[0].shape[0]
    shape = x.shape[0], channels, *x.shape[2:]
    maps = [
        torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        for _ in range(len(weights) + 1)
    ]
    out, saved = maps.pop(), x.new_empty((count, 2, channels))
    numbers, norms = ctypes.c_double * count, plan.norms
    call(
        'edge_forward',
        x.dtype,
        _sizes(x, channels),
        count,
        plan.kinds,
        x,
        addresses(_spread(plan, weights)),
        _strides(plan, weights),
        addresses(factors),
        numbers(*(0 if norm is None else norm.eps for norm in norms)),
        numbers(*(0 if norm is None else norm.momentum for norm in norms)),
        addresses([None if norm is None else norm.mean for norm in norms], written=True),
        addresses([None if norm is None else norm.var for norm in norms], written=True),
        addresses(_spread(plan, maps)),
        saved,
        out,
    )
    batches = [norm.batches for norm in norms if norm is not None]
    if batches:
        torch._foreach_add_(batches, 1)
    return out, maps, saved


class _Edge(torch.autograd.Function):
    """The sum; it keeps its source, and the maps before the norms."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, x: Tensor, *tensors: Tensor) -> Tensor:
        convs = len(plan.convs)
        weights, factors = tensors[:convs], tensors[convs:]
        out, maps, saved = _forward(plan, x, weights, factors)
        ctx.save_for_backward(x, saved, *tensors, *maps)
        ctx.plan = plan
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,), plan, needs = grads, ctx.plan, ctx.needs_input_grad[1:]
        x, saved, *tensors = ctx.saved_tensors
        convs, last = len(plan.convs), len(plan.convs) + len(plan.kinds)
        weights, factors, maps = tensors[:convs], tensors[convs:last], tensors[last:]
        if torch.is_grad_enabled():
            # These gradients may be differentiated again: use operations of torch.
            leaves = x, *weights, *factors
            return None, *gradients_again(partial(_plain, plan), leaves, needs, grad)
        return None, *_backward(plan, grad, x, weights, factors, maps, saved, needs)


def _backward(
    plan: _Plan,
    grad: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    factors: Sequence[Tensor],
    maps: Sequence[Tensor],
    saved: Tensor,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of the source, the weights and the factors that are needed."""
    grad = grad.contiguous(memory_format=torch.channels_last)
    convs, count = len(weights), len(plan.kinds)
    along_x = torch.empty_like(x) if needs[0] else None
    along_weights = [
        torch.empty_like(weight) if need else None
        for weight, need in zip(weights, needs[1:], strict=False)
    ]
    along_factors = grad.new_empty(count) if any(needs[convs + 1 :]) else None
    call(
        'edge_backward',
        x.dtype,
        _sizes(x, grad.shape[1]),
        count,
        plan.kinds,
        bytes(norm is not None for norm in plan.norms),
        grad,
        x,
        addresses(_spread(plan, weights)),
        # The gradients lie as their weights do.
        _strides(plan, weights),
        addresses(factors),
        addresses(_spread(plan, maps)),
        saved,
        along_x,
        addresses(_spread(plan, along_weights), written=True),
        along_factors,
    )
    parts = [None] * count if along_factors is None else along_factors.unbind()
    wanted = zip(parts, needs[convs + 1 :], strict=True)
    return [along_x, *along_weights, *(part if need else None for part, need in wanted)]


def _plain(plan: _Plan, x: Tensor, *tensors: Tensor) -> Tensor:
    """Return the same sum by operations of torch; no running statistics follow."""
    factors, outputs = tensors[len(plan.convs) :], []
    rectified, left = x.relu(), iter(tensors)
    for kind, norm, factor in zip(plan.kinds, plan.norms, factors, strict=True):
        if kind == TermKind.SAME:
            y = x
        elif kind == TermKind.POOLED:
            y = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        else:
            weight = next(left)
            y = F.conv2d(rectified, weight, padding=weight.shape[2] // 2)
        if norm is not None:
            y = F.batch_norm(y, None, None, training=True, eps=norm.eps)
        outputs.append(factor * y)
    return reduce(add, outputs)


def _fits(term: Term, inputs: int, channels: int) -> bool:
    """Whether the kernels can make so many channels of its source by a term."""
    weight = term.weight
    if weight is None:
        return inputs == channels and term.norm is None
    # Its gradient is to lie as it does.
    dense = weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last)
    return weight.shape[:2] == (channels, inputs) and dense


def mixed_edge(x: Tensor, terms: Sequence[Term], factors: Sequence[Tensor]) -> Tensor | None:
    """Return the weighted sum of terms, or ``None`` where the kernels must not make it.

    The running statistics of the norms follow.

    Args:
        x: The source, shape ``(N, C, H, W)``.
        terms: At least one convolution among them.
        factors: A scalar tensor for each.
    """
    if not takes_map(x) or len(terms) > _MOST_TERMS or x.numel() > _MOST_NUMBERS * len(x):
        return None
    # A thread takes whole images.
    if len(x) < torch.get_num_threads():
        return None
    weights = [term.weight for term in terms if term.weight is not None]
    channels = weights[0].shape[0]
    norms = []
    for term in terms:
        norm = None if term.norm is None else batch_norm_of(term.norm, channels)
        if (term.norm is not None and norm is None) or not _fits(term, x.shape[1], channels):
            return None
        norms.append(norm)
    running = [part for norm in norms if norm is not None for part in norm[:2]]
    if any(factor.dim() for factor in factors) or not usable(x, *weights, *factors, *running):
        return None
    convs = tuple(k for k, term in enumerate(terms) if term.weight is not None)
    plan = _Plan(bytes(term.kind for term in terms), tuple(norms), convs)
    tensors = (x, *weights, *factors)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return _Edge.apply(plan, *tensors)
    return _forward(plan, x, weights, factors)[0]
