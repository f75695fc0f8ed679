"""Tables over choices: where something stands, and what a part costs there."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import SearchSpaceError
from .model import Term
from .parts import Conditions, Part

__all__ = ['part_terms', 'presence', 'product', 'union']

_LARGEST = 20_000
"""Most entries of a table."""


def presence(conditions: Conditions, choices: Mapping[str, tuple[str, ...]]) -> Term:
    """Return a table that is 1 where all conditions hold."""
    spaces = tuple(space_id for space_id, _ in conditions)
    table = torch.zeros([len(choices[sid]) for sid in spaces], dtype=torch.float64)
    table[tuple(choices[sid].index(name) for sid, name in conditions)] = 1
    return Term(spaces, table)


def union(places: Sequence[Conditions], choices: Mapping[str, tuple[str, ...]]) -> Term:
    """Return a table that is 1 where any of some conditions holds."""
    if () in places:
        return Term((), torch.ones((), dtype=torch.float64))
    spaces = tuple(dict.fromkeys(sid for place in places for sid, _ in place))
    table = torch.zeros([len(choices[sid]) for sid in spaces], dtype=torch.float64)
    for place in places:
        of = dict(place)
        table[tuple(choices[s].index(of[s]) if s in of else slice(None) for s in spaces)] = 1
    return Term(spaces, table)


def product(one: Term, other: Term) -> Term:
    """Return the table of all spaces of two, its entries multiplied."""
    spaces = (*one.spaces, *(s for s in other.spaces if s not in one.spaces))

    def spread(term: Term) -> Tensor:
        order = [term.spaces.index(s) for s in spaces if s in term.spaces]
        sizes = iter(term.table.permute(order).shape)
        shape = [next(sizes) if s in term.spaces else 1 for s in spaces]
        return term.table.permute(order).reshape(shape)

    return Term(spaces, spread(one) * spread(other))


def part_terms(
    part: Part,
    choices: Mapping[str, tuple[str, ...]],
    count: Callable[[Mapping[str, str]], float],
    where: Term,
) -> Iterator[Term]:
    """Yield tables whose sum is the cost of a part under every choice."""
    several = part.reads_several
    if several and _adds_up(part, count, several):
        rest = {sid: names for sid, names in part.choices.items() if sid not in several}
        base = {sid: part.choices[sid][-1] for sid in several}
        plain = _table(part, rest, lambda chosen: count({**base, **chosen}))
        yield product(where, plain)
        for sid in several:
            own = _table(
                part,
                {sid: part.choices[sid], **rest},
                lambda chosen: count({**base, **chosen}) - count({**chosen, **base}),
            )
            yield product(where, own)
        return
    yield product(where, _table(part, part.choices, count))


def _table(
    part: Part,
    spaces: Mapping[str, tuple[str, ...]],
    count: Callable[[Mapping[str, str]], float],
) -> Term:
    sizes = [len(names) for names in spaces.values()]
    if math.prod(sizes) > _LARGEST:
        raise SearchSpaceError(
            f'The cost of {part.name!r} depends on {len(sizes)} spaces at once '
            f'({", ".join(spaces)}), with {math.prod(sizes):,} combinations; let some of them '
            "share one space (space='...' in a rule), or give fewer choices"
        )
    values = [
        count(dict(zip(spaces, names, strict=True)))
        for names in itertools.product(*spaces.values())
    ]
    table = torch.tensor(values, dtype=torch.float64).reshape(sizes)
    return Term(tuple(spaces), table)


def _adds_up(
    part: Part, count: Callable[[Mapping[str, str]], float], several: Sequence[str]
) -> bool:
    """Whether the inputs' spaces change the cost one by one, whatever the others do."""
    rng = random.Random(0)
    for _ in range(8):
        chosen = {sid: rng.choice(names) for sid, names in part.choices.items()}
        base = {**chosen, **{sid: part.choices[sid][-1] for sid in several}}
        whole = count(base)
        found = whole + sum(count({**base, sid: chosen[sid]}) - whole for sid in several)
        if not math.isclose(found, count(chosen), rel_tol=1e-9, abs_tol=1e-9):
            return False
    return True
