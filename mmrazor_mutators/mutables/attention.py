"""Attention with fewer heads than its features would make, or with fewer features."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SubnetError

__all__ = ['SlimAttention', 'head_layout', 'read_fewer', 'reads_alike', 'slim_attention']


class SlimAttention(nn.MultiheadAttention):
    """An ``nn.MultiheadAttention`` of which some heads are gone, or features that it reads.

    What it reads and returns has ``embed_dim`` features; in between there are
    ``num_heads * head_dim``.  It is made of another one, by :func:`slim_attention` and
    :func:`read_fewer`.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; the arguments are those of ``nn.MultiheadAttention``."""
        batched = query.dim() == 3
        inputs = [query, key, value]
        if not batched:
            inputs = [x.unsqueeze(0 if self.batch_first else 1) for x in inputs]
        if not self.batch_first:
            inputs = [x.transpose(0, 1) for x in inputs]
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        mask = self._mask(q, k, attn_mask, key_padding_mask)
        causal = is_causal and mask is None
        shares: Tensor | None = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) / self.head_dim**0.5
            if mask is not None:
                scores = scores + mask
            shares = F.dropout(scores.softmax(-1), self.dropout, self.training)
            mixed = shares @ v
            shares = shares.mean(1) if average_attn_weights else shares
        else:
            dropout = self.dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        out = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not self.batch_first:
            out = out.transpose(0, 1)
        if not batched:
            out = out.squeeze(0 if self.batch_first else 1)
            shares = None if shares is None else shares.squeeze(0)
        return out, shares

    def _mask(
        self, q: Tensor, k: Tensor, attn_mask: Tensor | None, padding: Tensor | None
    ) -> Tensor | None:
        """Return what is added to the scores, of shape ``(N or 1, heads or 1, L, S)``."""
        total: Tensor | None = None
        if attn_mask is not None:
            total = _as_bias(attn_mask, q)
            if total.dim() == 3:
                # One per head of the whole attention; those that are left stand first.
                total = total.unflatten(0, (q.shape[0], -1))[:, : self.num_heads]
            else:
                total = total[None, None]
        if padding is not None:
            bias = _as_bias(padding if padding.dim() == 2 else padding[None], q)
            bias = bias[:, None, None]
            total = bias if total is None else total + bias
        return total


def _as_bias(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float('-inf'))


def head_layout(module: Any) -> tuple[int, int] | None:
    """Return heads and features per head of a module that attends, ``None`` for others.

    Known are ``nn.MultiheadAttention`` and modules in the manner of many vision
    transformers, with ``num_heads`` and linear layers ``qkv`` and ``proj``.
    """
    heads = getattr(module, 'num_heads', None)
    if not isinstance(heads, int) or heads < 1:
        return None
    if isinstance(module, nn.MultiheadAttention):
        return heads, module.out_proj.in_features // heads
    qkv, proj = getattr(module, 'qkv', None), getattr(module, 'proj', None)
    if isinstance(qkv, nn.Linear) and isinstance(proj, nn.Linear):
        return heads, proj.in_features // heads
    return None


def reads_alike(module: Any) -> bool:
    """Whether a module is an ``nn.MultiheadAttention`` that reads all inputs by one weight.

    >>> (
    ...     reads_alike(nn.MultiheadAttention(4, 2)),
    ...     reads_alike(nn.MultiheadAttention(4, 2, kdim=3)),
    ... )
    (True, False)
    """
    return (
        isinstance(module, nn.MultiheadAttention)
        and module.in_proj_weight is not None
        and module.bias_k is None
        and not module.add_zero_attn
    )


def _slim(module: Any) -> None:
    module.__class__ = SlimAttention
    # Some callers compute attention by themselves, unless this says that they cannot.
    module._qkv_same_embed_dim = False


def read_fewer(module: Any, count: int) -> None:
    """Let attention know how many features it reads now, in place; its heads stay.

    Args:
        module: See :func:`reads_alike`; of its weight they are cut already.
        count: How many.
    """
    _slim(module)
    module.embed_dim = module.kdim = module.vdim = count


def slim_attention(module: Any, alive: Tensor) -> None:
    """Cut the dead heads of a module that attends, in place.

    Linear layers in it are cut by themselves.

    Args:
        module: See :func:`head_layout`.
        alive: Bool, shape ``(heads * features per head,)``, equal within a head.

    Raises:
        SubnetError: A module that has no features to cut.
    """
    if head_layout(module) is None:
        raise SubnetError(
            f'Expected a layer whose features can be cut, but got {type(module).__name__}'
        )
    # Its linear layers may have been cut before, so that they do not tell the size.
    size = len(alive) // module.num_heads
    index = alive.repeat(3).nonzero().flatten()
    kept = int(alive.sum()) // size
    if isinstance(module, nn.MultiheadAttention):
        _slim(module)
        for name in ('in_proj_weight', 'in_proj_bias'):
            old = getattr(module, name)
            if old is not None:
                kept_rows = old.detach().index_select(0, index.to(old.device))
                setattr(module, name, nn.Parameter(kept_rows, requires_grad=old.requires_grad))
    elif hasattr(module, 'attn_dim'):
        module.attn_dim = kept * size
    module.num_heads = kept
    module.head_dim = size
