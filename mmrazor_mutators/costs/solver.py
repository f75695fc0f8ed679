r"""The best choices within bounds on costs, exactly: a mixed integer linear program.

A variable :math:`x_{s,c}` is 1 where choice :math:`c` of space :math:`s` is made, and
:math:`\sum_c x_{s,c}` is the number of choices that the space keeps.  A table over several
spaces multiplies such variables; a variable :math:`y` for each of its entries, whose sums over
all other spaces are :math:`x_{s,c}`, equals that product wherever all :math:`x` are whole
(Sherali & Adams, SIAM J. Discrete Math. 1990).  HiGHS, which comes with SciPy, solves it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import HostError
from .model import CostModel, Term

__all__ = ['Bound', 'best_choices', 'extreme_cost']

Chosen = dict[str, tuple[str, ...]]
"""``{space_id: names}``."""

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Bound:
    """What a cost may be.

    Attributes:
        model: Tells it.
        high: The highest.
        low: The lowest, of a cost that is a sum.
    """

    model: CostModel
    high: float
    low: float = -math.inf

    def holds(self, chosen: Mapping[str, Sequence[str]]) -> bool:
        """Whether a network is within the bound."""
        return self.low <= self.model.of(chosen) <= self.high


class _Program:
    """Variables and constraints, as SciPy takes them."""

    def __init__(
        self,
        choices: Mapping[str, tuple[str, ...]],
        counts: Mapping[str, int],
        allowed: Mapping[str, Sequence[str]],
    ) -> None:
        self.choices, self.counts = choices, counts
        self.allowed = {sid: set(allowed.get(sid, names)) for sid, names in choices.items()}
        self.chosen: dict[tuple[str, str], int] = {}
        self.size = 0
        self.rows: list[tuple[dict[int, float], float, float]] = []
        self.products: dict[tuple[str, ...], dict[tuple[int, ...], int]] = {}
        for sid, names in choices.items():
            columns = {}
            for name in names:
                if name in self.allowed[sid]:
                    columns[self._new()] = 1.0
                    self.chosen[sid, name] = self.size - 1
            self.rows.append((columns, counts[sid], counts[sid]))
        self.whole = self.size

    def _new(self) -> int:
        self.size += 1
        return self.size - 1

    def _columns(self, spaces: tuple[str, ...]) -> dict[tuple[int, ...], int]:
        """Return the variable of every entry of a table that may be chosen."""
        if spaces in self.products:
            return self.products[spaces]
        indices = [
            [k for k, name in enumerate(self.choices[sid]) if name in self.allowed[sid]]
            for sid in spaces
        ]
        found: dict[tuple[int, ...], int]
        if len(spaces) == 1:
            (sid,) = spaces
            found = {(k,): self.chosen[sid, self.choices[sid][k]] for k in indices[0]}
        else:
            found = {entry: self._new() for entry in itertools.product(*indices)}
            for place, sid in enumerate(spaces):
                others = math.prod(self.counts[s] for s in spaces if s != sid)
                for k in indices[place]:
                    row = {column: 1.0 for entry, column in found.items() if entry[place] == k}
                    row[self.chosen[sid, self.choices[sid][k]]] = -float(others)
                    self.rows.append((row, 0.0, 0.0))
        self.products[spaces] = found
        return found

    def linear(self, terms: Sequence[Term]) -> tuple[dict[int, float], float]:
        """Return the coefficients of a sum of tables, and its constant."""
        row: dict[int, float] = {}
        constant = 0.0
        for spaces, table in terms:
            if not spaces:
                constant += float(table)
                continue
            values = table.detach().cpu().numpy()
            for entry, column in self._columns(spaces).items():
                if values[entry]:
                    row[column] = row.get(column, 0.0) + float(values[entry])
        return row, constant

    def bound(self, bound: Bound, slack: float) -> None:
        """Keep a cost within its bounds, the highest made lower by a factor."""
        scale = abs(bound.high) or 1.0
        for piece in bound.model.merged:
            row, constant = self.linear(piece.terms)
            constant += bound.model.offset
            low = (bound.low - constant) / scale if bound.model.reduce == 'sum' else -math.inf
            high = (bound.high * (1 - slack) - constant) / scale
            if row:
                self.rows.append(({c: v / scale for c, v in row.items()}, low, high))
            elif not low <= 0 <= high:
                self.rows.append(({0: 0.0}, 1.0, 1.0))  # Nothing can help.

    def solve(self, objective: dict[int, float], seconds: float) -> Chosen | None:
        """Return what minimises an objective, ``None`` where nothing is within the bounds."""
        try:
            from scipy.optimize import Bounds, LinearConstraint, milp
            from scipy.sparse import coo_array
        except ImportError as error:
            raise HostError(
                f'Choosing under a budget needs SciPy, which cannot be imported ({error}); '
                'install it with: pip install scipy'
            ) from error
        scale = max((abs(v) for v in objective.values()), default=1.0) or 1.0
        costs = np.zeros(self.size)
        for column, value in objective.items():
            costs[column] = value / scale
        entries = [(r, c, v) for r, (row, _, _) in enumerate(self.rows) for c, v in row.items()]
        rows, columns, values = zip(*entries, strict=True)
        matrix = coo_array((values, (rows, columns)), (len(self.rows), self.size)).tocsr()
        kinds = np.zeros(self.size)
        kinds[: self.whole] = 1
        result: Any = milp(
            costs,
            integrality=kinds,
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(
                matrix, [low for _, low, _ in self.rows], [high for _, _, high in self.rows]
            ),
            options={'time_limit': seconds, 'mip_rel_gap': 1e-6},
        )
        if result.x is None:
            return None
        found: dict[str, list[str]] = {sid: [] for sid in self.choices}
        for (sid, name), column in self.chosen.items():
            if result.x[column] > 0.5:
                found[sid].append(name)
        return {sid: tuple(names) for sid, names in found.items()}


def best_choices(
    choices: Mapping[str, tuple[str, ...]],
    counts: Mapping[str, int],
    objective: Sequence[Term],
    bounds: Sequence[Bound],
    allowed: Mapping[str, Sequence[str]] | None = None,
    seconds: float = 60.0,
) -> Chosen | None:
    """Return the choices of the largest objective whose costs are within bounds.

    Args:
        choices: ``{space_id: names}``.
        counts: How many choices each space keeps.
        objective: Adds up to what is maximised.
        bounds: What costs may be.
        allowed: For some spaces the choices that may be made; else all of them.
        seconds: After which the best found so far is good enough.

    Returns:
        Names for every space, also for those inside of choices that are not made; ``None`` if
        nothing is within the bounds.

    Raises:
        HostError: There is no SciPy.

    >>> import torch
    >>> from mmrazor_mutators.costs import Piece
    >>> choices = {'a': ('w1', 'w2'), 'b': ('w1', 'w2')}
    >>> costs = Term(('a', 'b'), torch.tensor([[1.0, 2.0], [2.0, 4.0]]))
    >>> model = CostModel('params', choices, [Piece('fc', (costs,))])
    >>> score = Term(('a',), torch.tensor([0.0, 1.0])), Term(('b',), torch.tensor([0.0, 3.0]))
    >>> best_choices(choices, {'a': 1, 'b': 1}, score, [Bound(model, high=3)])
    {'a': ('w1',), 'b': ('w2',)}
    """
    slack = 0.0
    for _ in range(4):
        program = _Program(choices, counts, allowed or {})
        row, _ = program.linear(objective)
        for bound in bounds:
            program.bound(bound, slack)
        found = program.solve({column: -value for column, value in row.items()}, seconds)
        if found is None or all(bound.holds(found) for bound in bounds):
            return found
        # Rounding within the solver's tolerance has let something through.
        slack = 10 * slack or _TOLERANCE * 100
    return None


def extreme_cost(
    model: CostModel,
    counts: Mapping[str, int],
    largest: bool,
    allowed: Mapping[str, Sequence[str]] | None = None,
    bounds: Sequence[Bound] = (),
    seconds: float = 60.0,
) -> tuple[float, Chosen] | None:
    """Return the smallest or the largest cost that a network can have, and its choices.

    Args:
        model: Tells the cost.
        counts: How many choices each space keeps.
        largest: Which of both.
        allowed: For some spaces the choices that may be made.
        bounds: Of other costs.
        seconds: After which the best found so far is good enough.
    """
    sign = 1.0 if largest else -1.0
    candidates = []
    pieces = model.merged
    if model.reduce == 'max' and not largest:
        chosen = _smallest_maximum(model, counts, allowed, bounds, seconds)
        return None if chosen is None else (model.of(chosen), chosen)
    for piece in pieces:
        terms = [Term(spaces, sign * table) for spaces, table in piece.terms]
        found = best_choices(model.choices, counts, terms, bounds, allowed, seconds)
        if found is not None:
            candidates.append((model.of(found), found))
    if not candidates:
        return None
    return max(candidates, key=lambda pair: pair[0])


def _smallest_maximum(
    model: CostModel,
    counts: Mapping[str, int],
    allowed: Mapping[str, Sequence[str]] | None,
    bounds: Sequence[Bound],
    seconds: float,
) -> Chosen | None:
    """Return the choices under which the largest piece is smallest, by bisection."""
    found = best_choices(model.choices, counts, (), bounds, allowed, seconds)
    while found is not None:
        better = Bound(model, math.nextafter(model.of(found), 0) * (1 - 1e-7))
        smaller = best_choices(model.choices, counts, (), [*bounds, better], allowed, seconds)
        if smaller is None:
            return found
        found = smaller
    return None
