"""SDARTS: what the weights are stepped under, and that it is undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, ConfigError, NonFiniteLossError
from mmrazor_mutators.extensions.perturbation import ascend
from mmrazor_mutators.functional import clip_to_simplex

BOTH = ['RandomPerturbation', 'AdversarialPerturbation']


def build(name: str = 'AdversarialPerturbation', **kwargs: Any) -> Any:
    return mm.build_extension({'type': name, **kwargs})


class Recording(nn.Module):
    """A cross entropy that remembers how it was reached."""

    def __init__(self, search: Any) -> None:
        super().__init__()
        self.search = search
        self.calls: list[dict[str, Any]] = []
        self.spoil = -1

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        mutator = self.search.mutator
        loss = nn.functional.cross_entropy(outputs, targets)
        self.calls.append(
            {
                'weights': {k: m.weights.detach().clone() for k, m in mutator.mixtures.items()},
                'paths': {k: m.paths for k, m in mutator.mixtures.items()},
                'loss': float(loss.detach()),
                'training': self.search.supernet.training,
                'of_weights': any(p.requires_grad for p in self.search.weights),
            }
        )
        return loss * torch.nan if len(self.calls) - 1 == self.spoil else loss


def make_search(
    extension: Any,
    supernet: nn.Module | None = None,
    epoch: tuple[int, int] = (5, 10),
    **kwargs: Any,
) -> Any:
    torch.manual_seed(0)
    supernet, mutator = toys.prepared(
        'DartsMutator', supernet, extensions=[extension] if extension else []
    )
    search = mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.05),
        **kwargs,
    )
    search.loss_fn = Recording(search)
    search.on_epoch(*epoch)
    search.arch_start_epoch = 100
    return search


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(12, 3, dtype=torch.float64), torch.randint(2, (12,))


def values_of(search: Any) -> dict[str, Tensor]:
    parts = (*search.supernet.state_dict().items(), *search.mutator.arch_params.items())
    return {name: value.detach().clone() for name, value in parts}


def softmax(search: Any) -> dict[str, Tensor]:
    return {k: p.detach().softmax(0) for k, p in search.mutator.arch_params.items()}


def test_epsilon_is_that_of_the_code() -> None:
    extension = build('RandomPerturbation')
    found = []
    for epoch in (0, 25, 49):
        extension.on_epoch(epoch, max_epochs=50)
        found.append(extension.epsilon)
    # In the last epoch 0.03 + 0.27 * 49 / 50, and not yet 0.3.
    assert found == pytest.approx([0.03, 0.165, 0.2946])


def test_clipping() -> None:
    values = torch.tensor([[0.5, 0.7, -0.2], [-0.3, -0.1, -0.9], [1.4, 0.2, 0.0]])
    expected = torch.tensor([[5 / 12, 7 / 12, 0], [0, 1, 0], [1 / 1.2, 0.2 / 1.2, 0]])
    assert_close(clip_to_simplex(values), expected)
    on_simplex = torch.rand(20, 5).softmax(-1)
    assert_close(clip_to_simplex(on_simplex), on_simplex)
    assert_close(clip_to_simplex(torch.tensor([-torch.inf, -1.0])), torch.tensor([0.0, 1.0]))


def test_ascent_in_closed_form() -> None:
    weights = [torch.tensor([0.4, 0.6]), torch.tensor([0.2, 0.3, 0.5])]
    slopes = [torch.tensor([3.0, -0.1]), torch.tensor([0.0, 7.0, -7.0])]
    found = ascend(lambda _: slopes, weights, weights, lambda i, w: w, 0.1, steps=7)
    # Each weight ends at the border of the ball, on the side of its slope.
    assert_close(found[0], torch.tensor([0.5, 0.5]))
    assert_close(found[1], torch.tensor([0.2, 0.4, 0.4]))
    one = ascend(lambda _: slopes, weights, weights, lambda i, w: w, 0.1, steps=4)
    assert_close(one, found)
    # A single step of 2 epsilon / 1 is cut at epsilon.
    assert_close(ascend(lambda _: slopes, weights, weights, lambda i, w: w, 0.1, 1), found)
    seen: list[Tensor] = []

    def quarter(values: Any) -> list[Tensor]:
        seen.append(values[0])
        return [slopes[0]]

    ascend(quarter, weights[:1], weights[:1], lambda i, w: w, 0.1, steps=8)
    assert_close(seen[1] - seen[0], torch.tensor([0.025, -0.025]))


def test_noise_is_uniform_on_the_softmaxed_weights(batch: Any) -> None:
    size, draws = 6, 2500
    choices = {f'c{i}': nn.Linear(3, 2) for i in range(size)}
    op = mm.DifferentiableOP(space_id='a', choices=choices)
    search = make_search(build('RandomPerturbation', epsilon_min=0.1, epsilon_max=0.1), op)
    with torch.no_grad():
        # Far from the softmax: noise on the logits would hardly be seen in the weights.
        search.mutator.arch_params['a'].copy_(torch.linspace(0, 0.05, size) + 7)
    base = search.mutator.arch_params['a'].detach().softmax(0)
    extension = search.mutator.extensions[0]
    seen = []
    for _ in range(draws):
        with extension.around_weight_step(search, batch, batch):
            given = search.mutator._scope._fixed['a'].weights
        seen.append(given)
    noisy = torch.stack(seen)
    assert_close(noisy.sum(-1), torch.ones(draws, dtype=torch.float64))
    # The sum that everything was divided by is 1 + sum of noise: the ratios show the noise.
    ratio = noisy[:, 0] / noisy[:, 1]
    low, high = (base[0] - 0.1) / (base[1] + 0.1), (base[0] + 0.1) / (base[1] - 0.1)
    assert low < ratio.min() < low * 1.2
    assert high / 1.2 < ratio.max() < high
    # With u_i uniform and 1 / (1 + s) expanded: compare with draws of numpy's kind.
    reference = base + 0.2 * torch.rand(200_000, size, dtype=torch.float64) - 0.1
    reference = reference / reference.sum(-1, keepdim=True)
    error = noisy.std(0) / draws**0.5
    assert ((noisy.mean(0) - reference.mean(0)).abs() < 4.5 * error).all()
    assert ((noisy.std(0) - reference.std(0)).abs() < 4.5 * error).all()


@pytest.mark.parametrize('name', BOTH)
def test_only_the_weight_step_is_perturbed(name: str, batch: Any) -> None:
    search = make_search(build(name))
    search.arch_start_epoch = 0
    other = torch.randn(12, 3, dtype=torch.float64), torch.randint(2, (12,))
    unperturbed = softmax(search)
    search.step(batch, other)
    calls = search.loss_fn.calls
    assert_close(calls[0]['weights'], unperturbed)  # The step of the architecture.
    moved = softmax(search)
    last = calls[-1]
    assert last['training']
    for space_id, weights in last['weights'].items():
        assert not torch.equal(weights, moved[space_id])
        assert_close(weights.sum().item(), 1.0)
        assert (weights >= 0).all()
    assert len(calls) == (2 if name == 'RandomPerturbation' else 2 + 2 + 7)
    search.supernet(batch[0])
    after = {k: m.weights.detach() for k, m in search.mutator.mixtures.items()}
    assert_close(after, softmax(search), rtol=0, atol=0)


@pytest.mark.parametrize('name', BOTH)
def test_the_step_is_that_under_the_given_weights(name: str, batch: Any) -> None:
    search = make_search(build(name))
    plain = make_search(None)
    assert_close(values_of(search), values_of(plain), rtol=0, atol=0)
    torch.manual_seed(1)
    search.step(batch)
    with plain.mutator.mixing(search.loss_fn.calls[-1]['weights']):
        plain.step(batch)
    # Weights, running statistics and logits: nothing else has left a trace.
    assert_close(values_of(search), values_of(plain), rtol=0, atol=0)
    grads = [p.grad for p in plain.supernet.parameters()]
    assert_close([p.grad for p in search.supernet.parameters()], grads, rtol=0, atol=0)
    assert all(p.grad is None for p in search.mutator.arch_params.values())
    unperturbed = make_search(None)
    unperturbed.step(batch)
    with pytest.raises(AssertionError):
        assert_close(values_of(search), values_of(unperturbed))


@pytest.mark.parametrize('epoch', [(0, 10), (9, 10)])
def test_the_attack_climbs(epoch: tuple[int, int], batch: Any) -> None:
    search = make_search(build(), epoch=epoch)
    extension = search.mutator.extensions[0]
    torch.manual_seed(2)
    search.step(batch)
    calls = search.loss_fn.calls
    assert [call['training'] for call in calls] == [False] * 9 + [True]
    assert [call['of_weights'] for call in calls] == [False] * 9 + [True]
    before, after = calls[-3], calls[-2]
    unperturbed = softmax(search)
    assert_close(before['weights'], unperturbed)
    assert after['loss'] > before['loss']
    assert_close(calls[-1]['weights'], after['weights'], rtol=0, atol=0)
    # Each pass of the ascent is worse than the start, up to the size of the last step.
    assert after['loss'] > calls[0]['loss']
    # An attack that descends is the one that a negated loss would lead to.
    down = make_search(build(), epoch=epoch)
    down.gradient = lambda loss, params, **kw: [
        g if g is None else -g for g in mm.BilevelSearch.gradient(down, loss, params, **kw)
    ]
    mixed_down: dict[str, Any] = {}
    torch.manual_seed(2)
    with down.mutator.extensions[0].around_weight_step(down, batch, None):
        mixed_down.update(down.loss_fn.calls[-1])
    assert mixed_down['loss'] < after['loss']
    assert mixed_down['loss'] < before['loss']
    for space_id, weights in after['weights'].items():
        # Before it is divided by its sum, it is in the ball.
        change = (weights - unperturbed[space_id]).abs().max()
        assert 0.2 * extension.epsilon < change < 3 * extension.epsilon


def test_an_attack_that_fails_changes_nothing(batch: Any) -> None:
    search = make_search(build())
    search.gradient = lambda loss, params, **kw: [
        g if g is None else -g for g in mm.BilevelSearch.gradient(search, loss, params, **kw)
    ]
    with search.mutator.extensions[0].around_weight_step(search, batch, None):
        search.supernet(batch[0])
    given = {k: m.weights for k, m in search.mutator.mixtures.items()}
    assert_close(given, softmax(search), rtol=0, atol=0)


class Shaken(nn.Module):
    """Something random, also in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


def test_random_state_modes_and_flags(batch: Any) -> None:
    supernet = nn.Sequential(toys.ToySupernet(), Shaken())
    search = make_search(build(), supernet)
    frozen_norm = search.supernet[0].backbone.widen.choices['norm'][1].eval()
    for flag in (True, False):
        search.supernet[0].head.weight.requires_grad_(flag)
        modes = [m.training for m in search.supernet.modules()]
        flags = [p.requires_grad for p in search.weights]
        torch.manual_seed(3)
        for weight in search.mutator.arch_params.values():
            torch.empty_like(weight).uniform_(-1, 1)  # What the random start draws.
        expected = torch.get_rng_state()
        torch.manual_seed(3)
        before = values_of(search)
        with search.mutator.extensions[0].around_weight_step(search, batch, None):
            assert_close(values_of(search), before, rtol=0, atol=0)
            assert [m.training for m in search.supernet.modules()] == modes
        assert torch.equal(torch.get_rng_state(), expected)
        assert [p.requires_grad for p in search.weights] == flags
        assert not frozen_norm.training


@pytest.mark.parametrize('name', BOTH)
@pytest.mark.parametrize('call', [0, 1, 4, 9])
def test_a_loss_that_fails_leaves_no_trace(name: str, call: int, batch: Any) -> None:
    search = make_search(build(name))
    if name == 'RandomPerturbation' and call:
        return
    before = values_of(search)
    modes = [m.training for m in search.supernet.modules()]

    class Stop(Exception):
        pass

    recording = search.loss_fn

    def spoilt(*args: Any) -> Tensor:
        if len(recording.calls) == call:
            raise Stop
        return recording(*args)

    search.loss_fn = spoilt
    with pytest.raises(Stop):
        search.step(batch)
    search.loss_fn = recording
    assert_close(values_of(search), before, rtol=0, atol=0)
    assert [m.training for m in search.supernet.modules()] == modes
    assert search.mutator._scope._fixed == {}
    search.supernet(batch[0])
    after = {k: m.weights.detach() for k, m in search.mutator.mixtures.items()}
    assert_close(after, softmax(search), rtol=0, atol=0)


def test_a_loss_that_is_nan_is_told(batch: Any) -> None:
    search = make_search(build())
    search.loss_fn.spoil = 9
    before = values_of(search)
    with pytest.raises(NonFiniteLossError, match='training loss is nan'):
        search.step(batch)
    assert_close(values_of(search), before, rtol=0, atol=0)
    assert search.mutator._scope._fixed == {}


@pytest.mark.parametrize('name', BOTH)
def test_dropped_choices_stay_at_zero(name: str, batch: Any) -> None:
    search = make_search(build(name, epsilon_min=0.9, epsilon_max=0.9))
    search.mutator.drop_choices('shared', ['linear', 'deep'])
    search.mutator.drop_choices('widen', ['none', 'norm', 'deep'])
    for _ in range(3):
        search.step(batch)
        last = search.loss_fn.calls[-1]
        assert last['weights']['shared'][[1, 3]].tolist() == [0.0, 0.0]
        assert last['weights']['shared'].sum() == 1
        assert last['paths']['shared'] == (0, 2)
        assert last['weights']['widen'].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize('name', BOTH)
def test_going_on_from_a_state(name: str, batch: Any) -> None:
    search = make_search(build(name))
    search.step(batch)
    state = search.state_dict()
    again = make_search(build(name), epoch=(0, 3))
    again.load_state_dict(state)
    again.arch_start_epoch = 100
    assert again.mutator.extensions[0].epsilon == pytest.approx(0.165)
    torch.set_rng_state(state['rng']['cpu'])
    again.step(batch)
    torch.set_rng_state(state['rng']['cpu'])
    search.step(batch)
    assert_close(values_of(again), values_of(search), rtol=0, atol=0)


class Sigmoid(mm.DartsMutator):
    def relax(self, arch_param: Tensor) -> Tensor:
        return arch_param.sigmoid()


class OwnOP(mm.DifferentiableOP):
    def compute_arch_probs(self, arch_param: Tensor) -> Tensor:
        return arch_param.softmax(-1)


class OldOP(mm.DifferentiableOP):
    def forward(self, x: Any, arch_param: Any = None) -> Tensor:  # type: ignore[override]
        return super().forward(x, arch_param)


@pytest.fixture(params=BOTH)
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    with toys.registered(Sigmoid):
        yield request.param


def test_mutators_that_do_not_fit(name: str) -> None:
    for mutator, why in [
        ('GDASMutator', 'GDASMutator draws .* and runs one path'),
        ('SNASMutator', 'SNASMutator draws .*and runs all paths'),
        ('FairDartsMutator', r'add up to 1, but those of FairDartsMutator'),
        (Sigmoid.__name__, r'add up to 1, but those of Sigmoid add up to 2\.[0-9]* for 4'),
    ]:
        supernet = toys.ToySupernet()
        built = mm.build_mutator({'type': mutator, 'extensions': [{'type': name}]})
        with pytest.raises(ConfigError, match=f'{name}.*{why}'):
            built.prepare_from_supernet(supernet)
        assert built.search_spaces == {}


@pytest.mark.parametrize('mutator', ['PCDartsMutator', 'GAEAMutator'])
def test_other_mutators_that_fit(name: str, mutator: str) -> None:
    supernet, built = toys.prepared(mutator, extensions=[{'type': name}])
    assert len(supernet.backbone.widen.choices) == 4
    assert built.extensions[0].epsilon == 0.03


def test_mutables_that_do_not_fit(name: str) -> None:
    for op, why in [(OwnOP, 'compute_arch_probs` of its own'), (OldOP, 'no argument `relax`')]:
        mutator = mm.build_mutator({'type': 'DartsMutator', 'extensions': [{'type': name}]})
        with pytest.raises(BindingError, match=f"'widen'.*{op.__name__}.*{why}"):
            mutator.prepare_from_supernet(toys.ToySupernet(op=op))


def test_single_level_is_refused(name: str, batch: Any) -> None:
    search = make_search(build(name), single_level=True)
    before = values_of(search)
    with pytest.raises(ConfigError, match=f'{name}.*single_level=True'):
        search.step(batch)
    assert_close(values_of(search), before, rtol=0, atol=0)


def test_options() -> None:
    for kwargs, message in [
        ({'epsilon_min': -0.1}, '`epsilon_min` to be at least 0, but got -0.1'),
        ({'epsilon_max': 0.01}, 'from epsilon_min=0.03 to 1, but got 0.01'),
        ({'epsilon_max': 1.5}, 'from epsilon_min=0.03 to 1, but got 1.5'),
    ]:
        for each in BOTH:
            with pytest.raises(ConfigError, match=message):
                build(each, **kwargs)
    with pytest.raises(ConfigError, match='`steps` to be at least 1, but got 0'):
        build(steps=0)
    assert build(epsilon_min=0, epsilon_max=0).epsilon == 0
