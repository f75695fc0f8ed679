"""GAEA: weights that are the parameters, and steps that stay on the simplex."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, SearchSpaceError


def search_of(supernet: Any, mutator: Any, arch_optimizer: Any) -> mm.BilevelSearch:
    weights = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    return mm.BilevelSearch(supernet, mutator, nn.functional.mse_loss, weights, arch_optimizer)


def unit_search(**kwargs: Any) -> tuple[Any, Any, Any]:
    """A space of four unit vectors: the output is the weights themselves."""
    choices = toys.units(4)
    supernet = mm.DifferentiableOP(space_id='a', choices=choices)
    mutator = mm.GAEAMutator(**kwargs)
    mutator.prepare_from_supernet(supernet.double())
    mutator.double()
    nn.init.constant_(mutator.arch_params['a'], 0.25)
    optimizer = mm.ExponentiatedGradient(mutator.arch_params.values(), lr=0.5)
    return supernet, mutator, optimizer


def step(supernet: Any, optimizer: Any, slope: Tensor) -> None:
    optimizer.zero_grad()
    (supernet(torch.ones(1)) * slope).sum().backward()
    optimizer.step()


def test_parameters_begin_in_the_middle() -> None:
    supernet = toys.ToySupernet(node_has_param=True)
    mutator = mm.GAEAMutator()
    mutator.prepare_from_supernet(supernet)
    for space_id, p in mutator.arch_params.items():
        count = len(mutator.search_spaces[space_id]['choice_names'])
        assert p.tolist() == pytest.approx([1 / count] * count)
        assert_close(mutator.relax(p), p)
        assert_close(mutator.choice_probs(p), p)


def test_steps_are_those_of_the_bare_gradient() -> None:
    supernet, mutator, optimizer = unit_search()
    slope = torch.tensor([0.3, -1.0, 0.8, 0.0], dtype=torch.float64)
    expected = torch.full((4,), 0.25, dtype=torch.float64)
    for _ in range(5):
        step(supernet, optimizer, slope)
        expected = expected * (-0.5 * slope).exp()
        expected = expected / expected.sum()
        assert_close(mutator.arch_params['a'].data, expected)
        assert_close(supernet(torch.ones(1)), expected)


def test_steps_are_those_of_the_authors_where_they_clamp() -> None:
    """Multiply, raise what is under 1e-5, normalise: the gradient is that of p itself."""
    supernet, mutator, optimizer = unit_search()
    slope = torch.tensor([9.0, -3.0, 2.5, 2.0], dtype=torch.float64)
    p = torch.full((4,), 0.25, dtype=torch.float64)
    clamped = 0
    for _ in range(6):
        step(supernet, optimizer, slope)
        assert_close(mutator.arch_params['a'].grad, slope, rtol=0, atol=1e-12)
        p = p * (-0.5 * slope).exp()
        clamped += int((p < 1e-5).sum())
        p = p.clamp(min=1e-5)
        p = p / p.sum()
        assert_close(mutator.arch_params['a'].data, p, rtol=1e-12, atol=0)
    assert clamped > 3


def test_dropped_choices_leave_a_smaller_simplex() -> None:
    """Trap: dividing by what is left lengthens every step, if the sum stays below 1."""
    supernet, mutator, optimizer = unit_search()
    slope = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64)
    step(supernet, optimizer, slope)
    before = mutator.arch_params['a'].detach().clone()
    mutator.drop_choices('a', ['u1', 'u3'])
    left = before[[0, 2]] / before[[0, 2]].sum()
    assert_close(mutator.arch_params['a'].data[[0, 2]], left)
    assert mutator.arch_params['a'].data[[1, 3]].tolist() == [0, 0]
    for _ in range(4):
        step(supernet, optimizer, slope)
        left = left * (-0.5 * slope[[0, 2]]).exp()
        left = left / left.sum()
        weights = supernet(torch.ones(1))
        assert_close(weights[[0, 2]], left, rtol=1e-4, atol=1e-5)
        assert weights[[1, 3]].tolist() == [0, 0]
    mm.ExponentiatedGradient(mutator.arch_params.values())  # Still on the simplex.
    assert set(mutator.search_subnet()['a']['chosen']) <= {'u0', 'u2'}


def test_dropping_errors_change_nothing() -> None:
    _, mutator, _ = unit_search()
    with pytest.raises(SearchSpaceError, match="no choice 'u9'"):
        mutator.drop_choices('a', ['u0', 'u9'])
    assert mutator.arch_params['a'].tolist() == [0.25] * 4


def test_dropping_in_a_space_without_a_parameter() -> None:
    _, mutator = toys.prepared('GAEAMutator')
    values = {key: p.detach().clone() for key, p in mutator.arch_params.items()}
    mutator.drop_choices('node', ['p0'])
    assert_close(dict(mutator.arch_params), values)


def test_reading_off_what_is_largest() -> None:
    _, mutator, _ = unit_search()
    with torch.no_grad():
        mutator.arch_params['a'].copy_(torch.tensor([0.2, 0.5, 0.3, 0.0]))
    assert mutator.search_subnet() == {
        'a': {'chosen': ['u1'], 'chosen_probs': [pytest.approx(0.5)]}
    }


@pytest.mark.parametrize(
    ('kind', 'name'), [(torch.optim.Adam, 'Adam'), (torch.optim.SGD, 'SGD')]
)
def test_other_optimizers_are_refused(kind: Any, name: str) -> None:
    supernet, mutator, optimizer = unit_search()
    message = f'to be ExponentiatedGradient, which GAEAMutator needs, but got {name}'
    with pytest.raises(ConfigError, match=message):
        search_of(supernet, mutator, kind(mutator.arch_params.values(), lr=0.1))
    search_of(supernet, mutator, optimizer)
    plain, darts = toys.prepared('DartsMutator')  # Which takes any.
    weights = torch.optim.SGD(plain.parameters(), lr=0.1)
    arch = kind(darts.arch_params.values(), lr=0.1)
    mm.BilevelSearch(plain, darts, nn.functional.mse_loss, weights, arch)


def test_a_search_goes_on_from_its_state() -> None:
    def built() -> mm.BilevelSearch:
        torch.manual_seed(0)
        supernet, mutator = toys.prepared('GAEAMutator')
        weights = torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9)
        arch = mm.ExponentiatedGradient(mutator.arch_params.values(), lr=0.3)
        return mm.BilevelSearch(supernet, mutator, nn.functional.mse_loss, weights, arch)

    batch = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    whole, cut = built(), built()
    for search in (whole, cut):
        search.on_epoch(0, 2)
        search.step(batch, batch)
        search.mutator.drop_choices('widen', ['deep'])
        search.step(batch, batch)
    resumed = built()
    resumed.load_state_dict(cut.state_dict())
    for search in (whole, resumed):
        search.step(batch, batch)
    for ours, theirs in zip(whole.arch_params, resumed.arch_params, strict=True):
        assert ours.equal(theirs)
        assert ours.sum().item() == pytest.approx(1)
    assert resumed.mutator.kept_choices('widen') == ('none', 'linear', 'norm')
