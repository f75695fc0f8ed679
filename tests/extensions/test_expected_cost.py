"""ExpectedCost: the sum over spaces, the losses, and tables that cannot be used."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
import toys
import yaml
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, ConfigError, InputError
from mmrazor_mutators.extensions import ExpectedCost
from mmrazor_mutators.functional import expected_cost

COSTS = {'none': 0.0, 'linear': 2, 'norm': 30, 'deep': 7.5}
OPTIONS: dict[str, dict[str, float]] = {
    'linear': {'ref': 40.0},
    'log_product': {'ref': 40.0},
    'fbnet': {},
    'fbnet_sum': {},
}
forms = pytest.mark.parametrize('form', OPTIONS)


def prepared(mutator: str = 'DartsMutator', costs: Any = COSTS, **options: Any) -> Any:
    """Return a supernet, its mutator, and the extension."""
    options = {'ref': 40.0, **options} if 'form' not in options else options
    ignored = options.pop('mutator_options', {})
    extension = {'type': 'ExpectedCost', 'costs': costs, **options}
    supernet, built = toys.prepared(mutator, extensions=[extension], **ignored)
    return supernet, built, built.extensions[0]


def softmax(logits: Tensor) -> list[float]:
    powers = [math.exp(v) for v in logits.tolist()]
    return [power / sum(powers) for power in powers]


def naive_expected(mutator: Any) -> float:
    """Add up the mutables of the toy supernet one by one."""
    total = 0.0
    for space_id in ('widen', 'shared', 'shared', 'node_p0', 'node_p1', 'node_p2'):
        p = softmax(mutator.arch_params[space_id])
        for probability, cost in zip(p, COSTS.values(), strict=True):
            total += probability * cost
    return total


def by_hand(form: str, loss: float, cost: float) -> float:
    return {
        'linear': loss + 0.1 * (cost - 40) / 40,
        'log_product': loss * 0.2 * (math.log(cost) / math.log(40)) ** 0.3,
        'fbnet': loss * 0.2 * math.log(cost) ** 0.6,
        'fbnet_sum': loss + 0.2 * math.log(cost) ** 0.6,
    }[form]


def test_pure_function() -> None:
    weights, costs = torch.rand(3, 5, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    result = expected_cost(weights, costs)
    for row in range(3):
        products = [float(weights[row, i]) * float(costs[i]) for i in range(5)]
        assert float(result[row]) == pytest.approx(sum(products), rel=1e-12)


@forms
def test_loss_and_its_gradient(form: str) -> None:
    _, mutator, extension = prepared(form=form, **OPTIONS[form])
    cost = naive_expected(mutator)
    assert float(extension.expected(mutator).detach()) == pytest.approx(cost, rel=1e-12)
    loss = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    objective = mutator.arch_objective(loss)
    assert float(objective.detach()) == pytest.approx(by_hand(form, 1.7, cost), rel=1e-12)
    grads = torch.autograd.grad(objective, [loss, *mutator.arch_params.values()])
    slope = by_hand(form, 2.7, cost) - by_hand(form, 1.7, cost)
    assert float(grads[0]) == pytest.approx(slope, rel=1e-9)
    # By central differences: a penalty made with .item() would show nothing.
    step = 1e-6
    for logits, gradient in zip(mutator.arch_params.values(), grads[1:], strict=True):
        assert gradient.abs().max() > 1e-4
        for i in range(len(logits)):
            sides = []
            for sign in (1, -1):
                with torch.no_grad():
                    logits[i] += sign * step
                    sides.append(by_hand(form, 1.7, naive_expected(mutator)))
                    logits[i] -= sign * step
            difference = (sides[0] - sides[1]) / (2 * step)
            assert float(gradient[i]) == pytest.approx(difference, abs=1e-7)


@pytest.mark.parametrize(
    ('form', 'options', 'expected'),
    [
        ('linear', {'ref': 50, 'lam': 2}, lambda e: 3 + 2 * (e - 50) / 50),
        (
            'log_product',
            {'ref': 9, 'alpha': 1, 'beta': 2},
            lambda e: 3 * math.log(e, 9) ** 2,
        ),
        ('fbnet', {'alpha': 0.5, 'beta': 1}, lambda e: 3 * 0.5 * math.log(e)),
        ('fbnet_sum', {'alpha': 0.5, 'beta': 2}, lambda e: 3 + 0.5 * math.log(e) ** 2),
    ],
)
def test_options(form: str, options: dict[str, float], expected: Any) -> None:
    _, mutator, _ = prepared(form=form, **options)
    objective = mutator.arch_objective(torch.tensor(3.0, dtype=torch.float64))
    assert float(objective.detach()) == pytest.approx(expected(naive_expected(mutator)))


def test_a_table_for_each_space() -> None:
    spaces = ('widen', 'shared', 'node_p0', 'node_p1', 'node_p2')
    table = {
        space_id: {name: (k + 1) * cost + k for name, cost in COSTS.items()}
        for k, space_id in enumerate(spaces)
    }
    given = copy.deepcopy(table)
    _, mutator, extension = prepared(costs={**table, 'elsewhere': {'op': 3}})
    total = 0.0
    for space_id, times in zip(spaces, (1, 2, 1, 1, 1), strict=True):
        p = softmax(mutator.arch_params[space_id])
        of_space = [table[space_id][name] for name in COSTS]
        total += times * sum(a * b for a, b in zip(p, of_space, strict=True))
    assert float(extension.expected(mutator).detach()) == pytest.approx(total, rel=1e-12)
    assert table == given


@pytest.mark.parametrize('nested', [False, True])
def test_a_file(nested: bool, tmp_path: Any) -> None:
    path = tmp_path / 'costs.yaml'
    table: Any = COSTS
    if nested:
        table = dict.fromkeys(('widen', 'shared', *(f'node_p{i}' for i in range(3))), COSTS)
    path.write_text(yaml.safe_dump(table))
    for given in (path, str(path)):
        _, mutator, extension = prepared(costs=given)
        assert float(extension.expected(mutator).detach()) == pytest.approx(
            naive_expected(mutator)
        )


def test_dropped_choices_cost_nothing() -> None:
    _, mutator, extension = prepared()
    before = float(extension.expected(mutator).detach())
    old = softmax(mutator.arch_params['widen'])
    mutator.drop_choices('widen', ['norm'])
    p = softmax(mutator.arch_params['widen'][[0, 1, 3]])
    values = list(COSTS.values())
    change = sum(a * b for a, b in zip(p, (values[0], values[1], values[3]), strict=True))
    change -= sum(a * b for a, b in zip(old, values, strict=True))
    after = extension.expected(mutator)
    assert float(after.detach()) == pytest.approx(before + change, rel=1e-12)
    (gradient,) = torch.autograd.grad(after, mutator.arch_params['widen'])
    assert gradient[2] == 0
    assert gradient.any()


def test_drawn_weights_are_those_of_the_pass() -> None:
    supernet, mutator, extension = prepared('SNASMutator', expectation='drawn')
    with pytest.raises(InputError, match=r"'widen': expectation='drawn' needs .* forward"):
        extension.expected(mutator)
    x = torch.randn(6, 3, dtype=torch.float64)
    costs = []
    for seed in range(2):
        toys.run(supernet, x, seed=seed)
        total = 0.0
        for space_id, times in {
            'widen': 1,
            'shared': 2,
            **{f'node_p{i}': 1 for i in range(3)},
        }.items():
            weights = mutator.mixtures[space_id].weights.tolist()
            total += times * sum(a * b for a, b in zip(weights, COSTS.values(), strict=True))
        cost = extension.expected(mutator)
        assert float(cost.detach()) == pytest.approx(total, rel=1e-12)
        grads = torch.autograd.grad(cost, list(mutator.arch_params.values()), retain_graph=True)
        assert all(gradient.any() for gradient in grads)
        costs.append(total)
    assert costs[0] != pytest.approx(costs[1])
    assert costs[0] != pytest.approx(naive_expected(mutator))


def test_two_gates_of_proxylessnas_compare_two_costs() -> None:
    supernet, mutator, extension = prepared('ProxylessMutator', expectation='drawn')
    toys.run(supernet, torch.randn(6, 3, dtype=torch.float64), seed=1)
    cost = extension.expected(mutator)
    grads = torch.autograd.grad(cost, list(mutator.arch_params.values()))
    values, total = list(COSTS.values()), 0.0
    for (space_id, logits), gradient in zip(mutator.arch_params.items(), grads, strict=True):
        times = 2 if space_id == 'shared' else 1
        mixture = mutator.mixtures[space_id]
        (active,), (other,) = mixture.paths, mixture.silent
        total += times * values[active]
        q = softmax(logits.detach()[[active, other]])
        slope = times * q[0] * q[1] * (values[active] - values[other])
        expected = torch.zeros(4, dtype=torch.float64)
        expected[active], expected[other] = slope, -slope
        assert_close(gradient, expected)
    assert float(cost.detach()) == pytest.approx(total)


@pytest.mark.parametrize('name', [n for n in toys.LEARNING_MUTATORS if n in toys.CONCRETE])
def test_every_mutator_learns_to_be_cheap(name: str) -> None:
    _, mutator, extension = prepared(name)
    cost = extension.expected(mutator)
    grads = torch.autograd.grad(cost, list(mutator.arch_params.values()), allow_unused=True)
    with torch.no_grad():
        for logits, gradient in zip(mutator.arch_params.values(), grads, strict=True):
            assert gradient is not None
            assert gradient.any()
            logits -= 1e-3 * gradient / gradient.norm()
    assert extension.expected(mutator) < cost


def test_a_search_pays_for_the_cost_in_the_architecture_step_alone() -> None:
    def search_of(lam: float) -> Any:
        torch.manual_seed(2)
        supernet, mutator, extension = prepared(form='linear', ref=40.0, lam=lam)
        search = mm.BilevelSearch(
            supernet,
            mutator,
            nn.functional.mse_loss,
            torch.optim.SGD(supernet.parameters(), lr=0.01),
            torch.optim.SGD(mutator.arch_params.values(), lr=0.1),
        )
        return search, extension

    batch = torch.ones(6, 3, dtype=torch.float64), torch.zeros(6, 2, dtype=torch.float64)
    results = []
    for lam in (1e-9, 30.0):
        search, extension = search_of(lam)
        first = search.step(batch, batch)
        for _ in range(20):
            search.step(batch, batch)
        results.append((first, float(extension.expected(search.mutator).detach())))
    assert results[1][1] < 0.7 * results[0][1]
    assert float(results[0][0]['arch_loss']) != pytest.approx(float(results[1][0]['arch_loss']))


def test_state_and_copies() -> None:
    supernet, mutator, extension = prepared()
    assert not [key for key in mutator.state_dict() if 'costs' in key]
    expected = extension.expected(mutator).detach()
    for twin in (
        copy.deepcopy((supernet, mutator))[1],
        pickle.loads(pickle.dumps((supernet, mutator)))[1],
    ):
        assert_close(twin.extensions[0].expected(twin).detach(), expected, rtol=0, atol=0)
    _, fresh, other = prepared()
    fresh.load_state_dict(mutator.state_dict())
    assert_close(other.expected(fresh).detach(), expected, rtol=0, atol=0)
    supernet.float(), mutator.float()
    assert extension.expected(mutator).dtype == torch.float32
    mutator.release(supernet)
    with pytest.raises(BindingError, match='knows no search space'):
        extension.expected(mutator)
    mutator.prepare_from_supernet(supernet)
    assert float(extension.expected(mutator).detach()) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_costs_that_are_missing() -> None:
    with pytest.raises(ConfigError, match=r"lacks .*'widen' \(deep\); 'shared' \(deep\).*norm"):
        prepared(costs={name: COSTS[name] for name in ('none', 'linear', 'norm')})
    with pytest.raises(ConfigError, match=r"lacks .*'shared' \(none, linear, norm, deep\)"):
        prepared(costs={'widen': COSTS})
    supernet = toys.ToySupernet()
    mutator = mm.DartsMutator(
        extensions=[{'type': 'ExpectedCost', 'costs': {'x': 1}, 'ref': 1}]
    )
    before = [list(m.__dict__) for m in supernet.modules()]
    with pytest.raises(ConfigError, match='its entries are x'):
        mutator.prepare_from_supernet(supernet)
    assert [list(m.__dict__) for m in supernet.modules()] == before


@pytest.mark.parametrize('cost', [-1, -0.5, float('inf'), float('nan'), True, '3', None, [1]])
def test_costs_that_are_no_costs(cost: Any) -> None:
    with pytest.raises(ConfigError, match=r"In `costs`: .* 'deep' to be .* but got"):
        ExpectedCost({**COSTS, 'deep': cost}, ref=1)
    with pytest.raises(ConfigError, match=r"space 'a': .* 'deep' to be .* but got") as caught:
        ExpectedCost({'a': {**COSTS, 'deep': cost}}, ref=1)
    assert str(caught.value).endswith(f'but got {cost!r}')


def test_tables_that_are_no_tables(tmp_path: Any) -> None:
    for table in ([1, 2], {}, 3, None):
        with pytest.raises(ConfigError, match=r'`costs` to be a mapping .* but got'):
            ExpectedCost(table, ref=1)
    with pytest.raises(ConfigError, match=r"mixes both: 'b' is 3"):
        ExpectedCost({'a': {'x': 1}, 'b': 3}, ref=1)
    path = tmp_path / 'costs.yaml'
    with pytest.raises(
        ConfigError, match=r"Cannot read the file of costs '.*costs.yaml': No such file"
    ):
        ExpectedCost(path, ref=1)
    path.write_text('a: [')
    with pytest.raises(ConfigError, match='is not valid YAML: while parsing'):
        ExpectedCost(path, ref=1)
    path.write_text('a: fast')
    with pytest.raises(ConfigError, match=r"costs.yaml': .* 'a' to be .* but got 'fast'"):
        ExpectedCost(path, ref=1)


@forms
def test_forms_and_options_that_do_not_fit(form: str) -> None:
    allowed = {'linear': 'ref lam', 'log_product': 'ref alpha beta'}.get(form, 'alpha beta')
    for name in ('ref', 'lam', 'alpha', 'beta'):
        good = {**OPTIONS[form], name: 2.0}
        if name not in allowed.split():
            with pytest.raises(
                ConfigError, match=f"form='{form}' takes no `{name}`, but got 2"
            ):
                ExpectedCost(COSTS, form, **good)
            continue
        ExpectedCost(COSTS, form, **good)
        for bad in (0.0, -1.0, float('inf'), float('nan')):
            with pytest.raises(ConfigError, match=f'`{name}` to be finite .* got {bad}'):
                ExpectedCost(COSTS, form, **{**good, name: bad})
    if 'ref' in allowed:
        with pytest.raises(ConfigError, match=r'`ref` to be finite and above .* but got None'):
            ExpectedCost(COSTS, form)
    with pytest.raises(ConfigError, match="but got 'probz'; did you mean 'probs'"):
        ExpectedCost(COSTS, form, **OPTIONS[form], expectation='probz')


def test_a_reference_of_1_has_no_logarithm_to_divide_by() -> None:
    with pytest.raises(ConfigError, match=r'`ref` .* above 1 .* but got 1'):
        ExpectedCost(COSTS, 'log_product', ref=1)
    ExpectedCost(COSTS, 'linear', ref=1)


def test_an_unknown_form() -> None:
    with pytest.raises(
        ConfigError, match=r"`form` to be one of .* but got 'linaer'; .*'linear'"
    ):
        ExpectedCost(COSTS, 'linaer')


@forms
def test_costs_below_1_have_no_logarithm(form: str) -> None:
    seconds = {name: cost / 1e6 for name, cost in COSTS.items()}
    _, mutator, extension = prepared(costs=seconds, form=form, **OPTIONS[form])
    loss = torch.tensor(1.0, dtype=torch.float64)
    if form == 'linear':
        cost = float(extension.expected(mutator).detach())
        expected = 1 + 0.1 * (cost - 40) / 40
        assert float(mutator.arch_objective(loss).detach()) == pytest.approx(expected)
        return
    with pytest.raises(ConfigError, match=rf"above 1, because form='{form}'.* it is \d.*e-05"):
        mutator.arch_objective(loss)


class Scoreless(mm.DifferentiableMutator):
    """A mutator that does not say how it compares choices."""

    def search_subnet(self) -> Any:
        return {}


def test_a_mutator_without_scores() -> None:
    with toys.registered(Scoreless):
        with pytest.raises(ConfigError, match=r"Scoreless has no `scores`: .* use .*'drawn'"):
            prepared('Scoreless')
        supernet, mutator, extension = prepared('Scoreless', expectation='drawn')
        supernet(torch.randn(6, 3, dtype=torch.float64))
        assert float(extension.expected(mutator).detach()) == pytest.approx(
            naive_expected(mutator)
        )
