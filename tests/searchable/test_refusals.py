"""What cannot work is refused, by place, shapes and cure, and the model is as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from refused import FOUR, IMAGES, REFUSED, mlp
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils import _pytree as pytree

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, InputError, SearchSpaceError
from mmrazor_mutators.searchable import ties
from mmrazor_mutators.searchable.reach import check_linked
from mmrazor_mutators.searchable.rules import Place, Rule


@pytest.mark.filterwarnings('ignore:The PyTorch API of nested tensors:UserWarning')
@pytest.mark.parametrize('number', range(len(REFUSED)))
def test_what_cannot_work_is_refused_and_changes_nothing(number: int) -> None:
    build, rules, x, error, message = REFUSED[number]
    torch.manual_seed(0)
    model = build()
    twin = copy.deepcopy(model)
    random_state = torch.get_rng_state()
    with pytest.raises(error, match=message):
        mm.make_searchable(model, rules, x)
    assert torch.get_rng_state().equal(random_state)
    assert [(n, type(m)) for n, m in model.named_modules()] == [
        (n, type(m)) for n, m in twin.named_modules()
    ]
    state, expected = model.state_dict(), twin.state_dict()
    assert list(state) == list(expected)
    assert all(state[key].equal(expected[key]) for key in expected)
    assert '_search_plan' not in vars(model)
    assert all(m.training for m in model.modules())
    for module, original in zip(model.modules(), twin.modules(), strict=True):
        assert vars(module).keys() == vars(original).keys()
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    shared = [[id(p) for p in m.parameters()] for m in (model, twin)]
    assert len({*shared[0]}) == len({*shared[1]})
    if isinstance(x, torch.Tensor) and error is not InputError:
        outputs = []
        for network in (model, twin):
            torch.manual_seed(1)
            outputs += pytree.tree_leaves(network.eval()(x))
        half = len(outputs) // 2
        assert all(a.equal(b) for a, b in zip(outputs[:half], outputs[half:], strict=True))


def test_a_supernet_is_not_converted_twice_nor_restored_while_bound() -> None:
    rules = [{'match': '0', 'width': [4]}]
    model = mm.make_searchable(mlp(), rules, FOUR)
    with pytest.raises(BindingError, match='is a supernet already; call restore_original'):
        mm.make_searchable(model, rules, FOUR)
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(model)
    with pytest.raises(BindingError, match=r'bound to this supernet; call mutator\.release'):
        mm.restore_original(model)
    mutator.release(model)
    mm.restore_original(model)
    with pytest.raises(BindingError, match='was not made by make_searchable'):
        mm.restore_original(model)


def test_frozen_layers_stay_frozen() -> None:
    model = mlp(nn.ReLU())
    model[0].requires_grad_(False)
    supernet = mm.make_searchable(model, [{'match': '0', 'width': [4]}], FOUR)
    assert [p.requires_grad for p in supernet.parameters()] == [False, False, True, True]
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    net = mutator.export_subnet(supernet, {'0': {'chosen': ['w4']}})
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]


def test_a_module_that_stands_in_two_places_is_chosen_once() -> None:
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), act, nn.Linear(4, 4), act)
    supernet = mm.make_searchable(model, [{'match': 'ReLU', 'activation': ['tanh']}], FOUR)
    assert supernet[1] is supernet[3]
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    assert list(mutator.search_spaces) == ['1']
    net = mutator.export_subnet(supernet, {'1': {'chosen': ['tanh']}})
    assert [type(m) for m in net] == [nn.Linear, nn.Tanh] * 2
    mutator.release(supernet)
    mm.restore_original(supernet)
    assert supernet[1] is supernet[3] is act


def test_a_rule_may_share_one_choice() -> None:
    model = nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)
    )
    rules = [
        {'match': ['0', '2'], 'width': [3], 'space': 'hidden'},
        {'match': nn.ReLU, 'activation': ['tanh'], 'space': 'act'},
    ]
    supernet = mm.make_searchable(model, rules, FOUR)
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    assert sorted(mutator.search_spaces) == ['act', 'hidden']
    subnet = {'hidden': {'chosen': ['w3']}, 'act': {'chosen': ['tanh']}}
    net = mutator.export_subnet(supernet, subnet)
    assert [m.out_features for m in net if isinstance(m, nn.Linear)] == [3, 3, 2]


def test_a_computed_weight_is_refused_for_kernels() -> None:
    model = nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3, padding=1)), nn.Flatten())
    with pytest.raises(SearchSpaceError, match='computed of something else, as by weight_norm'):
        mm.make_searchable(model, [{'match': '0', 'kernel_size': [1]}], IMAGES)


def test_ties_without_an_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ties, '_MANY', 2)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(SearchSpaceError, match=r"channels of '0' \(Linear\) are tied to more"):
        mm.make_searchable(model, [{'match': '0', 'width': [4]}], FOUR)
    assert any('tied to more' in reason for reason in mm.suggest_rules(model, FOUR).left_out)


def test_a_parameter_with_fewer_features_is_no_place_for_channels() -> None:
    part = ties.Linked(nn.PReLU(3), 'out', [0, 4], [0, 1], 'weight', 0)
    place = Place('0', nn.Linear(2, 5), 'width', [2], Rule('0', {}), '0')
    with pytest.raises(SearchSpaceError, match=r"the parameter 'weight' of '1' \(PReLU\)"):
        check_linked(place, nn.Sequential(place.module, part.module), [part])
