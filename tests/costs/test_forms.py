"""Sums of tables are what loops over all combinations of choices say."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mmrazor_mutators.costs import forms
from mmrazor_mutators.costs.forms import Form, Term

SIZES = {'a': 2, 'b': 3, 'c': 4, 'd': 2}
SPACES: list[tuple[str, ...]] = [(), ('a',), ('c',), ('a', 'b'), ('b', 'd'), ('d', 'a', 'c')]


def terms_of(spaces: Sequence[tuple[str, ...]]) -> list[Term]:
    shapes = [tuple(SIZES[space_id] for space_id in ids) for ids in spaces]
    tables = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    return [Term(ids, table) for ids, table in zip(spaces, tables, strict=True)]


def weights_of(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {sid: torch.rand(n, dtype=dtype, requires_grad=True) for sid, n in SIZES.items()}


def by_loops(terms: Sequence[Term], weights: Mapping[str, Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for spaces, table in terms:
        for at in itertools.product(*(range(SIZES[space_id]) for space_id in spaces)):
            part = table[at]
            for space_id, index in zip(spaces, at, strict=True):
                part = part * weights[space_id][index].double()
            total = total + part
    return total


@pytest.mark.parametrize('largest', [0, 1024])
@pytest.mark.parametrize('first', range(len(SPACES) + 1))
def test_a_form_is_the_sum_over_all_combinations(
    first: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any kinds of terms, also twice of the same spaces, with and without a matrix."""
    monkeypatch.setattr(forms, 'LARGEST', largest)
    terms = terms_of([*SPACES[first:], *SPACES[first:]])
    form, weights = Form(terms), weights_of()
    assert bool(form.spaces) == (largest > 0 and first < 5)
    total = form(weights, weights['a'])
    expected = by_loops(terms, weights)
    assert_close(total, expected, rtol=1e-12, atol=1e-12)
    if not terms:
        return
    used = [weights[space_id] for ids in SPACES[first:] for space_id in ids]
    for mine, theirs in zip(
        *(torch.autograd.grad(t, used) for t in (total, expected)), strict=True
    ):
        assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_a_form_takes_the_precision_of_the_weights() -> None:
    terms = terms_of(SPACES)
    form, weights = Form(terms), weights_of(torch.float32)
    total = copy.deepcopy(form)(weights, weights['a'])
    assert total.dtype == torch.float32
    assert_close(total, by_loops(terms, weights).float(), rtol=1e-5, atol=1e-5)
    # Nothing of it is kept, so that a look without gradients does no harm to what follows.
    with torch.inference_mode():
        form(weights, weights['a'])
    form(weights, weights['a']).backward()
    assert weights['b'].grad is not None
