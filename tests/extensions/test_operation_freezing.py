"""OLES: gradients are compared by hand, and frozen operations stay as they are."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.extensions.operation_freezing import OperationFreezing, gradient_agreement

HYPERGRADIENTS = sorted(mm.HYPERGRADIENTS.module_dict)


def make_search(mutator: str = 'DartsMutator', seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    options = {'type': 'OperationFreezing', 'window': 3, 'ignore_choices': ()}
    options.update(kwargs.pop('options', {}))
    supernet, built = toys.prepared(mutator, extensions=[options])
    search = mm.BilevelSearch(
        supernet,
        built,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1),
        torch.optim.Adam(built.arch_params.values(), lr=0.05),
        **kwargs,
    )
    search.on_epoch(0, 5)
    return search


def batches(number: int, size: int = 8) -> list[tuple[Any, Any]]:
    def one() -> tuple[Tensor, Tensor]:
        return torch.randn(size, 3, dtype=torch.float64), torch.randint(2, (size,))

    return [(one(), one()) for _ in range(number)]


def operations(search: Any) -> dict[str, nn.Module]:
    backbone = search.supernet.backbone
    ops = {'widen/0': backbone.widen, 'shared/0': backbone.first, 'shared/1': backbone.second}
    ops.update({f'node_p{i}/0': backbone.node.choices[f'p{i}'][0] for i in range(3)})
    return {
        f'{key}/{name}': choice
        for key, op in ops.items()
        for name, choice in op.choices.items()
        if name != 'none'
    }


def naive_agreement(first: list[Tensor], other: list[Tensor]) -> float:
    of_params = []
    for a, b in zip(first, other, strict=True):
        columns = zip(a.reshape(len(a), -1).T, b.reshape(len(b), -1).T, strict=True)
        cosines = [float(x @ y / (x.norm() * y.norm()).clamp_min(1e-12)) for x, y in columns]
        of_params.append(sum(cosines) / len(cosines))
    return sum(of_params) / len(of_params)


def test_agreement() -> None:
    shapes = [(4, 3, 2, 2), (5,), (3, 1, 5, 5)]
    first = [torch.randn(s, dtype=torch.float64) for s in shapes]
    other = [torch.randn(s, dtype=torch.float64) for s in shapes]
    other[1].zero_()
    expected = naive_agreement(first, other)
    assert float(gradient_agreement(first, other)) == pytest.approx(expected, abs=1e-12)
    assert float(gradient_agreement(first, [3 * g for g in first])) == pytest.approx(1)
    assert float(gradient_agreement(first, [-g for g in first])) == pytest.approx(-1)
    scalar = torch.tensor(2.0)
    assert float(gradient_agreement([scalar], [-scalar])) == -1
    # One cosine of the whole tensor is another number.
    flat = torch.nn.functional.cosine_similarity(first[0].flatten(), other[0].flatten(), dim=0)
    assert abs(float(gradient_agreement(first[:1], other[:1]) - flat)) > 0.01


@pytest.mark.parametrize('compare', ['sum', 'validation'])
def test_sums_are_those_of_gradients_taken_by_hand(compare: str) -> None:
    search = make_search(options={'window': 100, 'compare': compare, 'threshold': -1.0})
    extension = search.mutator.extensions[0]
    expected = dict.fromkeys(operations(search), 0.0)
    for train, arch in batches(4):
        search.step(train, arch)
        twin = copy.deepcopy(search)
        loss = twin.compute_loss(arch)  # At the weights after the step.
        for key, operation in operations(twin).items():
            of_arch = torch.autograd.grad(loss, list(operation.parameters()), retain_graph=True)
            of_train = [param.grad for param in operations(search)[key].parameters()]
            if compare == 'sum':  # The authors never clear the gradient between both.
                of_arch = [train + arch for train, arch in zip(of_train, of_arch, strict=True)]
            expected[key] += naive_agreement(of_train, list(of_arch))
    found = {key: float(value) for key, value in extension._sums.items()}
    assert found == pytest.approx(expected, abs=1e-9)
    assert set(extension._counts.values()) == {4}


def test_the_comparison_leaves_no_trace() -> None:
    search = make_search(options={'threshold': -1.0})
    plain = make_search(options={'threshold': -1.0, 'interval': 1000})
    pairs = batches(6)
    for mine in (search, plain):
        mine.supernet.head = nn.Sequential(nn.Dropout(0.3), mine.supernet.head)
        torch.manual_seed(1)
        for pair in pairs:
            mine.step(*pair)
    assert_close(search.supernet.state_dict(), plain.supernet.state_dict(), rtol=0, atol=0)
    assert_close(dict(search.mutator.arch_params), dict(plain.mutator.arch_params))
    grads = [[p.grad for p in mine.supernet.parameters()] for mine in (search, plain)]
    assert_close(*grads, rtol=0, atol=0)
    assert plain.mutator.extensions[0]._counts != search.mutator.extensions[0]._counts


def means_of(pairs: list[Any]) -> dict[str, float]:
    probe = make_search(options={'threshold': -1.0, 'window': 100})
    for pair in pairs:
        probe.step(*pair)
    sums = probe.mutator.extensions[0]._sums
    return {key: float(value) / len(pairs) for key, value in sums.items()}


def test_what_falls_under_the_threshold_is_frozen_after_a_window() -> None:
    pairs = batches(7)
    means = means_of(pairs[:3])
    threshold = sorted(means.values())[len(means) // 2] - 1e-6
    expected = {key for key, mean in means.items() if mean < threshold}
    assert 0 < len(expected) < len(means)

    search = make_search(options={'threshold': threshold})
    extension = search.mutator.extensions[0]
    for pair in pairs[:2]:
        search.step(*pair)
    assert extension.frozen_operations == []
    search.step(*pairs[2])
    assert set(extension.frozen_operations) == expected
    assert extension._sums == extension._counts == {}  # All others begin anew.
    ops = operations(search)
    held = {key: copy.deepcopy(op.state_dict()) for key, op in ops.items()}
    flags = {key: {p.requires_grad for p in op.parameters()} for key, op in ops.items()}
    assert {key for key, values in flags.items() if values == {False}} == expected
    assert all(p.grad is None for key in expected for p in ops[key].parameters())
    for pair in pairs[3:5]:
        search.step(*pair)
    for key, op in ops.items():
        moved = any(not torch.equal(p, held[key][name]) for name, p in op.named_parameters())
        # Neither momentum nor weight decay goes on.
        assert moved == (key not in expected)
    assert not set(extension._sums) & expected
    # An operation with parameters of its own in another mutable of the space goes on.
    numbers = {key.rsplit('/', 1)[0] for key in expected if key.startswith('shared')}
    assert numbers


def test_an_average_begins_anew() -> None:
    search = make_search(options={'threshold': 0.0, 'window': 2})
    extension = search.mutator.extensions[0]
    agreements = [0.9, 0.5, -0.9, 0.8]
    now = {'value': 0.0}

    def compare(*_: Any) -> None:
        for key in ('widen/0/linear',):
            extension._sums[key] = extension._sums.get(key, 0) + torch.tensor(now['value'])
            extension._counts[key] = extension._counts.get(key, 0) + 1

    extension._compare = compare
    (pair,) = batches(1)
    frozen = []
    for value in agreements:
        now['value'] = value
        search.step(*pair)
        frozen.append(list(extension.frozen_operations))
    # The means are 0.7 and -0.05; the last three would have had one of -0.2 at step 3.
    assert frozen == [[], [], [], ['widen/0/linear']]


@pytest.mark.parametrize('hypergradient', HYPERGRADIENTS)
def test_hypergradients_with_frozen_operations(hypergradient: str) -> None:
    search = make_search(hypergradient=hypergradient, options={'threshold': 1.0, 'window': 1})
    pairs = batches(3)
    search.step(*pairs[0])
    ops = operations(search)
    assert set(search.mutator.extensions[0].frozen_operations) == set(ops)
    before = {key: copy.deepcopy(op.state_dict()) for key, op in ops.items()}
    alphas = {k: p.detach().clone() for k, p in search.mutator.arch_params.items()}
    for pair in pairs[1:]:
        search.step(*pair)
    for key, op in ops.items():
        for name, param in op.named_parameters():
            assert not param.requires_grad
            assert torch.equal(param, before[key][name])
    for space_id, logits in search.mutator.arch_params.items():
        assert not torch.equal(logits, alphas[space_id])


def test_a_hypergradient_that_knows_nothing_of_frozen_ones() -> None:
    """Freezing is the same as a weight optimizer that does not hold the operation."""
    search = make_search(hypergradient='exact')
    (pair,) = batches(1)
    found = []
    for _ in range(2):
        found.append(search.hypergradient(search, *pair).grads)
        for param in search.supernet.backbone.widen.choices['deep'].parameters():
            param.requires_grad_(False)
    rest = [p for p in search.supernet.parameters() if p.requires_grad]
    other = mm.BilevelSearch(
        search.supernet,
        search.mutator,
        search.loss_fn,
        torch.optim.SGD(rest, lr=0.1, momentum=0.9, weight_decay=0.1),
        search.arch_optimizer,
        'exact',
    )
    expected = other.hypergradient(other, *pair).grads
    assert_close(found[1], expected)
    with pytest.raises(AssertionError):
        assert_close(found[0], expected)


def test_states() -> None:
    pairs = batches(8)
    threshold = sorted(means_of(pairs[:3]).values())[3] - 1e-6
    search = make_search(options={'threshold': threshold})
    for pair in pairs[:4]:
        search.step(*pair)
    extension = search.mutator.extensions[0]
    assert extension.frozen_operations
    assert set(extension._counts.values()) == {1}
    again = make_search(seed=5, options={'threshold': threshold})
    again.load_state_dict(search.state_dict())
    key = extension.frozen_operations[0]
    assert not any(p.requires_grad for p in operations(again)[key].parameters())
    for mine in (search, again):
        for pair in pairs[4:]:
            mine.step(*pair)
    assert_close(again.supernet.state_dict(), search.supernet.state_dict(), rtol=0, atol=0)
    assert extension.get_extra_state() == again.mutator.extensions[0].get_extra_state()
    # A state may come before the supernet does, and may unfreeze as well.
    mutator = toys.build_mutator('DartsMutator', extensions=[{'type': 'OperationFreezing'}])
    mutator.extensions[0].set_extra_state(extension.get_extra_state())
    supernet = toys.ToySupernet()
    mutator.prepare_from_supernet(supernet)
    frozen = {name for name, p in supernet.named_parameters() if not p.requires_grad}
    assert frozen
    fresh = toys.build_mutator('DartsMutator', extensions=[{'type': 'OperationFreezing'}])
    mutator.extensions[0].set_extra_state(fresh.extensions[0].get_extra_state())
    assert all(p.requires_grad for p in supernet.parameters())


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(duplicate: Any) -> None:
    search = make_search(options={'threshold': 1.0, 'window': 1})
    (pair,) = batches(1)
    search.step(*pair)
    supernet, mutator = duplicate((search.supernet, search.mutator))
    mutator.release(supernet)
    assert all(p.requires_grad for p in supernet.parameters())
    assert not all(p.requires_grad for p in search.supernet.parameters())


@pytest.mark.parametrize('way', ['release', 'deploy_subnet'])
def test_releasing(way: str) -> None:
    search = make_search(options={'threshold': 1.0, 'window': 1})
    bias = search.supernet.backbone.widen.choices['linear'].bias
    (pair,) = batches(1)
    search.mutator.release(search.supernet)
    bias.requires_grad_(False)  # Not ours to change.
    search.mutator.prepare_from_supernet(search.supernet)
    search.step(*pair)
    assert search.mutator.extensions[0].frozen_operations
    subnet = search.mutator.search_subnet()
    subnet['widen']['chosen'] = ['linear']
    arguments = (search.supernet, subnet)[: 1 if way == 'release' else 2]
    getattr(search.mutator, way)(*arguments)
    held = {name for name, p in search.supernet.named_parameters() if not p.requires_grad}
    assert held == {'backbone.widen.choices.linear.bias'}


def test_what_is_never_frozen() -> None:
    search = make_search(options={'threshold': 1.0, 'window': 1, 'ignore_choices': ('norm',)})
    (pair,) = batches(1)
    search.step(*pair)
    frozen = search.mutator.extensions[0].frozen_operations
    assert set(frozen) == {key for key in operations(search) if not key.endswith('norm')}
    assert search.supernet.head.weight.requires_grad
    assert mm.build_extension({'type': 'OperationFreezing'}).ignore_choices == ('skip_connect',)


def test_only_what_ran_is_compared() -> None:
    search = make_search('GDASMutator', options={'window': 1000})
    for pair in batches(12):
        search.step(*pair)
    counts = search.mutator.extensions[0]._counts
    assert min(counts.values()) > 0
    assert max(counts.values()) < 12
    assert search.mutator.extensions[0].frozen_operations == []


def test_interval_and_steps_without_an_arch_batch() -> None:
    search = make_search(options={'interval': 2, 'window': 100})
    for pair in batches(5):
        search.step(*pair)
    assert set(search.mutator.extensions[0]._counts.values()) == {3}
    search.arch_start_epoch = 10
    search.step(batches(1)[0][0])
    assert set(search.mutator.extensions[0]._counts.values()) == {3}


def test_errors() -> None:
    for name, value, message in [
        ('threshold', 1.5, 'from -1 to 1, but got 1.5'),
        ('window', 0, 'an int of at least 1, but got 0'),
        ('interval', 1.5, 'an int of at least 1, but got 1.5'),
        ('ignore_choices', 'skip', "a list of names, but got 'skip'"),
    ]:
        with pytest.raises(ConfigError, match=f'`{name}` to be {message}'):
            mm.build_extension({'type': 'OperationFreezing', name: value})
    search = make_search(single_level=True)
    with pytest.raises(ConfigError, match=r'OperationFreezing .* single_level=True'):
        search.step(*batches(1)[0])


def test_each_measure_has_a_threshold_of_its_own() -> None:
    assert OperationFreezing().threshold == 0.4
    assert OperationFreezing(compare='validation').threshold == 0.0
    assert OperationFreezing(threshold=0.1).threshold == 0.1
    with pytest.raises(ConfigError, match=r"one of \('sum', 'validation'\), but got 'val'"):
        OperationFreezing(compare='val')  # type: ignore[arg-type]


def test_unrelated_gradients_freeze_by_one_measure_alone() -> None:
    """The cosine with the sum of two orthogonal gradients of one length is 0.7."""
    first, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert float(gradient_agreement([first], [other])) == 0
    assert float(gradient_agreement([first], [first + other])) == pytest.approx(0.5**0.5)
