"""What a search believes by now: logits, probabilities, how decided its spaces are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import BindingError, SearchSpaceError
from ..mutables import holder_of
from ..typing import Subnet
from .guards import draws_kept

__all__ = ['Look', 'SpaceLook', 'entropy', 'look_at', 'margin']


class SpaceLook(NamedTuple):
    """What is believed of one space.

    Attributes:
        choices: Those that have not left the search.
        logits: The architecture parameter of each; ``None`` where there is none.
        probabilities: By which choices are compared; without an architecture parameter 1 for
            what would be chosen now and 0 for all else, NaN where nothing can be chosen.
    """

    choices: tuple[str, ...]
    logits: tuple[float, ...] | None
    probabilities: tuple[float, ...]


class Look(NamedTuple):
    """What is believed of all spaces.

    Attributes:
        spaces: ``{space_id: SpaceLook}``; empty where nothing is learnt.
        subnet: What would be found now; ``None`` where that cannot be said.
        numbers: Of all spaces together: the mean ``entropy`` and ``margin`` of those with an
            architecture parameter, and how many ``skips`` the subnet has.
    """

    spaces: dict[str, SpaceLook]
    subnet: Subnet | None
    numbers: dict[str, float]


def look_at(mutator: Any) -> Look:
    """Look at what a mutator believes; nothing changes, not even a generator.

    Args:
        mutator: Prepared from a supernet.

    Raises:
        BindingError: A mutator without a supernet.
    """
    if not mutator.search_spaces:
        raise BindingError(
            f'This {type(mutator).__name__} has no supernet yet; call '
            'prepare_from_supernet(supernet)'
        )
    with torch.no_grad(), draws_kept():
        subnet = _found_now(mutator)
        spaces = {}
        if getattr(mutator, 'arch_params', None):
            spaces = {sid: _look_at(mutator, sid, subnet) for sid in mutator.search_spaces}
    numbers: dict[str, float] = {}
    learnt = [space.probabilities for space in spaces.values() if space.logits is not None]
    if learnt:
        numbers['entropy'] = sum(map(entropy, learnt)) / len(learnt)
        numbers['margin'] = sum(map(margin, learnt)) / len(learnt)
    if subnet is not None:
        numbers['skips'] = float(_count_skips(mutator, subnet))
    return Look(spaces, subnet, numbers)


def entropy(probabilities: Sequence[float]) -> float:
    r"""Return how undecided a space is, from 0 (one choice has all) to 1 (all are equal).

    It is :math:`-\sum_i p_i \log p_i / \log n` for :math:`n` probabilities, scaled to a sum
    of 1; of a single one it is 0.

    >>> entropy([0.5, 0.5]), entropy([1.0, 0.0]), round(entropy([0.75, 0.25]), 4)
    (1.0, 0.0, 0.8113)
    """
    total = sum(probabilities)
    if not math.isfinite(total) or total <= 0:
        return math.nan
    if len(probabilities) < 2:
        return 0.0
    shares = [p / total for p in probabilities if p > 0]
    return abs(sum(p * math.log(p) for p in shares)) / math.log(len(probabilities))


def margin(probabilities: Sequence[float]) -> float:
    """Return by how much the leading choice is ahead of the second, in probability.

    >>> margin([0.25, 0.625, 0.125])
    0.375
    """
    if not all(map(math.isfinite, probabilities)):
        return math.nan
    first, second = sorted([*probabilities, 0.0], reverse=True)[:2]
    return first - second


def _found_now(mutator: Any) -> Subnet | None:
    search_subnet = getattr(mutator, 'search_subnet', None)
    try:
        return search_subnet() if search_subnet is not None else None
    except (BindingError, SearchSpaceError):
        return None  # Nothing is found yet, or the logits are not finite.


def _look_at(mutator: Any, space_id: str, subnet: Subnet | None) -> SpaceLook:
    names: Sequence[str] = mutator.search_spaces[space_id]['choice_names']
    kept = mutator.kept_choices(space_id) if hasattr(mutator, 'kept_choices') else names
    where = [index for index, name in enumerate(names) if name in kept]
    if space_id not in mutator.arch_params:
        chosen: Any = None if subnet is None else subnet.get(space_id, {}).get('chosen', ())
        values = [math.nan if chosen is None else float(name in chosen) for name in names]
        return SpaceLook(tuple(kept), None, tuple(values[i] for i in where))
    arch_param = mutator.arch_params[space_id]
    if hasattr(mutator, 'scores'):
        weights = mutator.scores(space_id)
    else:
        weights = mutator._dropped.relax(space_id, names, arch_param, mutator.relax)
    values = weights.tolist()
    # One that is relaxed by code of its own may have another shape.
    logits = arch_param.tolist() if tuple(arch_param.shape) == (len(names),) else None
    return SpaceLook(
        tuple(kept),
        None if logits is None else tuple(logits[i] for i in where),
        tuple(values[i] for i in where),
    )


def _count_skips(mutator: Any, subnet: Mapping[str, Any]) -> int:
    return sum(
        _is_skip(mutator.search_spaces[space_id]['modules'][0], name)
        for space_id, entry in subnet.items()
        for name in entry['chosen']
    )


def _is_skip(mutable: Any, name: str) -> bool:
    """Whether a choice passes its input on, as its name or its class says."""
    if any(word in name.lower() for word in ('skip', 'identity')):
        return True
    choices = holder_of(mutable)
    return choices is not None and name in choices and isinstance(choices[name], nn.Identity)
