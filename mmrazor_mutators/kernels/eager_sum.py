r"""Weighted sums of maps as one node of a graph, some of the maps normalised on the way.

.. math:: y = \sum_k w_k f_k(x_k)

Each :math:`f_k` is a batch norm without parameters or the identity.  Operations of torch
do here what the compiled kernels do in :mod:`.fused_sum`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .fused_sum import BatchNorm, norm_gradients
from .graph_nodes import is_plain

__all__ = ['eager_sum']

_Norms = Sequence[BatchNorm | None]


class _Sum(torch.autograd.Function):
    """The sum; it keeps only the maps that its derivatives read."""

    @staticmethod
    def forward(ctx: Any, norms: _Norms, *tensors: Tensor) -> Any:
        count, total = len(norms), None
        weights, maps = tensors[:count], tensors[count:]
        needs, kept = ctx.needs_input_grad[1:], []
        for k, (norm, weight, x) in enumerate(zip(norms, weights, maps, strict=True)):
            moments: list[Any] = [None, None]
            if norm is not None:
                term, *moments = torch.native_batch_norm(
                    x, _per_channel(weight, x), None, norm.mean, norm.var, True, *norm[3:]
                )
                total = term if total is None else total.add_(term)
            elif total is None:
                total = x * weight
            else:
                total.add_(x, alpha=weight.item())
            read = needs[k] or (norm is not None and needs[count + k])
            kept += [x if read else None, *moments]
        batches = [norm.batches for norm in norms if norm is not None]
        if batches:
            torch._foreach_add_(batches, 1)
        ctx.save_for_backward(*weights, *kept)
        ctx.eps = [None if norm is None else norm.eps for norm in norms]
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,), saved, needs = grads, ctx.saved_tensors, ctx.needs_input_grad[1:]
        count = len(ctx.eps)
        weights, kept = saved[:count], saved[count:]
        if torch.is_grad_enabled():
            # These gradients may be differentiated again: use operations of torch.
            return None, *_differentiable(grad, ctx.eps, weights, kept, needs)
        grad = grad.contiguous(memory_format=torch.channels_last)
        pixels = grad.permute(0, 2, 3, 1).reshape(-1)
        along_weights: list[Tensor | None] = []
        along_maps: list[Tensor | None] = []
        for k, (eps, weight) in enumerate(zip(ctx.eps, weights, strict=True)):
            x, mean, inverse = kept[3 * k : 3 * k + 3]
            needed = needs[count + k], needs[k]
            along_map = along_weight = None
            if eps is not None and any(needed):
                scale, masks = _per_channel(weight, grad), [*needed, False]
                along_map, along_scale, _ = torch.ops.aten.native_batch_norm_backward(
                    grad, x, scale, None, None, mean, inverse, True, eps, masks
                )
                along_weight = along_scale.sum() if needed[1] else None
            elif eps is None:
                along_map = grad * weight if needed[0] else None
                if needed[1]:
                    along_weight = torch.dot(pixels, x.permute(0, 2, 3, 1).reshape(-1))
            along_weights.append(along_weight)
            along_maps.append(along_map)
        return None, *along_weights, *along_maps


def _per_channel(weight: Tensor, x: Tensor) -> Tensor:
    """Return a scalar as the scale of a norm."""
    return weight.expand(x.shape[1]).contiguous()


def _differentiable(
    grad: Tensor,
    all_eps: Sequence[float | None],
    weights: Sequence[Tensor],
    kept: Any,
    needs: Sequence[bool],
) -> Any:
    """Return all gradients, which can be differentiated again."""
    count = len(weights)
    found: list[tuple[Tensor | None, Tensor | None]] = []
    for k, (eps, weight) in enumerate(zip(all_eps, weights, strict=True)):
        x, saved = kept[3 * k], kept[3 * k + 1 : 3 * k + 3]
        needed = needs[count + k], needs[k]
        if eps is not None and any(needed):
            found.append(norm_gradients(grad, x, weight, saved, eps, needed))
        else:
            along_map = grad * weight if needed[0] else None
            found.append((along_map, (grad * x).sum() if needed[1] else None))
    return *(pair[1] for pair in found), *(pair[0] for pair in found)


def eager_sum(
    maps: Sequence[Tensor], norms: _Norms, weights: Sequence[Tensor]
) -> Tensor | None:
    """Return the weighted sum, or ``None`` where autograd is not alone.

    The running statistics of the norms follow.

    Args:
        maps: All of one shape ``(N, C, H, W)``; each one :func:`~.fused_sum.takes_map`.
        norms: What normalises each map; ``None`` for nothing.
        weights: A scalar tensor for each.
    """
    running = [part for norm in norms if norm is not None for part in norm[:2]]
    if any(weight.dim() for weight in weights) or not is_plain(*maps, *weights, *running):
        return None
    return _Sum.apply(norms, *weights, *maps)
