"""From a supernet and a subnet to a network without anything to search."""

from __future__ import annotations

from torch import nn

from .mutables import MutableModule, match_subnet, network_of, use_torch_classes
from .typing import Subnet

__all__ = ['deploy_subnet', 'export_subnet']


def deploy_subnet(supernet: nn.Module, subnet: Subnet) -> None:
    """Remove from ``supernet``, in place, every choice that ``subnet`` does not make.

    Raises:
        SubnetError: The subnet does not fit; nothing is removed then.
    """
    for mutable, chosen in match_subnet(supernet, subnet):
        mutable.export(chosen)
        if not mutable.is_fixed:  # Code that overrides `export` says nothing.
            MutableModule.export(mutable, chosen)


def export_subnet(supernet: nn.Module, subnet: Subnet) -> nn.Module:
    """Return the network of ``subnet`` as a new, plain module with copied weights.

    Candidates that were not chosen are never copied.  Layers of ours that compute what one
    of torch's own classes computes become that, such as ``nn.Conv2d``.

    Raises:
        SubnetError: The subnet does not fit.
    """
    net = network_of(supernet, subnet)
    use_torch_classes(net)
    return net
