r"""What a network costs as a function of its choices: sums of tables.

With a weight for every choice of every space, the cost of a part is

.. math:: \sum_{i, j, \dots} T_{ij\dots}\, p_i\, q_j \cdots

where the table :math:`T` has a dimension for each space that the part depends on: what one
layer returns, the next one reads, so that widths multiply.  With independent choices this is
the expected cost, and where every weight is 0 or 1 it is the cost of that network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .forms import Form, Term

__all__ = ['Chosen', 'CostModel', 'Piece', 'Term']

Chosen = Mapping[str, Sequence[str]]
"""``{space_id: names}`` of what is chosen in each space."""


class Piece(NamedTuple):
    """A part of a network that costs something, as a layer does.

    Attributes:
        name: Its qualified name, for messages.
        terms: Add up to its cost.
    """

    name: str
    terms: tuple[Term, ...]


@dataclass
class CostModel:
    """What any network of a search space costs.

    Attributes:
        metric: What is counted, as ``'params'``.
        choices: ``{space_id: names}`` of all spaces.
        pieces: The parts that cost something.
        reduce: Whether the cost is the ``'sum'`` of the pieces or their ``'max'``.
        original: ``{space_id: names}`` of the network as it was before there were choices;
            ``None`` where some space has no such choice.
        offset: What is added in any case.

    >>> table = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    >>> choices = {'a': ('w1', 'w2'), 'b': ('w1', 'w2')}
    >>> model = CostModel('params', choices, [Piece('fc', (Term(('a', 'b'), table),))])
    >>> model.of({'a': ['w2'], 'b': ['w1']})
    2.0
    >>> model.expected({'a': torch.tensor([0.5, 0.5]), 'b': torch.tensor([0.0, 1.0])})
    tensor(3.)
    """

    metric: str
    choices: dict[str, tuple[str, ...]]
    pieces: list[Piece]
    reduce: Literal['sum', 'max'] = 'sum'
    original: dict[str, tuple[str, ...]] | None = None
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.reduce == 'sum':
            terms = [term for piece in self.pieces for term in piece.terms]
            self._merged = [Piece('all', _merge(terms))]
        else:
            self._merged = [Piece(piece.name, _merge(piece.terms)) for piece in self.pieces]
        self._forms = [Form(piece.terms) for piece in self._merged]

    @property
    def merged(self) -> Sequence[Piece]:
        """The pieces with one term for each set of spaces; a single one for a sum."""
        return self._merged

    @property
    def spaces(self) -> tuple[str, ...]:
        """Ids of the spaces that the cost depends on."""
        found = (sid for piece in self._merged for term in piece.terms for sid in term.spaces)
        return tuple(dict.fromkeys(found))

    def expected(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the cost under weights of the choices, a scalar with their graph.

        Args:
            weights: ``{space_id: weights}``, shape ``(num_choices,)``, at least of
                :attr:`spaces`.
        """
        like = next(iter(weights.values()), torch.empty(0, dtype=torch.float64))
        totals = [form(weights, like) for form in self._forms]
        if not totals:
            return like.new_full((), self.offset)
        total = totals[0] if len(totals) == 1 else torch.stack(totals).max()
        return total + self.offset

    def of(self, chosen: Chosen) -> float:
        """Return the cost of one network.

        Args:
            chosen: ``{space_id: names}``; spaces inside of choices that were not made may be
                missing.
        """
        return float(self.expected(self.indicators(chosen)))

    def indicators(self, chosen: Chosen) -> dict[str, Tensor]:
        """Return weights that are 1 for what is chosen and 0 for all else, in float64."""
        return {
            space_id: torch.tensor(
                [float(name in chosen.get(space_id, ())) for name in names],
                dtype=torch.float64,
            )
            for space_id, names in self.choices.items()
        }

    def to(self, device: torch.device) -> CostModel:
        """Return the same model with its tables on a device."""
        pieces = [
            Piece(piece.name, tuple(Term(t.spaces, t.table.to(device)) for t in piece.terms))
            for piece in self._merged
        ]
        return CostModel(
            self.metric, self.choices, pieces, self.reduce, self.original, self.offset
        )


def _merge(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Add up the tables of the same spaces."""
    merged: dict[tuple[str, ...], Tensor] = {}
    for spaces, table in terms:
        order = sorted(range(len(spaces)), key=lambda k: spaces[k])
        key = tuple(spaces[k] for k in order)
        turned = table.permute(order) if order else table
        merged[key] = merged[key] + turned if key in merged else turned
    return tuple(Term(spaces, table) for spaces, table in merged.items())
