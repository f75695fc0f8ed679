"""Forward passes of which a gradient is differentiated once more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from .compilation import uncompiled

__all__ = ['differentiable_twice']


@contextmanager
def differentiable_twice() -> Iterator[None]:
    """Run only what has a second derivative inside of the block.

    Compiled code has none, and neither have the fused kernels of attention, in place of which
    the plain products are computed.
    """
    with uncompiled(), _plain_attention():
        yield


def _plain_attention() -> Any:
    attention: Any = getattr(torch.nn, 'attention', None)
    if not hasattr(attention, 'sdpa_kernel'):  # Before torch 2.3.
        return nullcontext()
    return attention.sdpa_kernel(attention.SDPBackend.MATH)
