"""Every hypergradient against naive code on real supernets, in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive_hypergradients import NAIVE, Problem
from torch import Tensor, nn
from torch.func import functional_call
from torch.testing import assert_close
from toy_searches import ToySupernet, toy_batches, toy_search

import mmrazor_mutators as mm
from mmrazor_mutators.search.guards import get_rng_state

# The naive Hessian products are differences of gradients.
TOLERANCE = {
    'first_order': {'rtol': 1e-12, 'atol': 1e-12},
    'exact': {'rtol': 1e-11, 'atol': 1e-12},
    'finite_difference': {'rtol': 1e-9, 'atol': 1e-10},
    'neumann': {'rtol': 1e-6, 'atol': 1e-9},
    'cg': {'rtol': 1e-5, 'atol': 1e-7},
}


def assert_same_gradients(
    actual: list[Tensor], expected: list[Tensor], **tolerance: float
) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, **tolerance)


@pytest.mark.parametrize('steps_before', [0, 2])
@pytest.mark.parametrize('name', NAIVE)
def test_toy_supernet(name: str, steps_before: int) -> None:
    options: dict[str, Any] = {'cg': {'num_iterations': 3, 'damping': 2.0}}.get(name, {})
    search = toy_search({'type': name, **options})
    train_batch, arch_batch, other = toy_batches(3)
    for _ in range(steps_before):  # Fills the momentum buffers.
        search.step(other, train_batch)
    result = search.hypergradient(search, train_batch, arch_batch)
    problem = Problem(search, train_batch, arch_batch)
    assert_same_gradients(result.grads, NAIVE[name](problem, **options), **TOLERANCE[name])
    # The check would be blind if the indirect part were negligible.
    if name != 'first_order':
        first_order = NAIVE['first_order'](problem)
        assert (
            max((r - f).abs().max() for r, f in zip(result.grads, first_order, strict=True))
            > 1e-4
        )


@pytest.mark.parametrize('optimizer', [torch.optim.Adam, torch.optim.RMSprop])
def test_exact_through_an_adaptive_step(optimizer: Any) -> None:
    """Against central differences of the composition, with the optimizer's own step."""
    search = toy_search('exact', weight_optimizer=optimizer, options={'lr': 0.02, 'eps': 1e-3})
    train_batch, arch_batch, other = toy_batches(3)
    search.step(other, other)
    result = search.hypergradient(search, train_batch, arch_batch)
    problem = Problem(search, train_batch, arch_batch)
    for arch_param, grad in zip(problem.alphas, result.grads, strict=True):
        for i in range(arch_param.numel()):
            sides = []
            for shift in (1e-5, -1e-5):
                with torch.no_grad():
                    arch_param[i] += shift
                sides.append(problem.arch_loss(_really_stepped(search, problem)))
                with torch.no_grad():
                    arch_param[i] -= shift
            slope = (sides[0] - sides[1]).detach() / 2e-5
            assert_close(grad[i], slope, rtol=1e-5, atol=1e-7)


def _really_stepped(search: Any, problem: Problem) -> list[Tensor]:
    """Return the weights after the optimizer's step, and put everything back."""
    before = [weight.detach().clone() for weight in problem.weights]
    state = {
        k: {n: v.clone() for n, v in s.items()}
        for k, s in search.weight_optimizer.state.items()
    }
    for weight, grad in zip(
        problem.weights, problem.train_gradient(problem.weights), strict=True
    ):
        weight.grad = grad.clone()
    search.weight_optimizer.step()
    after = [weight.detach().clone() for weight in problem.weights]
    with torch.no_grad():
        for weight, value in zip(problem.weights, before, strict=True):
            weight.copy_(value)
    search.weight_optimizer.state.update(state)
    return after


@pytest.mark.parametrize(
    'architecture',
    [
        {'type': 'NasBench201Supernet', 'num_cells': 1, 'base_channels': 2},
        {'type': 'DartsSupernet', 'num_layers': 3, 'num_nodes': 2, 'base_channels': 2},
    ],
    ids=lambda cfg: cfg['type'],
)
def test_exact_on_real_supernets(architecture: dict[str, Any]) -> None:
    supernet = mm.build_architecture({**architecture, 'in_channels': 2, 'num_classes': 3})
    search = toy_search('exact', supernet=supernet)
    train_batch, arch_batch = [
        (torch.randn(3, 2, 8, 8).double(), torch.randint(3, (3,))) for _ in range(2)
    ]
    result = search.hypergradient(search, train_batch, arch_batch)
    expected = NAIVE['exact'](Problem(search, train_batch, arch_batch))
    assert_same_gradients(result.grads, expected, rtol=1e-8, atol=1e-10)


class RecordingDropout(nn.Module):
    """Dropout that remembers its masks, and then can be told which ones to use."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Tensor] = []
        self.given: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.given is not None:
            return x * self.given
        self.drawn.append(torch.bernoulli(torch.full_like(x, 0.6)) / 0.6)
        return x * self.drawn[-1]


class RecordingSNAS(mm.SNASMutator):
    """SNAS that remembers its weights, one dict for each forward pass."""

    def __init__(self) -> None:
        super().__init__(tau_max=0.7)
        self.drawn: list[dict[str, Tensor]] = []

    def relax_spaces(self) -> Any:
        mixtures = super().relax_spaces()
        self.drawn.append({key: mixture.weights.detach() for key, mixture in mixtures.items()})
        return mixtures


def stochastic_search(name: str) -> Any:
    supernet = ToySupernet()
    supernet.drop = RecordingDropout()
    return toy_search(name, mutator=RecordingSNAS(), supernet=supernet)


@pytest.mark.parametrize('name', ['exact', 'finite_difference'])
def test_all_training_passes_see_the_same_draws(name: str) -> None:
    search = stochastic_search(name)
    train_batch, arch_batch = toy_batches()
    search.hypergradient(search, train_batch, arch_batch)
    masks, weights = search.supernet.drop.drawn, search.mutator.drawn
    assert len(masks) == len(weights) == {'exact': 3, 'finite_difference': 4}[name]
    for mask, mixed in zip(masks[2:], weights[2:], strict=True):
        assert mask.equal(masks[0])
        assert all(mixed[space].equal(weights[0][space]) for space in mixed)
    # The architecture pass has draws of its own.
    assert not masks[1].equal(masks[0])
    assert not any(weights[1][space].equal(weights[0][space]) for space in weights[0])


@pytest.mark.parametrize('name', ['first_order', 'exact', 'finite_difference', 'neumann'])
def test_stochastic_supernet_with_its_noise_fixed(name: str) -> None:
    """The derivative is that of two functions without any randomness left in them."""
    search = stochastic_search(name)
    train_batch, arch_batch = toy_batches()
    result = search.hypergradient(search, train_batch, arch_batch)
    supernet, mutator = search.supernet, search.mutator
    masks, weights = list(supernet.drop.drawn), list(mutator.drawn)
    arch_pass = 1 if name in ('exact', 'finite_difference') else 0
    train_pass = 1 - arch_pass

    class FixedNoise(Problem):
        def _loss(self, params: list[Tensor], batch: Any) -> Tensor:
            number = arch_pass if batch is self.arch_batch else train_pass
            supernet.drop.given = masks[number]
            mixed = {}
            for space, alpha in mutator.arch_params.items():
                # From softmax((alpha + G) / tau), the noise up to a constant.
                noise = 0.7 * weights[number][space].log() - alpha.detach()
                mixed[space] = ((alpha + noise) / 0.7).softmax(-1)
            with mutator.mixing(mixed):
                return super()._loss(params, batch)

    expected = NAIVE[name](FixedNoise(search, train_batch, arch_batch))
    tolerance = (
        {'rtol': 1e-5, 'atol': 1e-8} if name == 'neumann' else {'rtol': 1e-8, 'atol': 1e-9}
    )
    assert_same_gradients(result.grads, expected, **tolerance)


@pytest.mark.parametrize('name', NAIVE)
def test_the_random_stream_goes_on_as_if_each_batch_was_seen_once(name: str) -> None:
    """Replayed passes take nothing from the stream."""
    search = stochastic_search(name)
    train_batch, arch_batch = toy_batches()
    start = get_rng_state()['cpu']
    search.hypergradient(search, train_batch, arch_batch)
    after = get_rng_state()['cpu']
    torch.set_rng_state(start)
    for batch in [arch_batch] if name == 'first_order' else [train_batch, arch_batch]:
        search.supernet(batch[0])
    assert after.equal(get_rng_state()['cpu'])


def test_arch_params_are_out_of_reach_of_functional_call() -> None:
    """Why the naive code differentiates the parameters themselves, or mixes from outside."""
    search = toy_search()
    (images, _), *_ = toy_batches()
    weights = {key: torch.rand_like(p) for key, p in search.mutator.arch_params.items()}
    params = dict(search.supernet.named_parameters())
    assert not any(p is q for p in params.values() for q in search.mutator.arch_params.values())
    search.supernet.eval()
    plain = functional_call(search.supernet, params, (images,))
    with search.mutator.mixing(weights):
        mixed = functional_call(search.supernet, params, (images,))
    assert (plain - mixed).abs().max() > 1e-3
