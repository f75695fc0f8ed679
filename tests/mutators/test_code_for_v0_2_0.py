"""Subclasses that override what MMRazor v0.2.0 lets them override, written as its source is."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, ConfigError, SearchSpaceError, SubnetError


class WalkingMutator(mm.DartsMutator):
    """Binds by a walk of its own."""

    def modify_supernet_forward(self, supernet: nn.Module) -> None:
        def walk(module: nn.Module) -> None:
            for _, child in module.named_children():
                if isinstance(child, mm.MutableModule) and child.space_id in self.arch_params:
                    alpha = self.arch_params[child.space_id]
                    child.forward = partial(child.forward, arch_param=alpha)  # type: ignore
                walk(child)

        walk(supernet)


class RicherMutator(mm.DartsMutator):
    """Keeps a parameter of its own among the architecture parameters."""

    def build_arch_params(self, supernet: nn.Module) -> nn.ParameterDict:
        built = super().build_arch_params(supernet)
        built['temperature'] = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
        return built


class NarrowMutator(mm.DartsMutator):
    """Searches one space alone; the others run as they are."""

    def build_search_spaces(self, supernet: nn.Module) -> Any:
        spaces = super().build_search_spaces(supernet)
        return {'a': spaces['a']}


def two_spaces() -> nn.Module:
    second = mm.DifferentiableOP(space_id='b', choices=toys.candidates(), with_arch_param=False)
    net = nn.Sequential(mm.DifferentiableOP(space_id='a', choices=toys.candidates()), second)
    return net.double()


learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 4, dtype=torch.float64)


def test_a_walk_of_its_own_binds_again_after_every_move(x: Tensor) -> None:
    supernet, mutator = two_spaces(), WalkingMutator()
    mutator.prepare_from_supernet(supernet)
    expected = supernet(x)
    state = copy.deepcopy(mutator.state_dict())
    mutator.double()
    mutator.to('cpu')
    mutator.load_state_dict(state)
    # This puts other parameters in the place of those that are bound.
    mutator.load_state_dict(copy.deepcopy(state), assign=True)
    alpha = mutator.arch_params['a']
    assert supernet[0].forward.keywords['arch_param'] is alpha
    assert_close(supernet(x), expected, rtol=0, atol=0)
    supernet(x).sum().backward()
    assert alpha.grad is not None
    assert alpha.grad.abs().sum() > 0


def test_a_walk_of_its_own_survives_copies(x: Tensor) -> None:
    supernet, mutator = two_spaces(), WalkingMutator()
    mutator.prepare_from_supernet(supernet)
    pair = supernet, mutator
    for twin, its_mutator in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        its_mutator.float().double()
        assert twin[0].forward.keywords['arch_param'] is its_mutator.arch_params['a']
        assert_close(twin(x), supernet(x), rtol=0, atol=1e-7)


@pytest.mark.parametrize('move', ['assign', 'double'])
def test_parameters_that_are_replaced_are_lent_in_the_place_of_the_old(
    move: str, x: Tensor
) -> None:
    supernet, mutator = two_spaces(), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    expected = supernet(x)
    if move == 'assign':
        mutator.load_state_dict(copy.deepcopy(mutator.state_dict()), assign=True)
    else:
        mutator.double()
    lent = supernet[0].forward.keywords
    assert lent['arch_param'] is mutator.arch_params['a']
    assert_close(supernet(x), expected)
    # It is relaxed once for the pass, not by the mutable.
    assert lent['relax'](lent['arch_param']).weights.shape == (4,)
    supernet(x)
    assert mutator.mixtures['a'].weights.grad_fn is not None


def test_a_parameter_of_its_own_is_kept_and_left_alone(x: Tensor) -> None:
    supernet = nn.Sequential(two_spaces()[0])
    mutator = RicherMutator()
    mutator.prepare_from_supernet(supernet)
    twin, its_mutator = copy.deepcopy((supernet, mutator))
    assert list(mutator.arch_params) == ['a', 'temperature']
    assert list(mutator.search_subnet()) == ['a']
    supernet(x).sum().backward()
    assert mutator.arch_params['temperature'].grad is None
    assert set(mutator.mixtures) == {'a'}
    with torch.no_grad():
        mutator.arch_params['temperature'].fill_(7.0)
    its_mutator.load_state_dict(mutator.state_dict())
    assert its_mutator.arch_params['temperature'].item() == 7.0
    assert_close(twin(x), supernet(x))
    mutator.release(supernet)


def test_spaces_that_are_left_out_stay_as_they_are(x: Tensor) -> None:
    supernet, mutator = two_spaces(), NarrowMutator()
    mutator.prepare_from_supernet(supernet)
    supernet(x).sum().backward()
    assert list(mutator.arch_params) == ['a']
    subnet = mutator.search_subnet()
    assert list(subnet) == ['a']
    with pytest.raises(SubnetError, match="lacks the space 'b'"):
        mutator.export_subnet(supernet, subnet)
    subnet['b'] = {'chosen': ['linear']}
    net = mutator.export_subnet(supernet, subnet)
    chosen = supernet[0].choices[subnet['a']['chosen'][0]]
    assert_close(net.eval()(x), supernet.eval()[1].choices['linear'](chosen(x)))


def test_one_shot_spaces_may_have_dots_in_their_names(x: Tensor) -> None:
    supernet = mm.OneShotOP(space_id='stage.0', choices=toys.candidates()).double()
    mutator = mm.OneShotMutator()
    mutator.prepare_from_supernet(supernet)
    mutator.set_subnet({'stage.0': {'chosen': ['linear']}})
    assert_close(supernet(x), supernet.choices['linear'](x))
    with pytest.raises(SearchSpaceError, match=r"without '\.', but got 'stage\.0'"):
        mm.DifferentiableOP(space_id='stage.0', choices=toys.candidates())


@pytest.mark.parametrize('kind', [mm.DartsMutator, mm.OneShotMutator, mm.RandomMutator])
def test_deploying_needs_no_preparation_where_there_are_no_holes(kind: Any, x: Tensor) -> None:
    supernet = two_spaces()
    expected = supernet[1].choices['linear'](supernet[0].choices['deep'](x))
    kind().deploy_subnet(supernet, {'a': {'chosen': ['deep']}, 'b': {'chosen': ['linear']}})
    assert_close(supernet(x), expected)
    hole = nn.Sequential(mm.Placeholder(group='op', space_id='c'))
    with pytest.raises(BindingError, match='was not prepared from this Sequential'):
        kind().deploy_subnet(hole, {'c': {'chosen': ['linear']}})


def test_deploying_after_preparation_still_asks_for_the_right_supernet() -> None:
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(two_spaces())
    with pytest.raises(BindingError, match='was not prepared from this Sequential'):
        mutator.deploy_subnet(two_spaces(), {'a': {'chosen': ['deep']}})


def test_logits_start_where_init_says(learning: str) -> None:
    cls = mm.MUTATORS.get(learning)
    supernet = nn.Sequential(two_spaces()[0])
    if not getattr(cls, 'has_logits', True):
        with pytest.raises(ConfigError, match=f'architecture parameters of {learning} are not'):
            cls(init={'a': {'deep': 2.0}}).prepare_from_supernet(supernet)
        return
    mutator = cls(init={'*': {'deep': 2.5}, 'a': {'norm': -1.0}})
    mutator.prepare_from_supernet(supernet)
    alpha = mutator.arch_params['a'].detach()
    assert alpha[3] == 2.5
    assert alpha[2] == -1.0
    assert alpha[:2].abs().max() < 0.1
    assert mutator.search_subnet()['a']['chosen'] == ['deep']


def backwards(space_id: str, names: Any) -> list[float]:
    assert space_id == 'a'
    return [float(len(names) - i) for i in range(len(names))]


def prefer_norm(space_id: str, names: Any) -> str:
    return next(name for name in names if name.startswith('norm'))


@pytest.mark.parametrize(
    ('init', 'expected'),
    [
        ({'a': [0.5, -1, 2, 0]}, [0.5, -1.0, 2.0, 0.0]),
        (
            {'a': torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float16)},
            [0.5, -1.0, 2.0, 0.0],
        ),
        ({'*': [9, 9, 9, 9], 'a': (4, 3, 2, 1)}, [4.0, 3.0, 2.0, 1.0]),
        ({'a': backwards}, [4.0, 3.0, 2.0, 1.0]),
        (backwards, [4.0, 3.0, 2.0, 1.0]),
        ({'*': 'norm'}, [0.0, 0.0, 2.0, 0.0]),
        ('norm', [0.0, 0.0, 2.0, 0.0]),
        (prefer_norm, [0.0, 0.0, 2.0, 0.0]),
    ],
)
def test_logits_start_at_a_list_a_name_or_what_a_function_says(
    init: Any, expected: list[float]
) -> None:
    supernet, mutator = nn.Sequential(two_spaces()[0]), mm.FairDartsMutator(init=init)
    mutator.prepare_from_supernet(supernet)
    alpha = mutator.arch_params['a'].detach()
    assert_close(alpha, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=0)
    twin = copy.deepcopy((supernet, mutator))[1]
    assert twin.arch_params['a'].equal(alpha)


def test_a_name_alone_is_for_those_spaces_that_have_it() -> None:
    other = mm.DifferentiableOP(space_id='b', choices=toys.units())
    mutator = mm.FairDartsMutator(init='deep')
    mutator.prepare_from_supernet(nn.Sequential(two_spaces()[0], other))
    assert mutator.arch_params['a'].tolist() == [0.0, 0.0, 0.0, 2.0]
    assert mutator.arch_params['b'].tolist() == [0.0, 0.0, 0.0]


def test_the_original_can_be_named_as_such() -> None:
    value = mm.DifferentiableChannel(widths=[1, 2, 4], channels=4, space_id='w')
    supernet = nn.Sequential(value)
    mutator = mm.DartsMutator(init={'w': {'original': 1.5}})
    mutator.prepare_from_supernet(supernet)
    assert mutator.arch_params['w'][2] == 1.5


@pytest.mark.parametrize(
    ('init', 'error', 'message'),
    [
        ([1], ConfigError, r'\{space ids: \{choice: logit\}\}.*but got \[1\]'),
        (2.0, ConfigError, r'\{space ids: \{choice: logit\}\}.*but got 2\.0'),
        ({'a': 2.0}, ConfigError, r"init\['a'\] to be \{choice: logit\}.*but got 2\.0"),
        ({'a': None}, ConfigError, r"init\['a'\] to be \{choice: logit\}.*but got None"),
        ({'a': [0, 'x', 0, 0]}, ConfigError, r"init\['a'\]\[1\] .*but got 'x'"),
        ({'a': torch.tensor([1.0, float('inf')])}, ConfigError, r"init\['a'\]\[1\].*got inf"),
        ({'a': torch.tensor(1.0)}, ConfigError, r"init\['a'\] to be .*but got 1\.0"),
        ({'a': torch.zeros(1, 4)}, ConfigError, r"init\['a'\]\[0\] .*but got \[0\.0"),
        ({'a': [1.0, 2.0]}, SearchSpaceError, "'a': `init` gives 2 logits, but there are 4"),
        ('depe', SearchSpaceError, r"choice 'depe', which no space '\*' has; did you mean"),
        (lambda *_: 3, ConfigError, r"what init\['\*'\] returns for a to be .*but got 3"),
        (lambda *_: [0], SearchSpaceError, "'a': `init` gives 1 logits, but there are 4"),
        ({'a': {'deep': 'x'}}, ConfigError, r"init\['a'\]\['deep'\] .*but got 'x'"),
        ({'a': {'deep': float('nan')}}, ConfigError, 'finite number, but got nan'),
        ({'a': {'deep': True}}, ConfigError, 'finite number, but got True'),
        ({'c*': {'deep': 1.0}}, SearchSpaceError, r"the spaces 'c\*', but there is none"),
        ({'a': {'dep': 1.0}}, SearchSpaceError, "'dep', which no space 'a' has; did you mean"),
        ({'a': {'original': 1.0}}, SearchSpaceError, "choice 'original', which no space"),
    ],
)
def test_init_of_another_form(init: Any, error: type, message: str) -> None:
    supernet = two_spaces()
    with pytest.raises(error, match=message):
        mm.DartsMutator(init=init).prepare_from_supernet(supernet)
    assert 'forward' not in vars(supernet[0])
