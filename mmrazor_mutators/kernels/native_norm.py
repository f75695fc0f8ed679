"""Batch norms without parameters, times a number, by the compiled kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .fused_sum import norm_gradients
from .native import norm_backward, norm_forward, usable

__all__ = ['native_batch_norm']


class _Norm(torch.autograd.Function):
    """The norm; it keeps its input, and mean and inverse deviation of the batch."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        running: tuple[Tensor, Tensor],
        momentum: float,
        eps: float,
    ) -> Tensor:
        out, saved = norm_forward(x, scale, running, momentum, eps)
        ctx.save_for_backward(x, scale, saved)
        ctx.eps = eps
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,), (x, scale, saved), needs = grads, ctx.saved_tensors, ctx.needs_input_grad
        if torch.is_grad_enabled():
            # These gradients may be differentiated again: use operations of torch.
            along_x, along_scale = norm_gradients(grad, x, scale, saved, ctx.eps, needs[:2])
        else:
            grad = grad.contiguous(memory_format=torch.channels_last)
            along_x, along_scale = norm_backward(grad, x, scale, saved, needs[:2])
        return along_x, along_scale, None, None, None


def native_batch_norm(
    x: Tensor,
    scale: Tensor | None,
    running: tuple[Tensor, Tensor],
    momentum: float,
    eps: float,
) -> Tensor | None:
    """Normalise a batch and multiply it, or return ``None`` where the kernels must not.

    They want the channels of a pixel together, more than one pixel per channel, and tensors
    of one dtype.  The running statistics follow as those of ``torch.nn.BatchNorm2d`` do.

    Args:
        x: Shape ``(N, C, H, W)``.
        scale: A tensor of one number; ``None`` for 1.
        running: Mean and variance that follow in place.
        momentum: How much of the new ones they take over.
        eps: What is added to the variance.
    """
    scales = () if scale is None else (scale,)
    if (
        not usable(x, *running, *scales)
        or eps <= 0
        or x.dim() != 4
        or x.numel() <= x.shape[1]
        or not x.is_contiguous(memory_format=torch.channels_last)
        or not all(part.is_contiguous() for part in running)
    ):
        return None
    if torch.is_grad_enabled() and (
        x.requires_grad or (scale is not None and scale.requires_grad)
    ):
        return _Norm.apply(x, scale, running, momentum, eps)
    return norm_forward(x, scale, running, momentum, eps)[0]
