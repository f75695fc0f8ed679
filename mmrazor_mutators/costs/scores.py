"""How much a mutator prefers one network to another, as tables over choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..mutables import SearchableLayer, find_mutables
from .model import Term
from .parts import Conditions, find_places
from .tables import presence, product

__all__ = ['score_terms', 'space_conditions']

_SMALLEST = 1e-12


def space_conditions(supernet: nn.Module) -> dict[str, Conditions]:
    """Return inside of which choices each space stands, ``{space_id: conditions}``."""
    places = find_places(supernet)
    # The mutables of a layer stand where the layer does.
    for module in supernet.modules():
        if isinstance(module, SearchableLayer) and id(module) in places:
            places.update((id(inner), places[id(module)]) for inner in module.mutables.values())
    found: dict[str, Conditions] = {}
    for mutable in find_mutables(supernet):
        here = places.get(id(mutable), [()])
        outer = min((c for c in here), key=len)
        known = found.setdefault(mutable.space_id, outer)
        found[mutable.space_id] = min((known, outer), key=len)
    return found


def score_terms(
    conditions: Mapping[str, Conditions], mutator: Any, allowed: Mapping[str, Sequence[str]]
) -> list[Term]:
    r"""Return tables whose sum is :math:`\sum_s \log p_s` over the choices that are made.

    Only spaces that stay in the network count.  Where a choice keeps something out of the
    network, as depth does, what is inside must not make it worse: there the logarithm is
    relative to the best choice of the space.  Where several inputs compete, as for a node of
    DARTS, it is not, since they are compared by what stands on them.

    Args:
        conditions: Inside of which choices each space stands; see :func:`space_conditions`.
        mutator: With ``scores``.
        allowed: For every space the choices that a subnet may keep.
    """
    spaces: Mapping[str, Any] = mutator.search_spaces
    choices = {sid: tuple(space['choice_names']) for sid, space in spaces.items()}
    terms = []
    for space_id in spaces:
        if space_id not in mutator.arch_params:
            continue
        probs = mutator.scores(space_id).detach().double().cpu().clamp_min(_SMALLEST)
        logs = probs.log()
        inside = tuple(pair for pair in conditions[space_id] if pair[0] in choices)
        if not (inside and _competes(mutator, inside[-1][0])):
            index = [choices[space_id].index(name) for name in allowed[space_id]]
            logs = logs - logs[index].max()
        own = Term((space_id,), logs)
        terms.append(product(presence(inside, choices), own))
    return terms


def _competes(mutator: Any, space_id: str) -> bool:
    """Whether the choices of a space are compared by what stands on them."""
    kept = mutator.search_spaces[space_id]['num_chosen']
    return bool(space_id not in mutator.arch_params or kept > 1)
