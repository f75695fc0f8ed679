"""Candidates as users bring them: in place, with more inputs, with structured outputs."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import mmrazor_mutators as mm
from mmrazor_mutators.errors import InputError

learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')
F64 = torch.float64


class AddsInPlace(nn.Module):
    """Changes its input, and says so nowhere."""

    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return x * 2


class InPlaceInTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(3) if self.training else x * 3


class UsesTwice(nn.Module):
    """Custom code that changes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin() + x.cos()


def prepared(supernet: nn.Module, kind: str = 'DartsMutator') -> tuple[nn.Module, Any]:
    mutator = toys.build_mutator(kind)
    mutator.prepare_from_supernet(supernet.double())
    return supernet, mutator


def op_of(**choices: nn.Module) -> mm.DifferentiableOP:
    return mm.DifferentiableOP(space_id='a', choices=choices)


CASES: dict[str, dict[str, Any]] = {
    'relu': {'relu': nn.ReLU(inplace=True), 'silu': nn.SiLU()},
    'code': {'adds': AddsInPlace(), 'twice': UsesTwice()},
    'mode': {'mode': InPlaceInTraining(), 'tanh': nn.Tanh()},
    'chain': {
        'chain': nn.Sequential(nn.Hardtanh(inplace=True), nn.Tanh()),
        'late': nn.Sequential(nn.Tanh(), nn.ReLU(inplace=True)),
    },
}
OUTPUTS: dict[str, Any] = {
    'relu': lambda x: (x.relu(), nn.functional.silu(x)),
    'code': lambda x: (2 * (x + 1), x.sin() + x.cos()),
    'mode': lambda x: (3 * x, x.tanh()),
    'chain': lambda x: (x.clamp(-1, 1).tanh(), x.tanh().relu()),
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('training', [True, False])
def test_what_works_in_place_reaches_nobody_else(
    case: str, training: bool, learning: str
) -> None:
    supernet, mutator = prepared(nn.Sequential(op_of(**copy.deepcopy(CASES[case]))), learning)
    supernet.train(training)
    x = torch.randn(6, 4, dtype=F64)
    before = x.clone()
    for _ in range(3):  # What is learnt in the first pass must not change the next ones.
        weights = torch.tensor([0.25, 0.75], dtype=F64)
        with mutator.mixing({'a': weights}):
            out = supernet(x)
        first, second = OUTPUTS[case](before)
        assert_close(out, 0.25 * first + 0.75 * second)
        assert x.equal(before)
        supernet(x)
        assert x.equal(before)


@pytest.mark.parametrize('case', CASES)
def test_sums_and_exported_networks_leave_their_input_alone(case: str) -> None:
    x = torch.randn(6, 4, dtype=F64)
    before = x.clone()
    for chosen in (list(CASES[case]), [next(iter(CASES[case]))]):
        op = mm.DifferentiableOP(
            space_id='a', choices=copy.deepcopy(CASES[case]), num_chosen=2
        ).double()
        mutator = mm.DartsMutator()
        supernet = nn.Sequential(op)
        mutator.prepare_from_supernet(supernet)
        for ran in (False, True):
            if ran:
                supernet(x)
            if not ran and case in ('code', 'mode'):
                continue  # Nobody can know before it ran.
            net = mutator.export_subnet(supernet, {'a': {'chosen': chosen}})
            expected = sum(OUTPUTS[case](before)[: len(chosen)])
            assert_close(net(x), expected)
            assert x.equal(before)
        mutator.deploy_subnet(supernet, {'a': {'chosen': chosen}})
        assert_close(supernet(x), expected)
        assert x.equal(before)


def test_edges_and_one_shot_ops_leave_their_input_alone() -> None:
    x = torch.randn(6, 4)
    before = x.clone()
    edge = mm.DifferentiableEdge(
        space_id='n',
        choices={'p': nn.ReLU(inplace=True), 'q': AddsInPlace()},
        with_arch_param=False,
    )
    assert_close(edge([x, x]), before.relu() + 2 * (before + 1))
    op = mm.OneShotOP(space_id='o', choices={'relu': nn.ReLU(inplace=True), 'tanh': nn.Tanh()})
    op.set_choice_mask(torch.tensor([1, 0]))
    assert_close(op(x), before.relu())
    assert x.equal(before)


class Clones(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += func is torch.ops.aten.clone.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ('choices', 'copies'),
    [
        ({'tanh': nn.Tanh(), 'linear': nn.Linear(4, 4)}, [0, 0]),
        ({'twice': UsesTwice(), 'linear': nn.Linear(4, 4)}, [1, 0]),
        ({'relu': nn.ReLU(inplace=True), 'linear': nn.Linear(4, 4)}, [1, 1]),
        # It is made of a map that nobody else has.
        ({'chain': CASES['chain']['late'], 'linear': nn.Linear(4, 4)}, [1, 0]),
    ],
)
def test_nothing_is_copied_where_nothing_works_in_place(choices: Any, copies: Any) -> None:
    supernet, _ = prepared(nn.Sequential(op_of(**copy.deepcopy(choices))))
    for expected in copies:
        with Clones() as mode:
            supernet(torch.randn(2, 4, dtype=F64))
        assert mode.count == expected


def test_a_switch_that_is_turned_later_is_an_error_once() -> None:
    op = op_of(relu=nn.ReLU(), silu=nn.SiLU())
    supernet, _ = prepared(nn.Sequential(op))
    x = torch.randn(2, 4, dtype=F64)
    supernet(x)
    op.choices['relu'].inplace = True
    with pytest.raises(InputError, match=r"space 'a': a choice changed its input.*relu, silu"):
        supernet(x.clone())
    before = x.clone()
    supernet(x)
    assert x.equal(before)


def test_nothing_is_counted_in_inference_mode() -> None:
    supernet, mutator = prepared(nn.Sequential(op_of(**copy.deepcopy(CASES['relu']))))
    with torch.inference_mode():
        x = torch.randn(3, 4, dtype=F64)
        before = x.clone()
        with mutator.mixing({'a': torch.tensor([0.5, 0.5], dtype=F64)}):
            out = supernet(x)
        assert x.equal(before)
        assert_close(out, sum(OUTPUTS['relu'](before)) / 2)


class Masked(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor, mask: Tensor, shift: float = 0.0) -> Tensor:
        return self.factor * x * mask + shift


class Forwards(nn.Module):
    def __init__(self, op: nn.Module) -> None:
        super().__init__()
        self.op = op

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.op(x, mask) + self.op(x, mask=mask, shift=2.0)


def test_every_further_argument_goes_to_every_candidate(learning: str) -> None:
    supernet, mutator = prepared(Forwards(op_of(one=Masked(1.5), two=Masked(-2.0))), learning)
    x, mask = torch.randn(3, 4, dtype=F64), torch.rand(3, 4, dtype=F64)
    weights = torch.tensor([0.25, 0.75], dtype=F64)
    with mutator.mixing({'a': weights}):
        out = supernet(x, mask)
    factor = 0.25 * 1.5 - 0.75 * 2.0
    assert_close(out, 2 * factor * x * mask + 2.0)
    supernet(x, mask).sum().backward()
    assert mutator.arch_params['a'].grad is not None
    net = mutator.export_subnet(supernet, mutator.search_subnet())
    assert net(x, mask).shape == x.shape


def test_attention_takes_its_mask_and_returns_a_tuple(learning: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.op = op_of(
                two=nn.MultiheadAttention(8, 2, batch_first=True),
                four=nn.MultiheadAttention(8, 4, batch_first=True),
            )

        def forward(self, x: Tensor, padding: Tensor, need_weights: bool = True) -> Any:
            return self.op(x, x, x, key_padding_mask=padding, need_weights=need_weights)

    supernet, mutator = prepared(Net(), learning)
    x = torch.randn(2, 5, 8, dtype=F64)
    padding = torch.arange(5).expand(2, 5) > torch.tensor([[2], [4]])
    weights = torch.tensor([0.5, 0.5], dtype=F64)
    for need_weights in (True, False):
        with mutator.mixing({'a': weights}):
            found = supernet(x, padding, need_weights)
        parts = [
            op(x, x, x, key_padding_mask=padding, need_weights=need_weights)
            for op in supernet.op.choices.values()
        ]
        assert_close(found[0], 0.5 * (parts[0][0] + parts[1][0]))
        if need_weights:
            assert_close(found[1], 0.5 * (parts[0][1] + parts[1][1]))
        else:
            assert found[1] is None


class Pair(NamedTuple):
    out: Tensor
    extra: dict[str, Tensor]


class Structured(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Pair:
        return Pair(self.factor * x, {'square': self.factor * x.square()})


def test_structures_are_mixed_leaf_by_leaf(learning: str) -> None:
    supernet, mutator = prepared(
        nn.Sequential(op_of(a=Structured(2.0), b=Structured(-1.0))), learning
    )
    x = torch.randn(3, 4, dtype=F64)
    weights = torch.tensor([0.5, 0.5], dtype=F64, requires_grad=True)
    with mutator.mixing({'a': weights}):
        found = supernet(x)
    assert isinstance(found, Pair)
    assert_close(found.out, 0.5 * x)
    assert_close(found.extra['square'], 0.5 * x.square())
    (grad,) = torch.autograd.grad(found.out.sum() + found.extra['square'].sum(), weights)
    whole = (x + x.square()).sum()
    assert_close(grad, torch.stack([2 * whole, -whole]))
    found = supernet(x)
    (found.out.sum() + found.extra['square'].sum()).backward()
    assert mutator.arch_params['a'].grad.abs().sum() > 0


def test_lstms_are_mixed_with_their_states() -> None:
    supernet, mutator = prepared(
        nn.Sequential(
            op_of(one=nn.LSTM(4, 6, batch_first=True), two=nn.LSTM(4, 6, batch_first=True))
        )
    )
    x = torch.randn(2, 3, 4, dtype=F64)
    with mutator.mixing({'a': torch.tensor([0.25, 0.75], dtype=F64)}):
        out, (h, c) = supernet(x)
    parts = [lstm(x) for lstm in supernet[0].choices.values()]
    for found, *own in zip((out, h, c), *[(p[0], *p[1]) for p in parts], strict=True):
        assert_close(found, 0.25 * own[0] + 0.75 * own[1])


class Whole(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x, x.argmax(-1)


@pytest.mark.parametrize(
    ('choices', 'message'),
    [
        (
            {'eight': nn.Linear(4, 8), 'one': nn.Linear(4, 1)},
            r"'eight' returns shape \(2, 8\), 'one' returns shape \(2, 1\)",
        ),
        (
            {'lstm': nn.LSTM(4, 4), 'linear': nn.Linear(4, 4)},
            r"differ in structure: 'lstm' returns \(\(2, 4\), .*'linear' returns shape \(2, 4",
        ),
        ({'whole': Whole(), 'again': Whole()}, r'whole numbers \(int64\) cannot be mixed'),
    ],
)
@pytest.mark.parametrize('mixed', [True, False])
def test_outputs_that_cannot_be_added_up(choices: Any, message: str, mixed: bool) -> None:
    op = mm.DifferentiableOP(
        space_id='a', choices=copy.deepcopy(choices), with_arch_param=mixed, num_chosen=2
    )
    x = torch.randn(2, 4)
    kwargs = {'arch_param': torch.zeros(2)} if mixed else {}
    if not mixed and 'whole' in choices:
        assert op(x)[1].equal(2 * x.argmax(-1))  # A sum of whole numbers is one.
        return
    with pytest.raises(InputError, match=f"In space 'a': .*{message}"):
        op(x, **kwargs)


@pytest.mark.parametrize('norms', [True, False])
def test_maps_of_other_shapes_are_refused_where_kernels_sum_them_up(norms: bool) -> None:
    def conv(out: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, out, 1), nn.BatchNorm2d(out) if norms else nn.Tanh())

    op = op_of(eight=conv(8), one=conv(1))
    x = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    with pytest.raises(InputError, match=r"'eight' returns shape \(2, 8, 5, 5\), 'one' ret"):
        op(x, arch_param=torch.zeros(2))


def test_logits_by_position_as_in_v0_2_0() -> None:
    op = op_of(twice=Structured(2.0), minus=Structured(-1.0))
    x = torch.ones(1, 2)
    assert_close(op(x, torch.zeros(2)).out, 0.5 * x)
    assert_close(op(x, torch.zeros(2), lambda a: mm.typing.Mixture(a + 1)).out, x)
