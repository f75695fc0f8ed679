"""From a supernet and a subnet to a network without anything to search."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from .mutables import find_plans, match_subnet, plan_of, set_plan, settle
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
    memo: dict[int, Any] = {id(plan): None for _, plan in find_plans(supernet)}
    # Inner mutables first: an outer one then finds their replacements in the memo.
    chosen_in: dict[str, tuple[str, ...]] = {}
    for mutable, chosen in reversed(match_subnet(supernet, subnet)):
        chosen_in[mutable.space_id] = chosen
        kept = [name for name in mutable.full_choice_names if name in chosen]
        memo[id(mutable)] = mutable.plain(kept, lambda module: copy.deepcopy(module, memo))
    net = copy.deepcopy(supernet, memo)
    settle(supernet, chosen_in, memo)
    for module in net.modules():
        if plan_of(module) is None:
            set_plan(module, None)
    return net
