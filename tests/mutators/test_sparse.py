"""Sparsemax and its kin: against projections by hand, and against running every path."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import pytest
import torch
import toys
from torch import Tensor
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, HostError, SearchSpaceError
from mmrazor_mutators.typing import Mixture

ALPHAS = [1.25, 1.5, 1.7, 2.0]


def by_bisection(logits: list[float], alpha: float) -> list[float]:
    """The map of the paper: find the threshold at which the weights sum up to 1."""

    def weights(tau: float) -> list[float]:
        gaps = [max((alpha - 1) * z - tau, 0.0) for z in logits]
        return [gap ** (1 / (alpha - 1)) for gap in gaps]

    high = (alpha - 1) * max(logits)
    low = high - 1
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(weights(middle)) > 1 else (low, middle)
    return weights(low)


@pytest.mark.parametrize('alpha', ALPHAS)
def test_weights_by_hand(alpha: float) -> None:
    mutator = mm.SparsemaxMutator(alpha=alpha)
    found_zero = False
    for logits in torch.randn(20, 5, dtype=torch.float64) / (alpha - 1):
        expected = by_bisection(logits.tolist(), alpha)
        assert mutator.relax(logits).tolist() == pytest.approx(expected, abs=1e-9)
        found_zero |= 0.0 in expected
    assert found_zero


def test_sparsemax_is_the_nearest_point_of_the_simplex() -> None:
    mutator = mm.SparsemaxMutator()
    logits = torch.tensor([0.7, 0.4, -0.5], dtype=torch.float64)
    assert_close(mutator.relax(logits), torch.tensor([0.65, 0.35, 0.0]).double())
    others = torch.rand(5000, 3, dtype=torch.float64)
    others = others / others.sum(-1, keepdim=True)
    distances = (others - logits).square().sum(-1)
    assert (mutator.relax(logits) - logits).square().sum() <= distances.min()


@pytest.mark.parametrize('alpha', ALPHAS)
def test_derivatives_and_none_outside_of_the_support(alpha: float) -> None:
    mutator = mm.SparsemaxMutator(alpha=alpha)
    logits = torch.tensor([0.9, 0.7, -4.0, 0.6], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(mutator.relax, logits)
    eps = 1e-5
    for column, unit in enumerate(torch.eye(4, dtype=torch.float64)):
        ends = [by_bisection((logits + s * eps * unit).tolist(), alpha) for s in (1, -1)]
        first, other = (torch.tensor(end, dtype=torch.float64) for end in ends)
        assert_close(jacobian[:, column], (first - other) / (2 * eps), rtol=1e-6, atol=1e-7)
    assert not jacobian[2].any()
    assert not jacobian[:, 2].any()
    if alpha == 2:  # The identity less the mean, on the support.
        assert jacobian[0].tolist() == pytest.approx([2 / 3, -1 / 3, 0, -1 / 3])


@pytest.mark.parametrize('alpha', ALPHAS)
def test_second_derivatives(alpha: float) -> None:
    mutator = mm.SparsemaxMutator(alpha=alpha)
    logits = torch.tensor([0.9, 0.7, -9.0, 0.6], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mutator.relax, logits)
    assert torch.autograd.gradgradcheck(mutator.relax, logits)


def prepared(alpha: float, **kwargs: Any) -> tuple[Any, Any]:
    """Return a supernet and logits with supports of all sizes."""
    supernet, mutator = toys.prepared(
        'SparsemaxMutator', toys.ToySupernet(node_has_param=True), alpha=alpha, **kwargs
    )
    torch.manual_seed(4)
    with torch.no_grad():
        for logits in mutator.arch_params.values():
            logits.normal_(std=1 / (alpha - 1))
    return supernet, mutator


@pytest.mark.parametrize('alpha', ALPHAS)
def test_what_is_left_out_changes_nothing(alpha: float) -> None:
    """The whole mixture, with every path run, has the same output and the same gradients."""
    supernet, mutator = prepared(alpha)
    x = torch.randn(6, 3, dtype=torch.float64)
    parameters = toys.logits_and_weights(supernet, mutator)
    sparse = supernet(x)
    sizes = {len(mixture.paths) for mixture in mutator.mixtures.values()}
    assert min(sizes) < 3
    assert len(sizes) > 1
    everything = {
        space_id: Mixture(mutator.relax(logits))
        for space_id, logits in mutator.arch_params.items()
    }
    with mutator.mixing(everything):
        whole = supernet(x)
    assert_close(sparse, whole)
    slope = torch.randn_like(sparse)
    ours, theirs = (
        torch.autograd.grad((out * slope).sum(), parameters, allow_unused=True)
        for out in (sparse, whole)
    )
    for mine, naive in zip(ours, theirs, strict=True):
        if mine is None:  # Weights that were not run; the whole mixture gives them zeros.
            assert naive is None or not naive.any()
        else:
            assert_close(mine, naive)
    assert any(
        mine is None and naive is not None for mine, naive in zip(ours, theirs, strict=True)
    )


def test_just_the_support_runs() -> None:
    supernet, mutator = prepared(2.0)
    ran: set[tuple[str, str]] = set()
    for mutable in mm.mutables.find_mutables(supernet):
        for name, choice in mutable.choices.items():
            key = (mutable.space_id, name)
            choice.register_forward_hook(lambda *_, key=key: ran.add(key))
    supernet(torch.randn(6, 3, dtype=torch.float64))
    expected = set()
    for space_id, logits in mutator.arch_params.items():
        space = mutator.search_spaces[space_id]
        support = {
            (space_id, name)
            for name, weight in zip(
                space['choice_names'], by_bisection(logits.tolist(), 2.0), strict=True
            )
            if weight > 0
        }
        names = {name for _, name in support}
        if names != {'none'}:
            support -= {(space_id, 'none')}
        expected |= support
    on_dropped_edges = {
        (f'node_{name}', inner)
        for name in mutator.search_spaces['node']['choice_names']
        if ('node', name) not in expected
        for inner in toys.candidates()
    }
    assert ran == expected - on_dropped_edges


def test_one_look_at_the_device_for_spaces_of_any_size(monkeypatch: Any) -> None:
    _, mutator = prepared(2.0)
    looks: list[Tensor] = []
    tolist = Tensor.tolist
    monkeypatch.setattr(Tensor, 'tolist', lambda self: looks.append(self) or tolist(self))
    mixtures = mutator.relax_spaces()
    assert len(looks) == 1
    assert {len(mixture.weights) for mixture in mixtures.values()} == {3, 4}
    for mixture in mixtures.values():
        assert mixture.paths == tuple(mixture.weights.nonzero().flatten().tolist())
    assert mutator.sample_paths({}) == {}


@pytest.mark.parametrize('alpha', ALPHAS)
def test_parameters_for_given_weights(alpha: float) -> None:
    mutator = mm.SparsemaxMutator(alpha=alpha)
    probs = torch.tensor([[0.5, 0.2, 0.3], [0.98, 0.01, 0.01]], dtype=torch.float64)
    assert_close(mutator.relax(mutator.arch_param_for(probs)), probs)


def test_dropped_choices_are_not_in_the_support() -> None:
    _, mutator = prepared(2.0)
    with torch.no_grad():
        mutator.arch_params['widen'].copy_(torch.tensor([-1.0, 0.9, 0.8, 0.1]))
    assert mutator.relax_spaces()['widen'].paths == (1, 2)
    mutator.drop_choices('widen', ['linear'])
    mixture = mutator.relax_spaces()['widen']
    assert mixture.paths == (2, 3)
    assert mixture.weights.tolist() == pytest.approx([0, 0, 0.85, 0.15])


def test_zeros_are_told_apart_when_a_subnet_is_read_off() -> None:
    """Trap: where `none` has all the weight, the first of the others would win."""
    op = mm.DifferentiableOP(space_id='a', choices=toys.candidates())
    _, mutator = toys.prepared('SparsemaxMutator', op)
    with torch.no_grad():
        mutator.arch_params['a'].copy_(torch.tensor([9.0, 0.1, 0.3, 0.2]))
    assert mutator.relax(mutator.arch_params['a']).tolist() == [1, 0, 0, 0]
    assert mutator.search_subnet()['a']['chosen'] == ['norm']
    probs = mutator.choice_probs(mutator.arch_params['a'])
    assert_close(probs, torch.tensor([1.0, 0, 0, 0]).double(), rtol=0, atol=2e-6)
    assert probs.sum().item() == pytest.approx(1)


@pytest.mark.parametrize('alpha', ALPHAS)
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_logits_that_have_diverged_show(alpha: float, value: float) -> None:
    supernet, mutator = prepared(alpha)
    with torch.no_grad():
        mutator.arch_params['widen'][1] = value
    assert supernet(torch.randn(6, 3, dtype=torch.float64)).isnan().any()
    with pytest.raises(SearchSpaceError, match=r"'widen'.*nan.*the search has diverged"):
        mutator.search_subnet()


@pytest.mark.parametrize('alpha', ALPHAS)
def test_copies(alpha: float) -> None:
    mutator = mm.SparsemaxMutator(alpha=alpha)
    logits = torch.randn(5)
    for twin in (copy.deepcopy(mutator), pickle.loads(pickle.dumps(mutator))):
        assert twin.relax(logits).equal(mutator.relax(logits))


@pytest.mark.parametrize('alpha', [1, 0.5, 2.5, float('nan')])
def test_an_alpha_out_of_range(alpha: float) -> None:
    message = f'`alpha` to be above 1 and at most 2, but got {alpha}; DartsMutator'
    with pytest.raises(ConfigError, match=message):
        mm.SparsemaxMutator(alpha=alpha)


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'entmax', None)
    with pytest.raises(
        HostError, match=r"needs entmax.*pip install 'mmrazor-mutators\[sparse\]'"
    ):
        mm.SparsemaxMutator()
    mm.DartsMutator()  # Nothing else needs it.


def test_the_state_in_mid_search() -> None:
    _, mutator = prepared(1.5)
    mutator.on_epoch(1, 3)
    mutator.drop_choices('widen', ['deep'])
    _, twin = prepared(1.5)
    with torch.no_grad():
        for logits in twin.arch_params.values():
            logits.normal_()
    twin.load_state_dict(mutator.state_dict())
    assert twin.search_subnet() == mutator.search_subnet()
    for space_id, mixture in mutator.relax_spaces().items():
        other = twin.relax_spaces()[space_id]
        assert other.paths == mixture.paths
        assert other.weights.equal(mixture.weights)
