"""Statistics of batch norms that are those of one path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checks import check_count
from ..distributed import average_
from ..errors import InputError
from ..structures import map_tensors
from .guards import buffers_kept, buffers_kept_on_error, in_mode

__all__ = ['batch_norms', 'calibrate_batch_norm', 'recalibrated']


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
    with buffers_kept(network), torch.no_grad():
        _measure(batch_norms(network), run, batches)
        yield


def calibrate_batch_norm(
    network: nn.Module,
    loader: Iterable[Any],
    *,
    batches: int | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> int:
    """Give the batch norms of a network the statistics of data, in place.

    A network that inherits the weights of a supernet has running statistics that are a
    mixture of all paths (SPOS, Guo et al., ECCV 2020, section 3.4). They become the averages
    over batches, with equal weights. All else runs in eval mode; modes, momenta, weights and
    gradients stay as they are.

    Args:
        network: Changed.
        loader: Batches of training data: inputs, pairs of inputs and targets, or dicts with
            ``inputs`` or ``img``. They are brought to the device of the network.
        batches: How many to use; by default all.
        forward: Runs the network on a batch, ``forward(network, batch)``, where another call
            is needed.

    Returns:
        How many batches were used.

    Raises:
        InputError: No batch; the network is as it was.

    >>> norm = nn.BatchNorm1d(1)
    >>> calibrate_batch_norm(norm, [torch.tensor([[1.0], [3.0]]), torch.tensor([[4.0], [8.0]])])
    2
    >>> norm.running_mean, norm.running_var
    (tensor([4.]), tensor([5.]))
    """
    if batches is not None:
        check_count('batches', batches)
    device = next((x.device for x in network.state_dict().values()), torch.device('cpu'))

    def run(batch: Any) -> Any:
        batch = map_tensors(lambda x: x.to(device), batch)
        return network(_inputs_of(batch)) if forward is None else forward(network, batch)

    with in_mode(network, training=False), buffers_kept_on_error(network):
        used = _measure(batch_norms(network), run, islice(loader, batches))
        if not used:
            raise InputError(
                'Expected at least one batch to calibrate batch norms with, but the loader '
                'gives none'
            )
    return used


def _inputs_of(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        for key in ('inputs', 'img'):
            if key in batch:
                return batch[key]
        raise InputError(
            f'Expected a dict with `inputs` or `img` as a batch, but got {", ".join(batch)}; '
            'tell by `forward` how the network runs'
        )
    return batch[0] if isinstance(batch, (tuple, list)) else batch


@torch.no_grad()
def _measure(norms: list[Any], run: Callable[[Any], Any], batches: Iterable[Any]) -> int:
    """Let norms average over batches; return how many there were."""
    kept = [(norm, norm.training, norm.momentum) for norm in norms]
    count = 0
    try:
        for batch in batches:
            if not count:
                for norm in norms:
                    norm.reset_running_stats()
                    # Without a momentum a norm averages over all that it has seen.
                    norm.training, norm.momentum = True, None
            count += 1
            run(batch)
    finally:
        for norm, training, momentum in kept:
            norm.training, norm.momentum = training, momentum
    if count:
        average_([s for norm in norms for s in (norm.running_mean, norm.running_var)])
    return count
