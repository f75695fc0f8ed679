"""What ranks of a distributed run have to agree on; nothing happens in a single process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = [
    'agree_on_buffers',
    'average_',
    'first_of_all',
    'gathered',
    'host_group',
    'rank',
    'same_draws',
    'world_size',
]


def world_size() -> int:
    """Return the number of ranks, 1 outside of a distributed run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, 0 outside of a distributed run."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def host_group() -> Any:
    """Return the group in which ranks exchange what lies in the memory of the host.

    Every rank has to ask for it at the same place of its program.
    """
    if dist.get_backend() == 'gloo':
        return dist.group.WORLD
    world = dist.group.WORLD
    if _host_groups.get('world') is not world:
        _host_groups.update(world=world, group=dist.new_group(backend='gloo'))
    return _host_groups['group']


_host_groups: dict[str, Any] = {}


def gathered(value: Any) -> list[Any]:
    """Return what each rank has given, in the order of the ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=host_group())
    return values


def first_of_all(number: int) -> int:
    """Return the smallest of the numbers that the ranks have given."""
    if world_size() == 1:
        return number
    told = torch.tensor([number])
    dist.all_reduce(told, dist.ReduceOp.MIN, group=host_group())
    return int(told)


def average_(tensors: Sequence[Tensor]) -> None:
    """Average tensors over all ranks, in place and in one message per dtype.

    ``torch.autograd.grad`` does not pass the reducer of
    ``DistributedDataParallel``, so gradients taken with it come here.
    """
    if world_size() == 1 or not tensors:
        return
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype, []).append(tensor)
    for group in by_dtype.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in group])
        dist.all_reduce(flat)
        flat /= world_size()
        for tensor, mean in zip(group, flat.split([t.numel() for t in group]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def agree_on_buffers(module: nn.Module) -> None:
    """Average what a module has counted in its passes, such as running statistics, over ranks.

    Each rank sees batches of its own, so that these differ.  What is decided by an
    evaluation has to be decided from the same ones everywhere.
    """
    average_([buffer for buffer in module.buffers() if buffer.is_floating_point()])


@contextmanager
def same_draws(device: torch.device) -> Iterator[None]:
    """Let every rank draw the same random numbers, which rank 0 decides upon.

    Args:
        device: Where the numbers are drawn.
    """
    if world_size() == 1:
        yield
        return
    seed = torch.randint(2**62, (1,)).to(device)
    dist.broadcast(seed, src=0)
    with torch.random.fork_rng(devices=[device] if device.type == 'cuda' else []):
        torch.manual_seed(int(seed))
        yield
