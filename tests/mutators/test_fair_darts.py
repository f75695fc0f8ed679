"""FairDARTS against the formulas of its paper, and its threshold on worked examples."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import toys
from torch import nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.functional import zero_one_l1, zero_one_l2


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def all_logits(mutator: Any) -> list[float]:
    return [value for p in mutator.arch_params.values() for value in p.tolist()]


def test_logits_begin_at_zero_so_every_weight_is_a_half() -> None:
    mutator = mm.FairDartsMutator()
    mutator.prepare_from_supernet(toys.ToySupernet(node_has_param=True))
    assert set(all_logits(mutator)) == {0.0}
    assert {p.dtype for p in mutator.arch_params.values()} == {torch.float32}
    assert mutator.relax(mutator.arch_params['widen']).tolist() == [0.5] * 4


def test_weights_do_not_compete() -> None:
    _, mutator = toys.prepared('FairDartsMutator')
    logits = mutator.arch_params['widen']
    weights = mutator.relax(logits)
    assert weights.tolist() == pytest.approx([sigmoid(value) for value in logits.tolist()])
    (of_first,) = torch.autograd.grad(weights[0], logits)
    assert of_first[1:].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ('zero_one', 'distance'), [('l2', lambda d: d * d), ('l1', abs)], ids=['l2', 'l1']
)
def test_the_penalty_and_its_gradient(zero_one: str, distance: Any) -> None:
    """Trap: a penalty made from ``.item()`` has the value and no gradient."""
    _, mutator = toys.prepared('FairDartsMutator', zero_one=zero_one, zero_one_weight=3.0)
    values = all_logits(mutator)
    terms = [distance(sigmoid(value) - 0.5) for value in values]
    penalty = mutator.regularization()
    assert penalty.item() == pytest.approx(-3.0 * math.fsum(terms) / len(values))
    penalty.backward()
    eps = 1e-6
    for p in mutator.arch_params.values():
        for value, grad in zip(p.tolist(), p.grad.tolist(), strict=True):
            ends = [distance(sigmoid(value + s * eps) - 0.5) for s in (1, -1)]
            slope = -3.0 * (ends[0] - ends[1]) / (2 * eps) / len(values)
            assert grad == pytest.approx(slope, rel=1e-4, abs=1e-9)
            assert grad * value < 0  # Down this gradient, away from a half.


def test_the_mean_is_over_all_spaces_together() -> None:
    supernet = nn.Sequential(
        mm.DifferentiableOP(space_id='two', choices=toys.units(2)),
        mm.DifferentiableOP(space_id='six', choices=toys.units(6)),
    )
    _, mutator = toys.prepared('FairDartsMutator', supernet)
    with torch.no_grad():
        mutator.arch_params['two'].fill_(40.0)
        mutator.arch_params['six'].zero_()
    assert mutator.regularization().item() == pytest.approx(-10 * 2 * 0.25 / 8)


def test_dropped_choices_are_not_penalised() -> None:
    _, mutator = toys.prepared('FairDartsMutator')
    mutator.drop_choices('widen', ['deep'])
    values = [v for p in mutator.arch_params.values() for v in p.tolist()]
    dropped = mutator.arch_params['widen'].tolist()[3]
    values.remove(dropped)
    expected = -10 * sum((sigmoid(v) - 0.5) ** 2 for v in values) / len(values)
    assert mutator.regularization().item() == pytest.approx(expected)
    mutator.regularization().backward()
    assert mutator.arch_params['widen'].grad[3] == 0
    assert mutator.relax_spaces()['widen'].weights[3] == 0


def test_without_a_supernet_there_is_nothing_to_penalise() -> None:
    assert mm.FairDartsMutator().regularization().item() == 0


def test_the_pure_penalties() -> None:
    weights = torch.tensor([0.0, 1.0, 0.5, 0.75])
    assert_close(zero_one_l2(weights), torch.tensor(-(0.25 + 0.25 + 0.0625) / 4))
    assert_close(zero_one_l1(weights), torch.tensor(-(0.5 + 0.5 + 0.25) / 4))


def node_of_ops(num_chosen: int = 2) -> Any:
    """Three inputs, each through an op of its own."""
    names = ('none', 'skip', 'conv')
    inputs = {
        f'e{i}': nn.Sequential(
            mm.DifferentiableOP(
                space_id=f'op{i}', choices={name: nn.Identity() for name in names}
            )
        )
        for i in range(3)
    }
    return mm.DifferentiableEdge(
        space_id='node', num_chosen=num_chosen, with_arch_param=False, choices=inputs
    )


def found(weights: dict[str, list[float]], **kwargs: Any) -> dict[str, list[str]]:
    mutator = mm.FairDartsMutator(**kwargs)
    mutator.prepare_from_supernet(node_of_ops())
    with torch.no_grad():
        for space_id, values in weights.items():
            mutator.arch_params[space_id].copy_(torch.tensor(values).logit())
    subnet = mutator.search_subnet()
    for space_id, entry in subnet.items():
        if space_id in weights:
            expected = dict(zip(('none', 'skip', 'conv'), weights[space_id], strict=True))
            assert entry['chosen_probs'] == [
                pytest.approx(expected[name], rel=1e-5) for name in entry['chosen']
            ]
    return {space_id: entry['chosen'] for space_id, entry in subnet.items()}


def test_choices_that_reach_the_threshold() -> None:
    # All three edges do: the best two, each with its best choice; `none` never counts.
    over = {'op0': [0.99, 0.86, 0.2], 'op1': [0.1, 0.9, 0.95], 'op2': [0.1, 0.88, 0.1]}
    assert found(over) == {'node': ['e1', 'e2'], 'op1': ['conv'], 'op2': ['skip']}
    # One edge alone does: the node has one input.
    one = {'op0': [0.99, 0.3, 0.2], 'op1': [0.1, 0.9, 0.95], 'op2': [0.1, 0.84, 0.1]}
    assert found(one) == {'node': ['e1'], 'op1': ['conv']}
    # A lower threshold lets the second one in; so DARTS would have it.
    assert found(one, threshold=0.8) == {'node': ['e1', 'e2'], 'op1': ['conv'], 'op2': ['skip']}
    # None does: the best one stays, where the authors' node would lose all its inputs.
    none = {'op0': [0.99, 0.3, 0.2], 'op1': [0.1, 0.5, 0.4], 'op2': [0.1, 0.2, 0.7]}
    assert found(none) == {'node': ['e2'], 'op2': ['conv']}


def test_the_threshold_itself_is_reached() -> None:
    mutator = mm.FairDartsMutator(threshold=0.75)
    assert mutator.select({'a': 0.75, 'b': 0.8, 'c': 0.7499}, 3) == ['b', 'a']


def test_a_node_with_one_input_can_be_exported() -> None:
    mutator = mm.FairDartsMutator()
    supernet = toys.ToySupernet()
    mutator.prepare_from_supernet(supernet)
    with torch.no_grad():
        mutator.arch_params['node_p1'][1] = 9.0
    subnet = mutator.search_subnet()
    assert subnet['node']['chosen'] == ['p1']
    net, x = mutator.export_subnet(supernet, subnet).eval(), torch.randn(5, 3)
    backbone = supernet.eval().backbone
    a = backbone.widen.choices[subnet['widen']['chosen'][0]](x)
    b = backbone.first.choices[subnet['shared']['chosen'][0]](a)
    expected = supernet.head(backbone.node.choices['p1'][0].choices['linear'](b))
    assert_close(net(x), expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'zero_one_weight': -1}, '`zero_one_weight` to be at least 0, but got -1'),
        ({'zero_one_weight': float('nan')}, '`zero_one_weight` .* but got nan'),
        ({'threshold': 1.1}, '`threshold` to be from 0 to 1, but got 1.1'),
        ({'threshold': -0.1}, '`threshold` to be from 0 to 1, but got -0.1'),
        ({'zero_one': 'l3'}, "'l3' is not a zero-one loss; Known: l2, l1"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mm.FairDartsMutator(**options)
    mm.FairDartsMutator(zero_one_weight=0, threshold=1, zero_one='l1')


def test_the_state_in_mid_search() -> None:
    supernet, mutator = toys.prepared('FairDartsMutator')
    mutator.on_epoch(1, 3)
    twin_net, twin = toys.prepared('FairDartsMutator')
    twin_net.load_state_dict(supernet.state_dict())
    twin.load_state_dict(mutator.state_dict())
    assert twin.search_subnet() == mutator.search_subnet()
    assert twin.regularization().equal(mutator.regularization())
    assert twin.epoch == 1
