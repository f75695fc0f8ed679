"""What several ranks have to be given, and to agree on, before they search as one."""

from __future__ import annotations

from collections.abc import Iterable

import torch.distributed as dist
from torch import Tensor, nn

from ..distributed import world_size
from ..errors import ConfigError

__all__ = ['send_from_first_rank', 'unwrapped']

_SHARDED = ('FSDPModule', 'FullyShardedDataParallel')


def unwrapped(supernet: nn.Module) -> nn.Module:
    """Return the network inside of ``DistributedDataParallel``.

    Its reducer does not see ``torch.autograd.grad``; a search averages over ranks by
    itself.

    Raises:
        ConfigError: A network whose weights are sharded.
    """
    if isinstance(supernet, nn.parallel.DistributedDataParallel):
        supernet = supernet.module
    for name, module in supernet.named_modules():
        if any(kind.__name__ in _SHARDED for kind in type(module).__mro__):
            raise ConfigError(
                'Expected the weights of a supernet to be whole on each rank, but those of '
                f'{name or "the supernet"} are sharded by FSDP, which gathers gradients in '
                'backward() alone, and a BilevelSearch takes them by torch.autograd.grad; '
                'use one optimizer in a loop of your own, see docs/distributed.md'
            )
    return supernet


def send_from_first_rank(tensors: Iterable[Tensor]) -> None:
    """Let every rank begin with the values of rank 0, as ``DistributedDataParallel`` does."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)
