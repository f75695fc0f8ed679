"""Batch norms that do more than one thing at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.native_norm import native_batch_norm
from ..sharing import is_hooked

__all__ = [
    'BatchMoments',
    'follow_batch',
    'normalize_by_batch',
    'normalizes_by_batch',
    'scaled_norm',
]


class BatchMoments(NamedTuple):
    """What a batch norm remembers of a batch.

    Attributes:
        mean: Shape ``(C,)``.
        var: Without bias, shape ``(C,)``.
    """

    mean: Tensor
    var: Tensor


def normalizes_by_batch(norm: nn.Module) -> bool:
    """Whether the output of ``norm`` depends on nothing but the batch and ``eps``.

    It is so for an ordinary batch norm in training mode that has neither scale nor shift.
    One with hooks is not such a norm.
    """
    return (
        type(norm) is nn.BatchNorm2d
        and norm.training
        and not norm.affine
        and norm.running_mean is not None
        and norm.momentum is not None
        and not is_hooked(norm)
    )


def normalize_by_batch(x: Tensor, norm: Any) -> tuple[Tensor, BatchMoments]:
    """Normalise a batch, and return what every norm that shares it has to remember.

    Args:
        x: Shape ``(N, C, H, W)``.
        norm: One for which :func:`normalizes_by_batch` holds; it does not change.
    """
    moments = BatchMoments(*(torch.zeros_like(norm.running_mean) for _ in range(2)))
    # With the momentum 1 the running statistics are those of this batch.
    normalized = native_batch_norm(x, None, moments, 1.0, norm.eps)
    if normalized is None:
        normalized = F.batch_norm(x, *moments, training=True, momentum=1.0, eps=norm.eps)
    return normalized, moments


def follow_batch(norm: Any, moments: BatchMoments) -> None:
    """Update the running statistics of ``norm`` as if it had normalised the batch itself.

    >>> norm, twin = (nn.BatchNorm2d(2, affine=False) for _ in range(2))
    >>> x = torch.rand(4, 2, 3, 3)
    >>> follow_batch(norm, normalize_by_batch(x, norm)[1])
    >>> _ = twin(x)
    >>> torch.allclose(norm.running_var, twin.running_var), norm.num_batches_tracked
    (True, tensor(1))
    """
    norm.num_batches_tracked.add_(1)
    # As the norm itself does it: a graph that has noted them is still good.
    norm.running_mean.data.lerp_(moments.mean, norm.momentum)
    norm.running_var.data.lerp_(moments.var, norm.momentum)


def scaled_norm(norm: Any, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return ``weight * norm(x)``, in one pass where the norm has no scale of its own.

    Args:
        norm: Any module; an ordinary batch norm without parameters is what this is for.
        x: Shape ``(N, C, H, W)``.
        weight: A scalar tensor; ``None`` for the bare norm.

    >>> norm, x = nn.BatchNorm2d(2, affine=False), torch.rand(4, 2, 3, 3)
    >>> torch.allclose(scaled_norm(norm, x, torch.tensor(0.3)), 0.3 * norm(x), atol=1e-6)
    True
    """
    plain = type(norm) is nn.BatchNorm2d and not norm.affine and norm.momentum is not None
    if not plain or norm.running_mean is None or is_hooked(norm):
        return norm(x) if weight is None else weight * norm(x)
    if weight is None and not norm.training:
        return norm(x)
    running = norm.running_mean, norm.running_var
    scale = None if weight is None else weight.to(norm.running_mean)
    if norm.training:
        norm.num_batches_tracked.add_(1)
        out = native_batch_norm(x, scale, running, norm.momentum, norm.eps)
        if out is not None:
            return out
    if scale is not None:
        scale = scale.expand(norm.num_features).contiguous()
    return F.batch_norm(x, *running, scale, None, norm.training, norm.momentum, norm.eps)
