"""DARTS-PT: what is kept is what the supernet misses most."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, InputError

Batch = tuple[Tensor, Tensor]


def make_search(
    supernet: nn.Module | None = None, seed: int = 0, mutator: Any = None, **kwargs: Any
) -> Any:
    torch.manual_seed(seed)
    extension = {'type': 'PerturbationSelection', 'tune_epochs': 1, **kwargs}
    supernet, built = toys.prepared(
        'DartsMutator', supernet, extensions=[extension], **(mutator or {})
    )
    return mm.BilevelSearch(
        supernet,
        built,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9),
        torch.optim.Adam(built.arch_params.values(), lr=0.05),
    )


def batches(number: int = 3, size: int = 10) -> list[Batch]:
    return [
        (torch.randn(size, 3, dtype=torch.float64), torch.randint(2, (size,)))
        for _ in range(number)
    ]


def selection(search: Any) -> Any:
    return search.mutator.extensions[0]


def loss_without(search: Any, given: dict[str, Tensor], arch: list[Batch]) -> float:
    """Evaluate mixtures that are written down, in training mode, on a twin."""
    total, count = 0.0, 0
    kept = {k: v.clone() for k, v in search.supernet.state_dict().items()}
    mixtures = {k: toys.Mixture(v) for k, v in given.items()}
    with torch.no_grad():
        for x, y in arch:
            out = toys.naive_forward(search.supernet.train(), x, mixtures)
            total += float(nn.functional.cross_entropy(out, y)) * len(y)
            count += len(y)
    search.supernet.load_state_dict(kept)
    return total / count


def softmax(search: Any) -> dict[str, Tensor]:
    return {k: p.detach().softmax(0) for k, p in search.mutator.arch_params.items()}


@pytest.mark.parametrize('metric', ['loss', 'accuracy'])
def test_badness(metric: str) -> None:
    search, arch = make_search(metric=metric), [*batches(), *batches(1, size=3)]
    before = {k: v.clone() for k, v in search.supernet.state_dict().items()}
    found = selection(search).badness(search, arch)
    assert_close(search.supernet.state_dict(), before, rtol=0, atol=0)
    if metric == 'loss':
        assert found == pytest.approx(loss_without(search, softmax(search), arch))
        return
    wrong = 0
    with torch.no_grad():
        for x, y in arch:
            wrong += int((search.supernet.train()(x).argmax(1) != y).sum())
    assert 0 < wrong < 33
    assert found == pytest.approx(wrong / 33)


@pytest.mark.parametrize('space_id', ['widen', 'shared', 'node_p1'])
def test_the_operation_that_hurts_most_is_kept(space_id: str) -> None:
    search, arch = make_search(metric='loss'), batches()
    base = softmax(search)
    harm = {}
    for index, name in enumerate(('none', 'linear', 'norm', 'deep')):
        less = base[space_id].clone()
        less[index] = 0.0
        harm[name] = loss_without(search, {**base, space_id: less}, arch)
        assert less.sum() < 1  # The others are not scaled up.
    renormalised = {}
    for index, name in enumerate(harm):
        less = base[space_id].clone()
        less[index] = 0.0
        given = {**base, space_id: less / less.sum()}
        renormalised[name] = loss_without(search, given, arch)
    seen = {}
    badness = selection(search).badness

    def spy(search: Any, batches: Any) -> float:
        value = badness(search, batches)
        seen[len(seen)] = value
        return value

    selection(search).badness = spy
    before = {k: v.clone() for k, v in search.supernet.state_dict().items()}
    selection(search)._decide(search, space_id, arch)
    assert list(seen.values()) == pytest.approx([harm[n] for n in ('linear', 'norm', 'deep')])
    assert renormalised != pytest.approx(harm)
    best = max(('linear', 'norm', 'deep'), key=lambda name: harm[name])
    assert search.mutator.kept_choices(space_id) == (best,)
    assert_close(search.supernet.state_dict(), before, rtol=0, atol=0)
    assert search.mutator._scope._fixed == {}
    least = min(('linear', 'norm', 'deep'), key=lambda name: harm[name])
    assert least != best


def test_the_inputs_that_hurt_most_are_kept() -> None:
    search, arch = make_search(metric='loss'), batches()
    base = softmax(search)
    harm = {}
    for name in ('p0', 'p1', 'p2'):
        nothing = {f'node_{name}': torch.zeros(4, dtype=torch.float64)}
        harm[name] = loss_without(search, {**base, **nothing}, arch)
    masks = search.supernet.backbone.node.choice_mask
    selection(search)._decide(search, 'node', arch)
    best = sorted(harm, key=lambda name: -harm[name])[:2]
    assert set(search.mutator.kept_choices('node')) == set(best)
    assert masks.tolist() == [True] * 3
    assert set(search.supernet.backbone.node.active_names) == set(best)


def test_inputs_with_weights_of_their_own() -> None:
    supernet = toys.ToySupernet(node_has_param=True)
    search, arch = make_search(supernet, metric='loss'), batches()
    base = softmax(search)
    harm = {}
    for index, name in enumerate(('p0', 'p1', 'p2')):
        less = base['node'].clone()
        less[index] = 0.0
        harm[name] = loss_without(search, {**base, 'node': less}, arch)
    selection(search)._decide(search, 'node', arch)
    best = sorted(harm, key=lambda name: -harm[name])[:2]
    assert set(search.mutator.kept_choices('node')) == set(best)


def test_the_whole_selection() -> None:
    search = make_search(spaces_per_round=2)
    train, arch = batches(2), batches(2)
    decided, steps = [], []
    decide, step = selection(search)._decide, search.step
    rates = []

    def spy_decide(mine: Any, space_id: str, batches: Any) -> None:
        decided.append((space_id, len(steps)))
        decide(mine, space_id, batches)

    def spy_step(*pair: Any) -> Any:
        steps.append(pair)
        rates.append(search.weight_optimizer.param_groups[0]['lr'])
        return step(*pair)

    selection(search)._decide, search.step = spy_decide, spy_step
    search.step(train[0], arch[0])
    assert search.weight_optimizer.state
    state = torch.get_rng_state()
    search.finish(train, arch)
    assert torch.equal(torch.get_rng_state(), state)
    spaces = ['widen', 'shared', 'node_p0', 'node_p1', 'node_p2']
    random.Random(0).shuffle(spaces)
    # Two at a time, then an epoch of two steps; the node comes by itself, and last.
    expected = [*zip(spaces, [1, 1, 3, 3, 5], strict=True), ('node', 7)]
    assert decided == expected
    assert [pair[0] is train[i % 2] for i, pair in enumerate(steps[1:])] == [True] * 6
    assert [pair[1] is arch[i % 2] for i, pair in enumerate(steps[1:])] == [True] * 6
    assert rates[1:] == pytest.approx([0.01] * 6)
    assert search.weight_optimizer.param_groups[0]['lr'] == 0.1
    found = search.mutator.search_subnet()
    for space_id, choice in found.items():
        assert set(choice['chosen']) == set(search.mutator.kept_choices(space_id))
        assert 'none' not in choice['chosen']
    calls = len(steps)
    search.finish(train, arch)  # Nothing is left to decide.
    assert len(steps) == calls
    assert search.mutator.search_subnet() == found


def test_the_choice_may_differ_from_the_largest_weight() -> None:
    """An operation that does nothing loses, however much it weighs."""

    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.0 * x

    torch.manual_seed(1)
    choices = {'nothing': Nothing(), 'good': nn.Linear(3, 3)}
    op = mm.DifferentiableOP(space_id='a', choices=choices)
    search = make_search(op, tune_epochs=0)
    x = torch.randn(40, 3, dtype=torch.float64)
    with torch.no_grad():
        search.mutator.arch_params['a'].copy_(torch.tensor([4.0, 0.0]))
        targets = choices['good'](x).argmax(1)
    assert search.mutator.search_subnet()['a']['chosen'] == ['nothing']
    search.finish([(x, targets)], [(x, targets)])
    assert search.mutator.search_subnet()['a']['chosen'] == ['good']


def test_ignored_choices_cannot_win() -> None:
    class Wrong(nn.Linear):
        pass

    choices = {'none': nn.Linear(3, 3), 'wrong': Wrong(3, 3)}
    x = torch.randn(40, 3, dtype=torch.float64)
    for ignored, expected in [(('none',), 'wrong'), ((), 'none')]:
        op = mm.DifferentiableOP(space_id='a', choices=choices)
        search = make_search(op, tune_epochs=0, mutator={'ignore_choices': ignored})
        with torch.no_grad():
            search.mutator.arch_params['a'].zero_()
            targets = choices['none'](x).argmax(1)
            choices['wrong'].weight.copy_(-0.01 * choices['none'].weight)
            choices['wrong'].bias.copy_(-0.01 * choices['none'].bias)
        passes = []
        badness = selection(search).badness
        selection(search).badness = lambda *xs, b=badness, p=passes: p.append(1) or b(*xs)
        search.finish([(x, targets)], [(x, targets)])
        assert search.mutator.search_subnet()['a']['chosen'] == [expected]
        assert len(passes) == (0 if ignored else 2)  # One alone needs no comparison.


class Shaky(nn.Module):
    """The wrapped network with dropout behind, and a count of its passes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append((self.training, torch.is_grad_enabled()))
        return nn.functional.dropout(self.net(x), 0.3, self.training)


def test_mode_and_draws() -> None:
    search = make_search(Shaky(toys.ToySupernet()), tune_epochs=0)
    search.supernet.eval()
    seen: list[Tensor] = []
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.randn(20, 3).double(), torch.randint(2, (20,))),
        batch_size=5,
        shuffle=True,
    )
    badness = selection(search).badness

    def spy(search: Any, batches: Any) -> float:
        seen.append(torch.get_rng_state())
        return badness(search, batches)

    selection(search).badness = spy
    state = torch.get_rng_state()
    search.finish(loader, loader)
    # Each choice sees the same order of images and the same dropout.
    assert len(seen) == 5 * 3 + 3
    assert all(torch.equal(s, seen[0]) for s in seen)
    assert torch.equal(torch.get_rng_state(), state)
    # Batch statistics, as in the authors' code; and all is as before afterwards.
    assert set(search.supernet.modes) == {(True, False)}
    assert not any(module.training for module in search.supernet.modules())


@pytest.mark.parametrize('tune_architecture', [True, False])
def test_what_is_tuned(tune_architecture: bool) -> None:
    search = make_search(tune_architecture=tune_architecture, tune_epochs=2, seed=3)
    before = {k: p.detach().clone() for k, p in search.mutator.arch_params.items()}
    head = search.supernet.head.weight.detach().clone()
    search.finish(batches(2), batches(3))
    moved = {k for k, p in search.mutator.arch_params.items() if not torch.equal(p, before[k])}
    assert bool(moved) == tune_architecture
    assert not torch.equal(search.supernet.head.weight, head)
    assert search.iteration == (5 * 2 * 2 if tune_architecture else 0)


def test_the_initial_rate_is_that_of_the_schedule() -> None:
    search = make_search()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(search.weight_optimizer, 2)
    search.step(batches(1)[0], batches(1)[0])
    scheduler.step()
    (group,) = search.weight_optimizer.param_groups
    rate = group['lr']
    assert rate == pytest.approx(0.05)
    with selection(search)._fresh_optimizer(search):
        assert group['lr'] == pytest.approx(0.01)
        assert not search.weight_optimizer.state
    assert group['lr'] == rate


def test_order() -> None:
    mutator = make_search().mutator
    given = ['widen', 'shared', 'node_p0', 'node_p1', 'node_p2']
    build = mm.build_extension
    extension = build({'type': 'PerturbationSelection', 'order': 'given'})
    assert extension.spaces_to_decide(mutator) == (given, ['node'])
    orders = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed + 10)
        random.seed(seed + 10)
        extension = build({'type': 'PerturbationSelection', 'seed': seed})
        orders.append(extension.spaces_to_decide(mutator)[0])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == sorted(given)
    mutator.drop_choices('widen', ['none', 'norm', 'deep'])
    assert 'widen' not in extension.spaces_to_decide(mutator)[0]


def test_a_failure_leaves_masks_and_rates() -> None:
    search = make_search()
    modes = [m.training for m in search.supernet.modules()]

    def fail(*_: Any) -> float:
        assert not search.supernet.backbone.node.choice_mask.all()
        raise KeyboardInterrupt

    selection(search).badness = fail
    with pytest.raises(KeyboardInterrupt):
        selection(search)._decide(search, 'node', batches())
    assert search.supernet.backbone.node.choice_mask.all()
    assert search.supernet.backbone.node.active_names == ('p0', 'p1', 'p2')

    def fail_at_once(*_: Any) -> float:
        raise KeyboardInterrupt

    selection(search).badness = fail_at_once
    with pytest.raises(KeyboardInterrupt):
        search.finish(batches(), batches())
    assert search.weight_optimizer.param_groups[0]['lr'] == 0.1
    assert [m.training for m in search.supernet.modules()] == modes
    assert search.mutator._scope._fixed == {}


def test_states_keep_what_was_decided() -> None:
    search = make_search()
    search.finish(batches(1), batches(1))
    again = make_search(seed=8)
    again.load_state_dict(search.state_dict())
    assert again.mutator.search_subnet() == search.mutator.search_subnet()


def test_errors() -> None:
    for name, value, message in [
        ('tune_epochs', -1, 'an int of at least 0, but got -1'),
        ('spaces_per_round', 0, 'an int of at least 1, but got 0'),
        ('order', 'rondom', "'random' or 'given', but got 'rondom'"),
        ('metric', 'f1', "'accuracy' or 'loss', but got 'f1'"),
        ('lr_factor', 0, 'above 0, but got 0'),
    ]:
        with pytest.raises(ConfigError, match=f'`{name}` to be {message}'):
            mm.build_extension({'type': 'PerturbationSelection', name: value})
    with pytest.raises(ConfigError, match=r'PerturbationSelection.*GDASMutator draws'):
        toys.prepared('GDASMutator', extensions=[{'type': 'PerturbationSelection'}])
    search = make_search()
    with pytest.raises(InputError, match='expected `arch_batches`, but got None'):
        search.finish(batches(), None)
    with pytest.raises(InputError, match='`arch_batches` to yield batches, but got none'):
        search.finish(batches(), [])
    x = batches(1)[0][0]
    for targets in (torch.rand(10, 2), torch.rand(10), 'a' * 10):
        with pytest.raises(InputError, match=r"metric='accuracy' needs .* use metric='loss'"):
            make_search().finish([(x, targets)], [(x, targets)])
    assert search.mutator.kept_choices('widen') == ('none', 'linear', 'norm', 'deep')
