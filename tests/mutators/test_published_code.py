"""Mutators and mutables of which every method is written as in MMRazor v0.2.0's source."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import published
import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, ConfigError, SearchSpaceError, SubnetError

LEARNING = [
    published.WholeMutator,
    published.WholeDifferentiable,
    published.OnTheBase,
    published.PreparingTwice,
]
learning = pytest.mark.parametrize('kind', LEARNING)
SUBNET: Any = {'a': {'chosen': ['deep']}, 'b': {'chosen': ['norm']}}


def two_spaces(op: type = mm.DifferentiableOP, **kwargs: Any) -> nn.Sequential:
    ops = [op(space_id=i, choices=toys.candidates(), **kwargs) for i in 'ab']
    return nn.Sequential(*ops).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 4, dtype=torch.float64)


def by_hand(supernet: nn.Module, mutator: Any, x: Tensor) -> Tensor:
    for op in supernet:
        weights = mutator.arch_params[op.space_id].softmax(-1)
        x = sum(w * c(x) for w, c in zip(weights, op.choices.values(), strict=True))
    return x


def check_learns(supernet: nn.Module, mutator: Any, x: Tensor) -> None:
    """Hold outputs and gradients of the logits to a plain loop."""
    params = list(mutator.arch_params.values())
    expected, output = by_hand(supernet, mutator, x), supernet(x)
    assert_close(output, expected, check_dtype=False)
    grads = torch.autograd.grad(output.square().sum(), params)
    assert_close(grads, torch.autograd.grad(expected.square().sum(), params))


def prepared(kind: Any, **kwargs: Any) -> tuple[nn.Sequential, Any]:
    supernet, mutator = two_spaces(**kwargs), kind()
    mutator.prepare_from_supernet(supernet)
    with torch.no_grad():
        for alpha in mutator.arch_params.values():
            alpha.normal_()
    return supernet, mutator


@learning
def test_they_mix_and_learn_and_are_read_off(kind: Any, x: Tensor) -> None:
    supernet, mutator = prepared(kind)
    check_learns(supernet, mutator, x)
    subnet = mutator.search_subnet()
    for op in supernet:
        probs = mutator.arch_params[op.space_id].detach().softmax(-1)[1:]  # 'none' is ignored.
        assert subnet[op.space_id]['chosen'] == [op.choice_names[1 + int(probs.argmax())]]
        assert subnet[op.space_id]['chosen_probs'] == pytest.approx([float(probs.max())])


def to_meta_and_back(mutator: Any) -> None:
    values = copy.deepcopy(mutator.state_dict())
    mutator.to('meta')
    mutator.to_empty(device='cpu')
    mutator.load_state_dict(values)


MOVES: dict[str, Callable[[Any], Any]] = {
    'double': lambda mutator: mutator.double(),
    'to_dtype': lambda mutator: mutator.to(torch.float64),
    'to_meta_and_back': to_meta_and_back,
    'load': lambda mutator: mutator.load_state_dict(copy.deepcopy(mutator.state_dict())),
    'assign': lambda mutator: mutator.load_state_dict(
        copy.deepcopy(mutator.state_dict()), assign=True
    ),
}


@learning
@pytest.mark.parametrize('move', MOVES)
def test_they_stay_bound_wherever_they_move(kind: Any, move: str, x: Tensor) -> None:
    supernet, mutator = prepared(kind)
    expected = supernet(x)
    MOVES[move](mutator)
    assert_close(supernet(x), expected, rtol=1e-6, atol=1e-6)
    check_learns(supernet, mutator, x)


@learning
@pytest.mark.parametrize('copied', [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_they_are_copied_with_the_supernet(kind: Any, copied: Any, x: Tensor) -> None:
    supernet, mutator = prepared(kind)
    twin, its_mutator = copied((supernet, mutator))
    assert_close(twin(x), supernet(x))
    its_mutator.double()
    with torch.no_grad():
        its_mutator.arch_params['a'].add_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    check_learns(twin, its_mutator, x)
    assert not torch.allclose(twin(x), supernet(x))


@learning
def test_they_are_released_and_prepared_again(kind: Any, x: Tensor) -> None:
    supernet, mutator = prepared(kind)
    alpha = mutator.arch_params['a']
    with pytest.raises(BindingError, match='is prepared already'):
        mutator.prepare_from_supernet(supernet)
    mutator.release(supernet)
    assert all('forward' not in vars(op) for op in supernet)
    with pytest.raises(BindingError, match="space 'a' got no `arch_param`"):
        supernet(x)
    mutator.prepare_from_supernet(supernet)
    check_learns(supernet, mutator, x)
    # Published code that sets `arch_params` itself builds them anew.
    own = kind in (published.OnTheBase, published.PreparingTwice)
    assert (mutator.arch_params['a'] is alpha) is not own


@learning
@pytest.mark.parametrize('op', [mm.DifferentiableOP, published.MixingByItself])
def test_they_deploy_in_place_and_export(kind: Any, op: Any, x: Tensor) -> None:
    supernet, mutator = prepared(kind, op=op)
    net = mutator.export_subnet(supernet, SUBNET)
    first, second = supernet[0].choices['deep'], supernet[1].choices['norm']
    mutator.deploy_subnet(supernet, SUBNET)
    assert [op.choice_names for op in supernet] == [('deep',), ('norm',)]
    supernet.eval()
    assert_close(supernet(x), second(first(x)), rtol=0, atol=0)
    assert_close(net.eval()(x), second(first(x)), rtol=0, atol=0)


def test_a_deploy_without_any_preparation(x: Tensor) -> None:
    supernet = two_spaces().eval()
    published.WholeMutator().deploy_subnet(supernet, SUBNET)
    first, second = supernet[0].choices['deep'], supernet[1].choices['norm']
    assert_close(supernet(x), second(first(x)), rtol=0, atol=0)


class Holes(nn.Module):
    """One hole in the open, one inside of a block."""

    def __init__(self) -> None:
        super().__init__()
        args = {'in_channels': 4, 'out_channels': 4, 'stride': 1}
        self.op = mm.Placeholder(group='op', space_id='a', choice_args=args)
        self.block = nn.Sequential(mm.Placeholder(group='op', space_id='b', choice_args=args))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.op(x))


def mapping() -> Any:
    choices = {
        'skip': {'type': 'Identity'},
        'pool': {'type': 'DartsPoolBN', 'pool_type': 'max'},
    }
    return {'op': {'type': 'DifferentiableOP', 'with_arch_param': True, 'choices': choices}}


@learning
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_they_fill_holes(kind: Any, dtype: torch.dtype) -> None:
    supernet, mutator = Holes().to(dtype).eval(), kind(placeholder_mapping=mapping())
    mutator.prepare_from_supernet(supernet)
    images = torch.rand(2, 4, 6, 6, dtype=dtype)
    assert_close(
        supernet(images),
        by_hand([supernet.op, supernet.block[0]], mutator, images),  # type: ignore
    )
    assert not supernet.op.training


def test_holes_are_open_again_after_an_error() -> None:
    class Broken(published.WholeMutator):
        def build_search_spaces(self, supernet: nn.Module) -> Any:
            raise ValueError('mine')

    supernet = Holes()
    with pytest.raises(ValueError, match='mine'):
        Broken(placeholder_mapping=mapping()).prepare_from_supernet(supernet)
    assert isinstance(supernet.op, mm.Placeholder)
    assert isinstance(supernet.block[0], mm.Placeholder)
    with pytest.raises(KeyError, match='op'):
        published.WholeMutator(placeholder_mapping={'other': {}}).prepare_from_supernet(
            supernet
        )


def test_the_published_reading_off_knows_our_nodes() -> None:
    supernet = mm.build_architecture(
        {
            'type': 'DartsSupernet',
            'in_channels': 3,
            'num_classes': 4,
            'base_channels': 4,
            'num_layers': 3,
            'num_nodes': 2,
        }
    )
    mutator, ours = published.WholeMutator(), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    toys.spread_logits(mutator)
    subnet = mutator.search_subnet()
    mutator.release(supernet)
    ours.prepare_from_supernet(supernet)
    ours.load_state_dict(mutator.state_dict())
    expected = ours.search_subnet()
    assert {s: sorted(e['chosen']) for s, e in subnet.items()} == {
        s: sorted(e['chosen']) for s, e in expected.items()
    }


@pytest.mark.parametrize('base', [mm.SNASMutator, mm.GDASMutator, mm.SparsemaxMutator])
def test_a_walk_of_its_own_keeps_the_relaxation_of_its_mutator(base: Any) -> None:
    class Walking(published.Lending, base):
        pass

    supernet, mutator = toys.UnitSupernet(), Walking()
    mutator.prepare_from_supernet(supernet)
    toys.spread_logits(mutator)
    first, second, other = toys.run(supernet, torch.rand(2))
    torch.manual_seed(3)
    a, b = (mutator.relax(mutator.arch_params[space_id]) for space_id in 'ab')
    assert_close((first, second, other), (a, a, b))


class Narrow(mm.DartsMutator):
    """Searches one space alone."""

    def build_search_spaces(self, supernet: nn.Module) -> Any:
        return {'a': super().build_search_spaces(supernet)['a']}


def test_spaces_that_are_left_out_mix_by_themselves(x: Tensor) -> None:
    supernet, mutator = prepared(Narrow)
    assert list(mutator.search_spaces) == list(mutator.search_subnet()) == ['a']
    assert list(mutator.arch_params) == ['a', 'b']
    check_learns(supernet, mutator, x)
    mutator.release(supernet)
    assert all('forward' not in vars(op) for op in supernet)


@pytest.mark.parametrize(
    ('spaces', 'message'),
    [
        ({}, r'Listing.build_search_spaces to return .* but got \{\}'),
        (None, r'Listing.build_search_spaces to return .* but got None'),
        ({'a': 3}, "'a': .* lacks 'modules', 'choice_names', 'num_chosen', 'space_mask'"),
        ({'a': {'modules': []}}, "'a': .* lacks 'choice_names', 'num_chosen', 'space_mask'"),
        ('renamed', r"'z': .* with this `space_id`, but got \[DifferentiableOP 'a'\]"),
    ],
)
def test_spaces_that_cannot_be_used(spaces: Any, message: str) -> None:
    class Listing(mm.DartsMutator):
        def build_search_spaces(self, supernet: nn.Module) -> Any:
            if spaces == 'renamed':
                return {'z': super().build_search_spaces(supernet)['a']}
            return spaces

    supernet = two_spaces()
    with pytest.raises(SearchSpaceError, match=message):
        Listing().prepare_from_supernet(supernet)
    assert all('forward' not in vars(op) for op in supernet)


def test_a_parameter_of_its_own_outlives_a_release() -> None:
    class Richer(mm.DartsMutator):
        def build_arch_params(self, supernet: nn.Module) -> nn.ParameterDict:
            built = super().build_arch_params(supernet)
            built['temperature'] = nn.Parameter(torch.ones(1))
            return built

        def modify_supernet_forward(self, supernet: nn.Module) -> None:
            super().modify_supernet_forward(supernet)
            for op in supernet:
                op.forward = partial(op.forward, tau=self.arch_params['temperature'])

    class Scaled(mm.DifferentiableOP):
        def forward(self, x: Any, arch_param: Any = None, tau: Any = None) -> Any:  # type: ignore
            return super().forward(x, arch_param=arch_param / tau)

    supernet, mutator = two_spaces(Scaled), Richer()
    mutator.prepare_from_supernet(supernet)
    tau = mutator.arch_params['temperature']
    mutator.load_state_dict(copy.deepcopy(mutator.state_dict()), assign=True)
    lent = supernet[0].forward.keywords['tau']
    assert lent is mutator.arch_params['temperature']
    assert lent is not tau
    mutator.release(supernet)
    mutator.prepare_from_supernet(supernet)
    assert mutator.arch_params['temperature'] is lent


class Node(nn.Module):
    """A node of three inputs, each with an operation."""

    def __init__(self, with_arch_param: bool) -> None:
        super().__init__()
        ops = [
            mm.DifferentiableOP(space_id=f'i{i}', choices=toys.candidates()) for i in range(3)
        ]
        self.edge = published.OwnEdge(
            space_id='edge',
            with_arch_param=with_arch_param,
            num_chosen=2,
            choices=nn.ModuleDict({op.space_id: nn.Sequential(op) for op in ops}),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.edge([x, 2 * x, 3 * x])


@pytest.mark.parametrize('with_arch_param', [True, False])
@pytest.mark.parametrize('kind', [mm.DartsMutator, published.WholeMutator])
def test_edges_with_a_forward_and_an_export_of_their_own(
    kind: Any, with_arch_param: bool, x: Tensor
) -> None:
    supernet, mutator = Node(with_arch_param).double().eval(), kind()
    mutator.prepare_from_supernet(supernet)
    ops = [choice[0].choices for choice in supernet.edge.choices.values()]
    mixed = [
        sum(
            w * choice(n * x)
            for w, choice in zip(
                mutator.arch_params[f'i{i}'].softmax(0), ops[i].values(), strict=True
            )
        )
        for i, n in enumerate((1, 2, 3))
    ]
    weights = mutator.arch_params['edge'].softmax(0) if with_arch_param else torch.ones(3)
    assert_close(supernet(x), sum(w * y for w, y in zip(weights, mixed, strict=True)))
    subnet = {'edge': {'chosen': ['i0', 'i2']}, 'i0': {'chosen': ['deep']}}
    subnet.update({'i1': {'chosen': ['none']}, 'i2': {'chosen': ['norm']}})
    if kind is mm.DartsMutator:
        del subnet['i1']
    mutator.deploy_subnet(supernet, subnet)
    assert_close(supernet(x), ops[0]['deep'](x) + ops[2]['norm'](3 * x))


def image_search(kind: Any, unroll: bool) -> tuple[Any, Any, Any]:
    """Return v0.2.0's Darts with a mutator, its optimizers and a pair of batches."""
    net = nn.Sequential(nn.Flatten(), *two_spaces().float(), nn.Linear(4, 3))
    algorithm = mm.build_algorithm(
        {'type': 'Darts', 'unroll': unroll, 'architecture': net, 'mutator': kind()}
    )
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    adam = torch.optim.Adam(algorithm.mutator.parameters(), lr=0.01)
    images, labels = torch.rand(2, 6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    data = [{'img': x, 'gt_label': labels} for x in images]
    return algorithm, {'architecture': sgd, 'mutator': adam}, data


@pytest.mark.parametrize('unroll', [False, True])
@pytest.mark.parametrize('kind', [k for k in LEARNING if k is not published.OnTheBase])
def test_darts_drives_them(kind: Any, unroll: bool) -> None:
    algorithm, optimizers, data = image_search(kind, unroll)
    twin, twins, _ = image_search(mm.DartsMutator, unroll)
    twin.load_state_dict(algorithm.state_dict())
    for model, steps in ((algorithm, optimizers), (twin, twins)):
        assert model.train_step(data, steps)['num_samples'] == 6
    assert_close(dict(algorithm.named_parameters()), dict(twin.named_parameters()))


def test_a_mutator_upon_the_base_cannot_be_searched_with() -> None:
    algorithm, optimizers, data = image_search(published.OnTheBase, False)
    message = 'to be a DifferentiableMutator, but got OnTheBase; derive it from'
    with pytest.raises(ConfigError, match=message):
        algorithm.train_step(data, optimizers)


def configs() -> Any:
    return {'skip': {'type': 'Identity'}, 'pool': {'type': 'DartsPoolBN', 'pool_type': 'avg'}}


def test_a_mutable_of_v0_2_0_upon_modules() -> None:
    args = {'in_channels': 4, 'out_channels': 4, 'stride': 1}
    op = published.FromModules(space_id='a', choices=configs(), choice_args=args).eval()
    supernet = nn.Sequential(op)
    assert op.full_choice_names == ('skip', 'pool')
    assert op.choice_mask.tolist() == [True, True]
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    toys.spread_logits(mutator)
    images = torch.rand(2, 4, 5, 5)
    assert_close(supernet(images), by_hand(supernet, mutator, images))
    with pytest.raises(SubnetError, match=r'a FromModules .* method `build_plain\(choices\)`'):
        mutator.export_subnet(supernet, mutator.search_subnet())


def test_a_mutable_of_v0_2_0_upon_the_base_is_told_where_it_belongs() -> None:
    args = {'in_channels': 4, 'out_channels': 4, 'stride': 1}
    message = "'a': a FromTheBase has not said .* derive it from MutableOP, MutableEdge or"
    with pytest.raises(SearchSpaceError, match=message):
        published.FromTheBase(space_id='a', choices=configs(), choice_args=args)
