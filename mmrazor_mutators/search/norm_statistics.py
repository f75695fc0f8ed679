"""Statistics of batch norms that are those of one path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..distributed import average_
from .guards import buffers_kept

__all__ = ['batch_norms', 'recalibrated']


def batch_norms(network: nn.Module) -> list[Any]:
    """Return the batch norms of a network that keep running statistics."""
    found = (m for m in network.modules() if isinstance(m, _BatchNorm))
    return [norm for norm in found if norm.running_mean is not None]


@contextmanager
def recalibrated(
    network: nn.Module, run: Callable[[Any], Any], batches: Iterable[Any]
) -> Iterator[None]:
    """Let batch norms have the statistics of some batches inside of the block.

    SPOS (Guo et al., ECCV 2020), section 3.4: those of a supernet are a mixture
    of all its paths, so that every candidate gets its own before it is
    evaluated.  They are the averages over the batches, with equal weights; on
    several ranks over the batches of all of them.  Without any batch nothing
    changes.  Everything else stays in its mode.

    Args:
        network: With the path that is to be evaluated.
        run: Runs the network on a batch.
        batches: Of training data.
    """
    norms = batch_norms(network)
    kept = [(norm, norm.training, norm.momentum) for norm in norms]
    with buffers_kept(network), torch.no_grad():
        begun = False
        try:
            for batch in batches:
                if not begun:
                    for norm in norms:
                        norm.reset_running_stats()
                        # Without a momentum a norm averages over all that it has seen.
                        norm.training, norm.momentum = True, None
                    begun = True
                run(batch)
        finally:
            for norm, training, momentum in kept:
                norm.training, norm.momentum = training, momentum
        if begun:
            average_([s for norm in norms for s in (norm.running_mean, norm.running_var)])
        yield
