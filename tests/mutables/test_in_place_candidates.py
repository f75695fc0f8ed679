"""Nothing that a candidate does to its input reaches anybody else."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import mmrazor_mutators as mm
from mmrazor_mutators.errors import NASError
from mmrazor_mutators.mutables import isolation, mixing
from mmrazor_mutators.recomputation import checkpointed

learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')
F64 = torch.float64
WEIGHTS = torch.tensor([0.25, 0.75], dtype=F64)


class AddsInPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return x * 2


class InPlaceIn(nn.Module):
    def __init__(self, training: bool) -> None:
        super().__init__()
        self.when = training

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(3) if self.training is self.when else x * 3


class InPlaceFromTheSecondCall(nn.Module):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.mul_(3) if self.calls > 1 else x * 3


class InPlaceForSomeData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(3) if x.sum() > 0 else x * 3


class Scripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(x)


class WritesThroughAView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x.view(-1)[0] = 5.0
        return x.t().mul_(3).t()


class UsesTwice(nn.Module):
    """Code of a user's that changes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin() + x.cos()


def multiply(module: nn.Module, args: tuple[Tensor]) -> None:
    args[0].mul_(3)


def hooked() -> nn.Module:
    module = nn.Identity()
    module.register_forward_pre_hook(multiply)
    return module


def patched() -> nn.Module:
    module = nn.Identity()
    module.forward = lambda x: x.mul_(3)  # type: ignore[method-assign]
    return module


def nested() -> nn.Module:
    choices = {'a': nn.ReLU(inplace=True), 'b': nn.ReLU(inplace=True)}
    return nn.Sequential(
        mm.DifferentiableOP(
            space_id='inner', choices=choices, with_arch_param=False, num_chosen=2
        )
    )


def first_is_five(x: Tensor) -> Tensor:
    x = x.clone()
    x.flatten()[0] = 5.0
    return 3 * x


Reference = Callable[[Tensor], Tensor]
CASES: dict[str, tuple[Callable[[], nn.Module], Reference]] = {
    'switch': (lambda: nn.ReLU(inplace=True), torch.relu),
    'chain': (
        lambda: nn.Sequential(nn.Hardtanh(inplace=True), nn.Tanh()),
        lambda x: x.clamp(-1, 1).tanh(),
    ),
    'later': (
        lambda: nn.Sequential(nn.Tanh(), nn.ReLU(inplace=True)),
        lambda x: x.tanh().relu(),
    ),
    'code': (AddsInPlace, lambda x: 2 * (x + 1)),
    'view': (WritesThroughAView, first_is_five),
    'training': (lambda: InPlaceIn(True), lambda x: 3 * x),
    'evaluation': (lambda: InPlaceIn(False), lambda x: 3 * x),
    'second call': (InPlaceFromTheSecondCall, lambda x: 3 * x),
    'some data': (InPlaceForSomeData, lambda x: 3 * x),
    'traced': (lambda: torch.fx.symbolic_trace(Scripted()), torch.relu),
    'hook': (hooked, lambda x: 3 * x),
    'patched': (patched, lambda x: 3 * x),
    'nested': (nested, lambda x: 2 * x.relu()),
}


def prepared(first: nn.Module, kind: str = 'DartsMutator') -> tuple[nn.Module, Any]:
    op = mm.DifferentiableOP(
        space_id='a', choices={'first': first, 'twice': UsesTwice()}, num_chosen=2
    )
    supernet, mutator = nn.Sequential(op).double(), toys.build_mutator(kind)
    mutator.prepare_from_supernet(supernet)
    return supernet, mutator


def mixed(reference: Reference, x: Tensor) -> Tensor:
    return 0.25 * reference(x) + 0.75 * (x.sin() + x.cos())


def data(call: int = 0) -> Tensor:
    return torch.randn(6, 4, dtype=F64) + (1 if call % 2 else -1)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('case', CASES)
def test_mixtures(case: str, training: bool) -> None:
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    supernet.train(training)
    for call in range(4):
        x = data(call)
        before = x.clone()
        with mutator.mixing({'a': WEIGHTS}):
            out = supernet(x)
        assert_close(out, mixed(reference, before))
        assert x.equal(before)


def test_all_mutators(learning: str) -> None:
    for case in ('switch', 'code', 'some data', 'hook'):
        build, reference = CASES[case]
        supernet, mutator = prepared(build(), learning)
        for call in range(3):
            x = data(call)
            before = x.clone()
            supernet(x)
            assert x.equal(before)
            with mutator.mixing({'a': WEIGHTS}):
                assert_close(supernet(x), mixed(reference, before))
            assert x.equal(before)


def leaf(x: Tensor) -> Tensor:
    return x.requires_grad_()


def half(x: Tensor) -> Tensor:
    return torch.cat([x, x])[:6]


def strided(x: Tensor) -> Tensor:
    return torch.stack([x, x], -1)[..., 0]


def expanded(x: Tensor) -> Tensor:
    return x[:1].expand(6, 4)


def made(x: Tensor) -> Tensor:
    return leaf(x) * 1


@pytest.mark.parametrize('form', [leaf, half, strided, expanded, made])
@pytest.mark.parametrize('case', ['switch', 'code', 'second call'])
def test_inputs_of_all_kinds_and_their_gradients(case: str, form: Any) -> None:
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    for call in range(3):
        x = form(data(call))
        whole = x if x._base is None else x._base
        before = whole.detach().clone()
        with mutator.mixing({'a': WEIGHTS}):
            out = supernet(x)
        twin = x.detach().clone().requires_grad_()
        expected = mixed(reference, twin)
        assert_close(out, expected)
        assert whole.equal(before)
        if x.requires_grad:
            grads = torch.autograd.grad(out.square().sum(), x)
            assert_close(grads, torch.autograd.grad(expected.square().sum(), twin))


@pytest.mark.parametrize('case', CASES)
def test_inference_mode(case: str) -> None:
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    with torch.inference_mode():
        for call in range(3):
            x = data(call)
            before = x.clone()
            with mutator.mixing({'a': WEIGHTS}):
                out = supernet(x)
            assert_close(out, mixed(reference, before))
            assert x.equal(before)


@pytest.mark.parametrize('case', ['switch', 'code', 'second call', 'some data'])
def test_what_is_computed_again_for_the_backward_pass(case: str) -> None:
    build, _ = CASES[case]
    found = []
    for again in (False, True):
        supernet, mutator = prepared(build())
        for call in range(3):
            torch.manual_seed(call)
            x = data(call).requires_grad_()
            with mutator.mixing({'a': WEIGHTS}):
                if again:
                    with checkpointed(supernet[0]):
                        out = supernet(x * 1)
                else:
                    out = supernet(x * 1)
            found.append((out, *torch.autograd.grad(out.square().sum(), x)))
    assert_close(found[:3], found[3:], rtol=0, atol=0)


@pytest.mark.parametrize('case', ['switch', 'chain', 'code', 'training'])
@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
def test_compiled_supernets(case: str, backend: str) -> None:
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    compiled = torch.compile(supernet, backend=backend)
    for call in range(2):
        x = data(call)
        before = x.clone()
        with mutator.mixing({'a': WEIGHTS}):
            assert_close(compiled(x), mixed(reference, before))
        assert x.equal(before)


@pytest.mark.parametrize('case', ['switch', 'code', 'training', 'nested'])
def test_compiled_searches(case: str) -> None:
    build, _ = CASES[case]
    logits = []
    for compile in (False, {'backend': 'aot_eager'}):
        torch.manual_seed(0)
        supernet, mutator = prepared(build())
        with torch.no_grad():
            mutator.arch_params['a'].copy_(torch.tensor([0.3, -0.2]))
        search = mm.BilevelSearch(
            nn.Sequential(nn.Linear(4, 4).double(), supernet),
            mutator,
            nn.functional.cross_entropy,
            torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1),
            torch.optim.SGD(mutator.arch_params.values(), lr=0.1),
            compile=compile,
        )
        batch = data(), torch.randint(4, (6,))
        for _ in range(2):
            search.step(batch, batch)
        logits.append(mutator.arch_params['a'].detach().clone())
    assert_close(*logits)


class Residual(nn.Module):
    """The usual way to feel what a candidate does to its input."""

    def __init__(self, op: nn.Module) -> None:
        super().__init__()
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x) + x


def residual(case: str, kind: str = 'DartsMutator') -> tuple[nn.Module, Any]:
    supernet, mutator = prepared(CASES[case][0](), kind)
    mutator.release(supernet)
    supernet = nn.Sequential(nn.Identity(), Residual(supernet[0])).double()
    mutator = toys.build_mutator(kind)
    mutator.prepare_from_supernet(supernet)
    return supernet, mutator


@pytest.mark.parametrize('chosen', [['first'], ['first', 'twice']])
@pytest.mark.parametrize('ran', [True, False])
@pytest.mark.parametrize('case', [case for case in CASES if case != 'patched'])
def test_exported_networks(case: str, ran: bool, chosen: list[str]) -> None:
    supernet, mutator = residual(case)
    reference = CASES[case][1]

    def expected(x: Tensor) -> Tensor:
        out = reference(x) + x
        return out if len(chosen) == 1 else out + x.sin() + x.cos()

    for call in range(4 if ran else 0):
        supernet(data(call))
    subnet = {'a': {'chosen': chosen}}
    if case == 'nested':
        subnet['inner'] = {'chosen': ['a', 'b']}
    net = mutator.export_subnet(supernet, subnet)
    mutator.deploy_subnet(supernet, subnet)
    networks = [supernet, net]
    if case != 'traced':  # PyTorch does not copy its hooks.
        networks += [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for network in networks:
        for call in range(4):
            x = data(call)
            before = x.clone()
            assert_close(network(x), expected(before))
            assert x.equal(before)


def test_copied_supernets() -> None:
    for copied in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        supernet, mutator = prepared(InPlaceForSomeData())
        supernet(data(0))  # It changes nothing yet.
        supernet, mutator = copied((supernet, mutator))
        x = data(1)
        before = x.clone()
        with mutator.mixing({'a': WEIGHTS}):
            assert_close(supernet(x), mixed(lambda x: 3 * x, before))
        assert x.equal(before)


def test_hooks_are_where_something_was_seen_to_change_its_input() -> None:
    for first, count in ((UsesTwice(), 0), (AddsInPlace(), 1), (nn.Tanh(), 0)):
        supernet, mutator = prepared(first)
        supernet(data())
        net = mutator.export_subnet(supernet, {'a': {'chosen': ['first']}})
        assert len(net[0]._forward_pre_hooks) == count


def test_edges_and_one_shot_ops() -> None:
    x = torch.randn(6, 4)
    before = x.clone()
    edge = mm.DifferentiableEdge(
        space_id='n',
        choices={'p': nn.ReLU(inplace=True), 'q': AddsInPlace()},
        with_arch_param=False,
    )
    assert_close(edge([x, x]), before.relu() + 2 * (before + 1))
    out = edge([x, x], arch_param=torch.zeros(2))
    assert_close(out, before.relu() + 2 * (before + 1))
    op = mm.OneShotOP(space_id='o', choices={'relu': nn.ReLU(inplace=True), 'tanh': nn.Tanh()})
    for _ in range(2):
        op.set_choice_mask(torch.tensor([1, 0]))
        assert_close(op(x), before.relu())
    assert x.equal(before)
    part = mm.PartialChannelOP(
        {'relu': nn.ReLU(inplace=True)},
        channel_proportion=2,
        space_id='c',
        with_arch_param=False,
    )
    maps = -torch.rand(2, 4, 3, 3)
    before = maps.clone()
    part(maps)
    assert maps.equal(before)


def test_one_module_by_two_names() -> None:
    module = InPlaceFromTheSecondCall()
    op = mm.DifferentiableOP(space_id='a', choices={'one': module, 'two': module}).double()
    x = data()
    before = x.clone()
    for _ in range(2):
        assert_close(op(x, arch_param=torch.zeros(2)), 3 * before)
        assert x.equal(before)


class Fills(nn.Module):
    """Changes all of its arguments."""

    def forward(self, x: Tensor, states: list[Tensor], mask: Tensor | None = None) -> Tensor:
        states[0].mul_(2)
        states.append(x)
        if mask is not None:
            mask.logical_not_()
            return x.masked_fill_(mask, 0.0) + states[0]
        return x + states[0]


def test_further_arguments(learning: str) -> None:
    op = mm.DifferentiableOP(space_id='a', choices={'one': Fills(), 'two': Fills()})
    supernet, mutator = nn.ModuleDict({'op': op}), toys.build_mutator(learning)
    mutator.prepare_from_supernet(supernet)
    x, state, mask = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3, 4) > 0.5
    before = x.clone(), state.clone(), mask.clone()
    states = [state]
    for _ in range(2):
        with mutator.mixing({'a': torch.tensor([0.5, 0.5])}):
            assert_close(supernet['op'](x, states), x + 2 * state)
            masked = x.masked_fill(~mask, 0.0)
            assert_close(supernet['op'](x, states, mask=mask), masked + 2 * state)
        assert all(map(torch.equal, (x, state, mask), before))
        assert len(states) == 1


class Same(nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return query + (1 if query is key and key is value else 0)


def test_one_tensor_given_twice_is_one() -> None:
    """Attention projects it once then."""
    op = mm.DifferentiableOP(space_id='a', choices={'a': Same(), 'b': Same()})
    x = torch.zeros(2)
    assert op(x, x, value=x, arch_param=torch.zeros(2)).equal(torch.ones(2))
    assert op(x, x, value=x.clone(), arch_param=torch.zeros(2)).equal(torch.zeros(2))


@contextmanager
def watched(supernet: nn.Module) -> Iterator[list[Tensor]]:
    """Yield what candidates are lent in the block."""
    lent: list[Tensor] = []
    handles = [
        module.register_forward_pre_hook(lambda module, args: lent.append(args[0]))
        for module in supernet[0].choices.values()
    ]
    yield lent
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    ('first', 'copies'),
    [
        (nn.Linear(4, 4), 0),
        (UsesTwice(), 0),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True)), 0),
        (nn.TransformerEncoderLayer(4, 2, 8), 0),
        (nn.ReLU(inplace=True), 1),
        (AddsInPlace(), 1),
    ],
)
def test_values_are_copied_where_something_writes_to_them_alone(
    first: nn.Module, copies: int
) -> None:
    supernet, _ = prepared(copy.deepcopy(first))
    for _ in range(2):
        x = data()
        with watched(supernet) as lent:
            out = supernet(x)
        assert sum(not torch._C._is_cow_tensor(tensor) for tensor in lent) == copies
        out.sum().backward()
        assert sum(not torch._C._is_cow_tensor(tensor) for tensor in lent) == copies


NASBENCH = {
    'NasBench201SkipConnect': {},
    'NasBench201AvgPool': {},
    'NasBench201Conv': {'kernel_size': 3},
}


def test_kernels_read_what_waits_to_be_copied() -> None:
    """The candidates of a cell beside one of the user's."""
    kwargs = {'in_channels': 4, 'out_channels': 4, 'stride': 1}
    ops = {
        name: mm.build_op({'type': name, **kwargs, **extra}) for name, extra in NASBENCH.items()
    }
    x = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    mine = mm.DifferentiableOP(space_id='a', choices={**ops, 'mine': UsesTwice()})
    twin = copy.deepcopy(mine)
    logits = torch.randn(len(ops) + 1)
    out = mine(x, arch_param=logits)
    assert torch._C._is_cow_tensor(x)
    with mixing.summing_with(mixing.weighted_sum):  # Nothing waits there.
        assert_close(twin(x.clone(), arch_param=logits), out)


def test_no_registered_op_of_ours_changes_its_input() -> None:
    """Their class is all that an exported network looks at."""
    ours = [cls for cls in mm.OPS.module_dict.values() if '.ops.' in cls.__module__]
    seen = 0
    for cls in ours:
        kwargs = {'in_channels': 4, 'out_channels': 4, 'stride': 1}
        for extra in ({}, {'kernel_size': 3}):
            try:
                op = cls(**kwargs, **extra)
            except (TypeError, NASError):
                continue
            x = torch.randn(2, 4, 8, 8)
            before = x.clone()
            for training in (True, False):
                op.train(training)(x)
                assert x.equal(before), cls
            seen += 1
            break
    assert seen >= 10


class Helper(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.go(x)

    def go(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x, inplace=True)


class Writes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x[0] = 0.0
        return x


class Inherits(Helper, mm.ops.BaseOP):
    pass


@pytest.mark.parametrize(
    ('first', 'count'),
    [
        (AddsInPlace(), 1),
        (Helper(), 1),
        (Inherits(in_channels=4, out_channels=4), 1),
        (Writes(), 1),
        (InPlaceForSomeData(), 1),
        (nn.Sequential(nn.Tanh(), nn.ReLU(inplace=True)), 1),
        (hooked(), 1),
        (patched(), 1),
        (UsesTwice(), 0),
        (Same(), 0),
        (nn.Linear(4, 4), 0),
        (toys.Zero(4), 0),
    ],
)
def test_what_never_ran_is_judged_by_its_code(first: nn.Module, count: int) -> None:
    op = mm.DifferentiableOP(space_id='a', choices={'first': first})
    supernet, mutator = nn.Sequential(op), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    net = mutator.export_subnet(supernet, {'a': {'chosen': ['first']}})
    before = len(first._forward_pre_hooks)
    assert len(net[0]._forward_pre_hooks) - before == count


class Counts(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.called: dict[str, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket._qualified_op_name
        self.called[name] = self.called.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def test_our_cells_share_their_work_and_copy_nothing() -> None:
    """Edges hold mutables, whose candidates find what they share by their input."""
    cfg = {'in_channels': 3, 'num_classes': 4, 'base_channels': 4, 'num_layers': 1}
    supernet = mm.build_architecture({'type': 'DartsSupernet', **cfg, 'num_nodes': 2})
    mutator = mm.DartsMutator(extensions=[{'type': 'AuxiliarySkip'}, {'type': 'SkipDropout'}])
    mutator.prepare_from_supernet(supernet)
    with Counts() as mode:
        supernet(torch.randn(2, 3, 8, 8))
    assert 'aten::_lazy_clone' not in mode.called
    # One for each of the three sources, not for each of the five edges.
    assert mode.called['aten::max_pool2d_with_indices'] == 3
    assert mode.called['aten::avg_pool2d'] == 3


@pytest.mark.parametrize('case', CASES)
def test_a_pytorch_that_cannot_let_copies_wait(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, '_lazy_clone', torch.clone)
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    for call in range(3):
        x = data(call)
        before = x.clone()
        with mutator.mixing({'a': WEIGHTS}):
            assert_close(supernet(x), mixed(reference, before))
        assert x.equal(before)
    supernet, _ = prepared(nn.Linear(4, 4))
    with Counts() as mode:
        supernet[0].choices['twice'] = nn.Tanh()
        supernet(data())
    assert 'aten::clone' not in mode.called  # Layers of PyTorch do what they are told.


@pytest.mark.parametrize('case', ['switch', 'code'])
def test_transforms_of_torch_func(case: str) -> None:
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    x = torch.randn(5, 6, 4, dtype=F64)
    before = x.clone()
    with mutator.mixing({'a': WEIGHTS}):
        out = torch.func.vmap(supernet)(x)
        _, along = torch.func.jvp(supernet, (x[0],), (x[1],))
    assert_close(out, mixed(reference, before))
    assert x.equal(before)
    expected = torch.func.jvp(lambda x: mixed(reference, x), (before[0],), (before[1],))
    assert_close(along, expected[1])


@pytest.mark.parametrize('case', ['switch', 'chain', 'code'])
def test_exported_networks_that_are_compiled_and_exported_again(case: str) -> None:
    supernet, mutator = residual(case)
    net = mutator.export_subnet(supernet, {'a': {'chosen': ['first']}}).eval()
    x = data()
    expected = CASES[case][1](x) + x
    for network in (
        torch.compile(net, backend='aot_eager', fullgraph=True),
        torch.export.export(net, (x,)).module(),
    ):
        before = x.clone()
        assert_close(network(x), expected)
        assert x.equal(before)
