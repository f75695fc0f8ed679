"""A table of times is set right where a search has ended: the clock has the last word."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import SearchSpaceError
from .model import Chosen, CostModel, Piece, Term

__all__ = ['scaled', 'settle_by_clock']


def scaled(model: CostModel, factor: float) -> CostModel:
    """Return a cost model whose networks cost ``factor`` times as much.

    >>> import torch
    >>> table = CostModel('latency', {}, [Piece('fc', (Term((), torch.tensor(2.0)),))])
    >>> scaled(table, 1.5).of({})
    3.0
    """
    pieces = [
        Piece(piece.name, tuple(Term(t.spaces, factor * t.table) for t in piece.terms))
        for piece in model.pieces
    ]
    return CostModel(
        model.metric,
        model.choices,
        pieces,
        model.reduce,
        model.original,
        factor * model.offset,
    )


def settle_by_clock(
    found_with: Callable[[float], Chosen | None],
    said: Callable[[Chosen], float],
    clock: Callable[[Chosen], float],
    limit: float,
    tolerance: float,
    rounds: int = 12,
) -> tuple[float, float]:
    """Return by which factor a table has to be multiplied for the clock to agree with it.

    A search picks what the table takes for cheaper than it is, so that the error of what it
    finds is no random network's.  The network found is timed, the table multiplied by what
    was missing, and the next one found; between a factor too small and one that was enough
    the next is their mean.

    Args:
        found_with: Returns the network found with a factor, ``None`` if nothing is within.
        said: What the table says of a network with a factor of 1, in milliseconds.
        clock: What a network takes, in milliseconds.
        limit: What it may take, in milliseconds.
        tolerance: By which fraction of the limit it may be quicker.
        rounds: How many networks are timed at most.

    Returns:
        The factor of the slowest network within the limit, and what it takes.

    Raises:
        SearchSpaceError: No network that was found is within it.
    """
    factor, slow, quick = 1.0, 0.0, math.inf
    best: tuple[float, float] | None = None
    timed: dict[str, float] = {}
    for _ in range(rounds):
        chosen = found_with(factor)
        if chosen is None:
            quick = factor
        else:
            key = repr(sorted((space, tuple(names)) for space, names in chosen.items()))
            takes = timed[key] = timed[key] if key in timed else clock(chosen)
            if takes <= limit:
                quick = factor
                best = max(best or (0.0, factor), (takes, factor))
                if takes >= (1 - tolerance) * limit:
                    break
            else:
                slow = factor
        if quick / max(slow, 1e-9) < 1.001:
            break
        # In the middle of what is wanted, so that neither side is missed by a hair.
        wanted = math.inf if chosen is None else takes / (said(chosen) * (1 - tolerance / 2))
        if not slow < wanted < quick:
            wanted = math.sqrt(slow * quick) if slow and quick < math.inf else 0.0
            wanted = wanted or (0.8 * quick if quick < math.inf else 1.25 * slow)
        factor = wanted
    if best is None:
        least = f'{min(timed.values()):.4g} ms' if timed else 'more by the table'
        raise SearchSpaceError(
            f'None of {len(timed)} networks that were timed takes at most {limit:.4g} ms: the '
            f'quickest takes {least}; raise the budget, or let rules give smaller choices'
        )
    return best[1], best[0]
