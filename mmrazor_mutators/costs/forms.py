"""A sum of tables over few choices, evaluated in a few operations."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ['Form', 'Term']

LARGEST = 1024
"""Choices of all spaces together, up to which their products make one matrix."""


class Term(NamedTuple):
    """A table over the choices of some spaces.

    Attributes:
        spaces: Their ids, each once; none for a constant.
        table: Cost of every combination, float64, one dimension per space.
    """

    spaces: tuple[str, ...]
    table: Tensor

    def expected(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the table, each entry times the weights of its choices."""
        total = self.table
        for space_id in reversed(self.spaces):
            weight = weights[space_id]
            total = total.to(weight) @ weight
        return total


class Form:
    r"""The sum of terms, :math:`c + b \cdot p + p^T A p` and what has more than two spaces.

    Here :math:`p` holds the weights of all choices, one space after the other.  A search
    evaluates it in every step, and small terms one by one take longer than all else about them.

    Args:
        terms: What to add up.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        sizes: dict[str, int] = {}
        for spaces, table in terms:
            if len(spaces) <= 2:
                sizes.update(zip(spaces, table.shape, strict=True))
        if sum(sizes.values()) > LARGEST:
            sizes = {}
        self.spaces = tuple(sizes)
        ends = dict(zip(sizes, itertools.accumulate(sizes.values()), strict=True))
        like = terms[0].table if terms else torch.zeros((), dtype=torch.float64)
        self.constant = like.new_zeros(())
        self.linear = like.new_zeros(sum(sizes.values()))
        self.products = like.new_zeros(len(self.linear), len(self.linear))
        self.others = []
        for term in terms:
            if len(term.spaces) > 2 or not all(space_id in sizes for space_id in term.spaces):
                self.others.append(term)
                continue
            at = tuple(slice(ends[sid] - sizes[sid], ends[sid]) for sid in term.spaces)
            (self.constant, self.linear, self.products)[len(at)][at or ...] += term.table

    def __call__(self, weights: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """Return the sum, a scalar with the graph of the weights.

        Args:
            weights: ``{space_id: weights}``, shape ``(num_choices,)``.
            like: Of the precision and on the device of the result.
        """
        total = self.constant.to(like)
        if self.spaces:
            p = torch.cat([weights[space_id].to(like) for space_id in self.spaces])
            total = total + p @ (self.products.to(like) @ p + self.linear.to(like))
        for term in self.others:
            total = total + term.expected(weights).to(like)
        return total
