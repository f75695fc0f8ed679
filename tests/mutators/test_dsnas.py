"""DSNAS: the score of what was drawn, and spaces that are fixed early."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.functional import draw_one_hot, score_gates

LOGITS = torch.tensor([0.5, 0.2, -0.9, 1.0], dtype=torch.float64)
OTHER = torch.tensor([-0.3, 0.8, 0.1], dtype=torch.float64)
DRAWS = 40_000


def softmax(logits: Tensor) -> list[float]:
    powers = [math.exp(v) for v in logits.tolist()]
    return [power / sum(powers) for power in powers]


def score(logits: Tensor, drawn: int) -> Tensor:
    """The gradient of log p at what was drawn: one-hot minus p."""
    p = softmax(logits)
    return torch.tensor([float(i == drawn) - q for i, q in enumerate(p)], dtype=torch.float64)


@pytest.mark.parametrize('drawn', range(4))
def test_score_gates(drawn: int) -> None:
    logits, upstream = LOGITS.clone().requires_grad_(), torch.randn(4, dtype=torch.float64)
    one_hot = torch.eye(4, dtype=torch.float64)[drawn]
    gates = score_gates(logits, one_hot)
    assert_close(gates.detach(), one_hot, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(gates, logits, upstream)
    assert_close(gradient, upstream[drawn] * score(LOGITS, drawn))


def estimates(loss: Any) -> tuple[Tensor, Tensor]:
    """Return the estimates of two spaces, one a row."""
    spaces = [a.expand(DRAWS, -1).clone().requires_grad_() for a in (LOGITS, OTHER)]
    gates = [score_gates(a, draw_one_hot(a)) for a in spaces]
    return torch.autograd.grad(loss(*gates).sum(), spaces)


def exact(loss: Any) -> tuple[Tensor, Tensor]:
    """Differentiate the expectation of the loss over all outcomes of both."""
    spaces = [a.clone().requires_grad_() for a in (LOGITS, OTHER)]
    p, q = (a.softmax(-1) for a in spaces)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(4):
        for j in range(3):
            outcome = torch.eye(4, dtype=torch.float64)[i], torch.eye(3).double()[j]
            total = total + p[i] * q[j] * loss(*outcome)
    return torch.autograd.grad(total, spaces)


TABLE = torch.tensor(
    [[1.0, -2.0, 0.5], [3.0, 0.2, -1.0], [0.7, 0.1, 2.0], [-0.4, 1.5, 0.9]], dtype=torch.float64
)


def bilinear(z: Tensor, y: Tensor) -> Tensor:
    return ((z @ TABLE) * y).sum(-1) + 0.3 + z @ TABLE[:, 0]


def squared(z: Tensor, y: Tensor) -> Tensor:
    return bilinear(z, y) ** 2


def test_gradient_on_average() -> None:
    for mine, expected in zip(estimates(bilinear), exact(bilinear), strict=True):
        error = mine.std(0) / DRAWS**0.5
        assert ((mine.mean(0) - expected).abs() < 4.5 * error).all()
    # Where the loss is not affine in the gates of a space, the estimate is biased.
    for mine, expected in zip(estimates(squared), exact(squared), strict=True):
        error = mine.std(0) / DRAWS**0.5
        assert ((mine.mean(0) - expected).abs() > 15 * error).any()


def test_draws() -> None:
    _, mutator = one_op()
    weights = mutator.relax(LOGITS.expand(DRAWS, 4))
    assert set(weights.unique().tolist()) == {0.0, 1.0}
    for share, p in zip(weights.mean(0).tolist(), softmax(LOGITS), strict=True):
        assert abs(share - p) < 4.5 * (p * (1 - p) / DRAWS) ** 0.5


def one_op(**kwargs: Any) -> tuple[Any, Any]:
    op = mm.DifferentiableOP(space_id='a', choices=toys.candidates())
    supernet, mutator = toys.prepared('DSNASMutator', op, **kwargs)
    with torch.no_grad():
        mutator.arch_params['a'].copy_(LOGITS)
    return supernet, mutator


def test_gradient_in_a_network() -> None:
    supernet, mutator = one_op()
    x, seen, ran = torch.randn(6, 4, dtype=torch.float64), set(), []
    for name, choice in supernet.choices.items():
        choice.register_forward_hook(lambda *_, name=name: ran.append(name))
    for seed in range(20):
        mutator.zero_grad()
        ran.clear()
        slope = torch.randn_like(x)
        out = toys.run(supernet, x, seed=seed)
        (out * slope).sum().backward()
        (drawn,) = mutator.mixtures['a'].paths
        assert ran == [list(supernet.choices)[drawn]]
        reward = (slope * list(supernet.choices.values())[drawn](x)).sum().detach()
        assert_close(mutator.arch_params['a'].grad, reward * score(LOGITS, drawn))
        seen |= {drawn}
    assert seen == {0, 1, 2, 3}


def test_one_level_steps_both_on_one_batch() -> None:
    supernet, mutator = toys.prepared('DSNASMutator')
    search = mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.mse_loss,
        torch.optim.SGD(supernet.parameters(), lr=0.1),
        torch.optim.SGD(mutator.arch_params.values(), lr=0.5),
        single_level=True,
    )
    before = {s: a.detach().clone() for s, a in mutator.arch_params.items()}
    head = supernet.head.weight.detach().clone()
    batch = torch.randn(6, 3).double(), torch.randn(6, 2).double()
    assert sorted(search.step(batch)) == ['loss']
    assert not torch.equal(supernet.head.weight, head)
    rewards = []
    for space_id, logits in mutator.arch_params.items():
        (drawn,) = mutator.mixtures[space_id].paths
        direction = score(before[space_id], drawn)
        # Along the score of what was drawn, and nowhere else.
        step = (before[space_id] - logits.detach()) / 0.5
        reward = (step @ direction) / (direction @ direction)
        assert_close(step, reward * direction)
        rewards.append(float(reward))
    assert any(abs(reward) > 1e-6 for reward in rewards)


def probabilities(mutator: Any, *p: float) -> None:
    with torch.no_grad():
        mutator.arch_params['a'].copy_(torch.tensor(p, dtype=torch.float64).log())


@pytest.mark.parametrize(
    ('p', 'kept'),
    [
        ((0.05, 0.65, 0.2, 0.1), 'linear'),
        ((0.05, 0.45, 0.3, 0.2), None),
        ((0.05, 0.06, 0.3, 0.59), None),
        ((0.05, 0.04, 0.3, 0.61), 'deep'),
        # `none` neither wins nor stands in the way.
        ((0.97, 0.01, 0.01, 0.01), None),
        ((0.55, 0.4, 0.04, 0.01), 'linear'),
    ],
)
def test_decided_spaces_are_fixed(p: tuple[float, ...], kept: str | None) -> None:
    supernet, mutator = one_op()
    probabilities(mutator, *p)
    mutator.on_epoch(0, max_epochs=4)
    names = ('none', 'linear', 'norm', 'deep')
    assert mutator.kept_choices('a') == (names if kept is None else (kept,))
    if kept is None:
        return
    supernet(torch.randn(6, 4, dtype=torch.float64)).square().sum().backward()
    mixture = mutator.mixtures['a']
    assert mixture.paths == (names.index(kept),)
    assert mixture.weights.tolist() == [float(name == kept) for name in names]
    assert not mutator.arch_params['a'].grad.any()
    assert mutator.search_subnet()['a'] == {'chosen': [kept], 'chosen_probs': [1.0]}
    mutator.on_epoch(1, max_epochs=4)
    assert mutator.kept_choices('a') == (kept,)


def test_the_threshold_itself_fixes() -> None:
    _, mutator = one_op()
    p = mutator.choice_probs(mutator.arch_params['a']).tolist()
    lead = p[3] - p[1]
    mutator.fix_threshold = math.nextafter(lead, 1)
    mutator.on_epoch(0, max_epochs=4)
    assert len(mutator.kept_choices('a')) == 4
    mutator.fix_threshold = lead
    mutator.on_epoch(1, max_epochs=4)
    assert mutator.kept_choices('a') == ('deep',)


def test_none_may_be_fixed_where_it_may_be_chosen() -> None:
    _, mutator = one_op(ignore_choices=())
    probabilities(mutator, 0.6, 0.1, 0.1, 0.2)
    mutator.on_epoch(0, max_epochs=4)
    assert mutator.kept_choices('a') == ('none',)


def test_without_a_threshold_nothing_is_fixed() -> None:
    _, mutator = one_op(fix_threshold=None)
    probabilities(mutator, 0.01, 0.97, 0.01, 0.01)
    mutator.on_epoch(0, max_epochs=4)
    assert len(mutator.kept_choices('a')) == 4


def test_a_node_that_keeps_several_is_not_fixed() -> None:
    _, mutator = toys.prepared('DSNASMutator', toys.ToySupernet(node_has_param=True))
    with torch.no_grad():
        for logits in mutator.arch_params.values():
            logits.copy_(torch.linspace(0, 30, len(logits)))
    mutator.on_epoch(0, max_epochs=4)
    kept = {space_id: len(mutator.kept_choices(space_id)) for space_id in mutator.arch_params}
    assert kept.pop('node') == 3
    assert set(kept.values()) == {1}


def test_a_checkpoint_brings_what_was_fixed_and_fixes_nothing_more() -> None:
    _, mutator = one_op()
    mutator.on_epoch(1, max_epochs=4)
    probabilities(mutator, 0.01, 0.97, 0.01, 0.01)
    undecided = mutator.state_dict()
    _, resumed = one_op()
    resumed.load_state_dict(undecided)
    assert (resumed.epoch, len(resumed.kept_choices('a'))) == (1, 4)
    resumed.on_epoch(2, max_epochs=4)
    assert resumed.kept_choices('a') == ('linear',)
    _, third = one_op()
    third.load_state_dict(resumed.state_dict())
    assert (third.epoch, third.kept_choices('a')) == (2, ('linear',))


@pytest.mark.parametrize('value', [0, -0.1, 1.5, float('nan')])
def test_errors(value: float) -> None:
    with pytest.raises(ConfigError, match=f'`fix_threshold` to be above 0 .* but got {value}'):
        mm.DSNASMutator(fix_threshold=value)
