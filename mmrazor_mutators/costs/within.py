"""The best network within budgets, and not far below them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import SearchSpaceError
from .model import Chosen, CostModel, Term
from .solver import Bound, best_choices, extreme_cost

__all__ = ['check_possible', 'choose_within']


def choose_within(
    models: Sequence[CostModel],
    limits: Sequence[float],
    objective: Sequence[Term],
    counts: Mapping[str, int],
    allowed: Mapping[str, Sequence[str]],
    tolerance: float,
) -> Chosen | None:
    """Return the choices of the largest objective within limits, close to one of them.

    Where a limit is never reached, as that of the original, nothing has to be close to it.

    Args:
        models: Tell the costs, of the same spaces.
        limits: Of each cost.
        objective: Adds up to what is maximised.
        counts: How many choices each space keeps.
        allowed: For every space the choices that may be made.
        tolerance: By which fraction of a limit a cost may be below it; where the steps of the
            space are coarser, the largest cost below counts.

    Returns:
        ``{space_id: names}``, or ``None`` if nothing is within the limits.
    """
    bounds = [Bound(model, limit) for model, limit in zip(models, limits, strict=True)]
    choices = models[0].choices

    def solve(within: Sequence[Bound]) -> Any:
        return best_choices(choices, counts, objective, within, allowed)

    free = solve(bounds)
    if free is None or any(b.model.of(free) >= (1 - tolerance) * b.high for b in bounds):
        return free
    if not any(_can_exceed(bound, counts, allowed) for bound in bounds):
        return free
    found = []
    for bound in bounds:
        for near in _close_to(bound, (1 - tolerance) * bound.high):
            chosen = solve([*bounds, near])
            if chosen is not None:
                weights = bound.model.indicators(chosen)
                score = float(sum(term.expected(weights) for term in objective))
                found.append((score, chosen))
    if found:
        return max(found, key=lambda pair: pair[0])[1]
    # The steps are coarser than that: what comes closest from below.
    closest = []
    for bound in bounds:
        largest = extreme_cost(bound.model, counts, True, allowed, bounds)
        if largest is not None:
            closest.append((largest[0] / bound.high, largest[1]))
    return max(closest, key=lambda pair: pair[0])[1] if closest else free


def _close_to(bound: Bound, low: float) -> Iterator[Bound]:
    """Yield bounds of which one has to hold, so that a cost is at least ``low``."""
    model = bound.model
    for piece in model.merged:
        single = CostModel(model.metric, model.choices, [piece], offset=model.offset)
        most = model.offset + sum(float(term.table.max()) for term in piece.terms)
        if most >= low:
            yield Bound(single, bound.high, low)


def _can_exceed(bound: Bound, counts: Mapping[str, int], allowed: Any) -> bool:
    largest = extreme_cost(bound.model, counts, True, allowed)
    return largest is not None and largest[0] > bound.high


def check_possible(
    models: Mapping[str, CostModel],
    limits: Mapping[str, float],
    counts: Mapping[str, int],
    allowed: Mapping[str, Sequence[str]],
) -> None:
    """Refuse limits that no network can meet.

    Args:
        models: By the name of the cost.
        limits: Of each cost.
        counts: How many choices each space keeps.
        allowed: For every space the choices that may be made.

    Raises:
        SearchSpaceError: Which one, and from where to where the costs go.
    """
    for name, model in models.items():
        smallest = extreme_cost(model, counts, False, allowed)
        if smallest is not None and smallest[0] <= limits[name]:
            continue
        largest = extreme_cost(model, counts, True, allowed)
        low, high = (pair[0] if pair else math.nan for pair in (smallest, largest))
        raise SearchSpaceError(
            f'No network of this space has a cost of at most {limits[name]:,.6g} '
            f'`{name}`: they go from {low:,.6g} to {high:,.6g}; raise the budget, or let '
            'rules give smaller choices'
        )
    bounds = [Bound(model, limits[name]) for name, model in models.items()]
    if len(bounds) < 2:
        return
    if best_choices(bounds[0].model.choices, counts, (), bounds, allowed) is None:
        shown = ', '.join(f'{name}={limits[name]:,.6g}' for name in models)
        raise SearchSpaceError(
            f'No network of this space is within all budgets at once ({shown}), though '
            'each of them can be met by itself; raise one of them'
        )
