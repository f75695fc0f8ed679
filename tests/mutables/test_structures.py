"""Outputs that are more than a tensor are mixed leaf by leaf."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import InputError
from mmrazor_mutators.structures import map_tensors, tensors_in, total

learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')
F64 = torch.float64
WEIGHTS = torch.tensor([0.25, 0.75], dtype=F64)


class Pair(NamedTuple):
    out: Tensor
    extra: Any


class OwnPair(Pair):
    """A named tuple with a constructor of its own, as packed sequences have."""

    def __new__(cls, out: Tensor) -> OwnPair:
        return super().__new__(cls, out, None)


class Output(OrderedDict[str, Any]):
    """As models of transformers return: its entries are attributes, too."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)


@dataclass(frozen=True)
class Record:
    out: Tensor
    name: str


def output(x: Tensor) -> Output:
    found = Output()
    found['out'], found['loss'] = x, None
    return found


FORMS: dict[str, Any] = {
    'tuple': lambda x: (x, (2 * x, None)),
    'list': lambda x: [x, 2 * x],
    'dict': lambda x: {'out': x, 'extra': {'name': 'block', 'twice': 2 * x}},
    'named tuple': lambda x: Pair(x, {'twice': 2 * x}),
    'own named tuple': OwnPair,
    'of torch': lambda x: torch.linalg.slogdet(x.unsqueeze(-1).unsqueeze(-1) ** 2 + 1),
    'dict in order': lambda x: OrderedDict(out=x, twice=2 * x),
    'dict with defaults': lambda x: defaultdict(list, out=x),
    'dict with attributes': output,
    'data class': lambda x: Record(x, 'block'),
    'size': lambda x: (x, x.shape, 3, 2.5, float, ...),
    'lengths': lambda x: (x, torch.tensor([3, 1]), torch.tensor([True])),
    'complex': lambda x: (x, torch.complex(x, 2 * x)),
}


class Returns(nn.Module):
    def __init__(self, form: str, factor: float) -> None:
        super().__init__()
        self.form, self.factor = form, factor

    def forward(self, x: Tensor) -> Any:
        return FORMS[self.form](self.factor * x)


def prepared(choices: dict[str, nn.Module], kind: str = 'DartsMutator') -> tuple[Any, Any]:
    choices = copy.deepcopy(choices)
    op = mm.DifferentiableOP(space_id='a', choices=choices, num_chosen=len(choices))
    supernet, mutator = nn.Sequential(op).double(), toys.build_mutator(kind)
    mutator.prepare_from_supernet(supernet)
    return supernet, mutator


def rest_of(structure: Any) -> Any:
    return map_tensors(lambda x: 'tensor', structure)


@pytest.mark.parametrize('form', FORMS)
def test_all_forms(form: str) -> None:
    choices: dict[str, nn.Module] = {'a': Returns(form, 2.0), 'b': Returns(form, -1.0)}
    supernet, mutator = prepared(choices)
    x = torch.randn(3, 4, dtype=F64)
    weights = WEIGHTS.clone().requires_grad_()
    parts = [choice(x) for choice in choices.values()]
    first, second = map(tensors_in, parts)
    with mutator.mixing({'a': weights}):
        found = supernet(x)
    assert type(found) is type(parts[0])
    assert rest_of(found) == rest_of(parts[0])
    floats = [t.is_floating_point() or t.is_complex() for t in first]
    for leaf, a, b, mixed in zip(tensors_in(found), first, second, floats, strict=True):
        assert_close(leaf, 0.25 * a + 0.75 * b if mixed else a)
    (grad,) = torch.autograd.grad(
        sum(t.abs().sum() for t in tensors_in(found) if t.requires_grad), weights
    )
    assert grad.abs().sum() > 0
    net = mutator.export_subnet(supernet, {'a': {'chosen': ['a', 'b']}})
    found = net(x)
    assert type(found) is type(parts[0])
    for leaf, a, b, mixed in zip(tensors_in(found), first, second, floats, strict=True):
        assert_close(leaf, a + b if mixed else a)
    before = tensors_in(parts[0])
    total(parts)
    assert all(map(torch.equal, tensors_in(parts[0]), before))


def test_attributes_of_a_dict_are_mixed_too() -> None:
    supernet, mutator = prepared({'a': Returns('dict with attributes', 2.0)})
    x = torch.randn(3, 4, dtype=F64)
    with mutator.mixing({'a': torch.ones(1, dtype=F64)}):
        found = supernet(x)
    assert found.out is found['out']
    assert found.loss is None


@pytest.mark.parametrize('form', ['named tuple', 'dict', 'lengths'])
def test_all_mutators(form: str, learning: str) -> None:
    choices: dict[str, nn.Module] = {'a': Returns(form, 2.0), 'b': Returns(form, -1.0)}
    supernet, mutator = prepared(choices, learning)
    x = torch.randn(3, 4, dtype=F64)
    with mutator.mixing({'a': WEIGHTS}):
        found = tensors_in(supernet(x))[0]
    assert_close(found, (0.5 - 0.75) * x)
    tensors_in(supernet(x))[0].sum().backward()
    assert mutator.arch_params['a'].grad.abs().sum() > 0
    subnet = mutator.search_subnet()
    net = mutator.export_subnet(supernet, subnet)
    mutator.deploy_subnet(supernet, subnet)
    assert_close(tensors_in(net(x)), tensors_in(supernet(x)))


def test_lstms_are_mixed_with_their_states() -> None:
    supernet, mutator = prepared({name: nn.LSTM(4, 6) for name in 'ab'})
    x = torch.randn(2, 3, 4, dtype=F64)
    with mutator.mixing({'a': WEIGHTS}):
        found = tensors_in(supernet(x))
    parts = [tensors_in(lstm(x)) for lstm in supernet[0].choices.values()]
    assert len(found) == 3
    for leaf, a, b in zip(found, *parts, strict=True):
        assert_close(leaf, 0.25 * a + 0.75 * b)


@pytest.mark.parametrize('in_order', [True, False])
def test_packed_sequences(in_order: bool) -> None:
    supernet, mutator = prepared({name: nn.GRU(4, 6) for name in 'ab'})
    if in_order:
        x = pack_sequence([torch.randn(n, 4, dtype=F64) for n in (5, 3)])
    else:
        padded = torch.randn(5, 2, 4, dtype=F64)
        x = pack_padded_sequence(padded, torch.tensor([2, 5]), enforce_sorted=False)
    with mutator.mixing({'a': WEIGHTS}):
        out, hidden = supernet(x)
    parts = [gru(x) for gru in supernet[0].choices.values()]
    assert_close(out.data, 0.25 * parts[0][0].data + 0.75 * parts[1][0].data)
    assert_close(hidden, 0.25 * parts[0][1] + 0.75 * parts[1][1])
    assert out.batch_sizes.equal(x.batch_sizes)
    if not in_order:
        assert out.sorted_indices.equal(x.sorted_indices)
    mutator.deploy_subnet(supernet, {'a': {'chosen': ['a', 'b']}})
    assert_close(supernet(x)[0].data, parts[0][0].data + parts[1][0].data)


def test_dicts_may_come_in_another_order() -> None:
    class Turned(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {'b': x, 'a': 2 * x}

    class Straight(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {'a': x, 'b': 2 * x}

    supernet, mutator = prepared({'a': Straight(), 'b': Turned()})
    x = torch.randn(2, dtype=F64)
    with mutator.mixing({'a': WEIGHTS}):
        found = supernet(x)
    assert list(found) == ['a', 'b']
    assert_close(found['a'], 0.25 * x + 0.75 * 2 * x)


@pytest.mark.parametrize(
    ('one', 'other', 'result'),
    [
        (torch.float32, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float64),
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float32, torch.complex64, torch.complex64),
    ],
)
@pytest.mark.parametrize('inside', [True, False])
def test_numbers_of_other_precisions(one: Any, other: Any, result: Any, inside: bool) -> None:
    class Cast(nn.Module):
        def __init__(self, dtype: Any) -> None:
            super().__init__()
            self.dtype = dtype

        def forward(self, x: Tensor) -> Any:
            return (x.to(self.dtype),) if inside else x.to(self.dtype)

    op = mm.DifferentiableOP(space_id='a', choices={'a': Cast(one), 'b': Cast(other)})
    found = op(torch.ones(3), arch_param=torch.tensor([0.0, 0.0]))
    assert_close(found[0] if inside else found, torch.ones(3, dtype=result))


class Case(nn.Module):
    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x)


REFUSED: dict[str, tuple[Any, Any, str]] = {
    'shape': (
        nn.Linear(4, 8),
        nn.Linear(4, 1),
        r"differ in shape: 'a' returns shape \(2, 8\), 'b' returns shape \(2, 1\)",
    ),
    'inner shape': (
        Case(lambda x: (x, x[:1])),
        Case(lambda x: (x, x)),
        r"differ in shape: 'a' returns \(\(2, 4\), \(1, 4\)\), 'b' returns \(\(2, 4\), \(2",
    ),
    'tuple': (
        nn.LSTM(4, 4),
        nn.Linear(4, 4),
        r"differ in structure: 'a' returns \(\(2, 4\), .*'b' returns shape \(2, 4\)",
    ),
    'kind': (Case(lambda x: (x, x)), Case(lambda x: [x, x]), r'structure.*\[\(2, 4\), \(2'),
    'length': (Case(lambda x: (x, x)), Case(lambda x: (x,)), r"structure: 'a' returns"),
    'keys': (
        Case(lambda x: {'y': x}),
        Case(lambda x: {'z': x}),
        r"structure: 'a' returns {'y': \(2, 4\)}, 'b' returns {'z': \(2, 4\)}",
    ),
    'none': (Case(lambda x: (x, None)), Case(lambda x: (x, x)), r'structure: .*, None\)'),
    'text': (
        Case(lambda x: (x, 'one')),
        Case(lambda x: (x, 'two')),
        r"they hold 'one' and 'two' at the same place",
    ),
    'indices': (
        Case(lambda x: (x, x.argmax(-1))),
        Case(lambda x: (x, (-x).argmax(-1))),
        r'whole numbers \(int64\) inside of them, which are not added, differ',
    ),
}


@pytest.mark.parametrize('mixed', [True, False])
@pytest.mark.parametrize('case', REFUSED)
def test_outputs_that_cannot_be_added_up(case: str, mixed: bool) -> None:
    first, second, message = REFUSED[case]
    op = mm.DifferentiableOP(
        space_id='a', choices={'a': first, 'b': second}, with_arch_param=mixed, num_chosen=2
    )
    kwargs = {'arch_param': torch.zeros(2)} if mixed else {}
    with pytest.raises(InputError, match=f"In space 'a': .*{message}"):
        op(torch.randn(2, 4), **kwargs)


def test_indices_cannot_be_mixed_but_added() -> None:
    choices = {name: Case(lambda x: x.argmax(-1)) for name in 'ab'}
    op = mm.DifferentiableOP(space_id='a', choices=choices)
    x = torch.randn(2, 4)
    with pytest.raises(InputError, match=r"'a': .*whole numbers \(int64\) cannot be mixed: 'a"):
        op(x, arch_param=torch.zeros(2))
    op = mm.DifferentiableOP(space_id='a', choices=choices, with_arch_param=False)
    assert op(x).equal(2 * x.argmax(-1))


def test_edges_tell_of_other_shapes_too() -> None:
    choices = {'p': nn.Linear(4, 8), 'q': nn.Linear(4, 1)}
    edge = mm.DifferentiableEdge(space_id='n', choices=choices)
    x = torch.randn(2, 4)
    with pytest.raises(InputError, match=r"'n'.*'p' returns shape \(2, 8\), 'q' returns shap"):
        edge([x, x], arch_param=torch.zeros(2))


@pytest.mark.parametrize('norms', [True, False])
def test_maps_of_other_shapes_are_refused_where_kernels_sum_them_up(norms: bool) -> None:
    def conv(out: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, out, 1), nn.BatchNorm2d(out) if norms else nn.Tanh())

    op = mm.DifferentiableOP(space_id='a', choices={'eight': conv(8), 'one': conv(1)})
    x = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    with pytest.raises(InputError, match=r"'eight' returns shape \(2, 8, 5, 5\), 'one' ret"):
        op(x, arch_param=torch.zeros(2))
