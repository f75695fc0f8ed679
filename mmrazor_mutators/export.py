"""From a supernet and a subnet to a network without anything to search."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from .mutables import match_subnet
from .typing import Subnet

__all__ = ['deploy_subnet', 'export_subnet']


def deploy_subnet(supernet: nn.Module, subnet: Subnet) -> None:
    """Remove from ``supernet``, in place, every choice that ``subnet`` does not make.

    Raises:
        SubnetError: The subnet does not fit; nothing is removed then.
    """
    for mutable, chosen in match_subnet(supernet, subnet):
        mutable.export(chosen)


def export_subnet(supernet: nn.Module, subnet: Subnet) -> nn.Module:
    """Return the network of ``subnet`` as a new, plain module with copied weights.

    Candidates that were not chosen are never copied.

    Raises:
        SubnetError: The subnet does not fit.
    """
    memo: dict[int, Any] = {}
    # Inner mutables first: an outer one then finds their replacements in the memo.
    for mutable, chosen in reversed(match_subnet(supernet, subnet)):
        kept = [name for name in mutable.full_choice_names if name in chosen]
        memo[id(mutable)] = mutable.plain(kept, lambda module: copy.deepcopy(module, memo))
    return copy.deepcopy(supernet, memo)
