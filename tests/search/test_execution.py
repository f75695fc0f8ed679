"""Cells that are computed once more in the backward pass: the same numbers from less memory."""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import toys
from execution_searches import (
    ARCHITECTURES,
    Counting,
    batches,
    built,
    search_over,
    toy_search_over,
)
from torch import Tensor, nn
from torch.testing import assert_close
from toy_searches import assert_same_state, state_of

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.export import export_subnet
from mmrazor_mutators.recomputation import Moment, checkpointed
from mmrazor_mutators.search.execution import Execution, find_cells
from mmrazor_mutators.search.memory import peak_bytes

EXACT = {'rtol': 1e-12, 'atol': 1e-14}
KINDS = pytest.mark.parametrize('kind', ARCHITECTURES)


class OneCell(nn.Module):
    """All mutables, and some that is random or counts, in one module inside of a cell."""

    is_cell = True

    def __init__(self) -> None:
        super().__init__()
        self.inner = toys.ToySupernet()
        self.dropout = nn.Dropout(0.3)

    def forward(self, xs: list[Tensor], *, scale: Tensor) -> Tensor:
        return self.dropout(self.inner(xs[0])) * scale


class Decaying(nn.Module):
    """What it returns depends on a buffer, which each training pass replaces by a new one."""

    is_cell = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0]))
        self.register_buffer('factor', torch.tensor(8.0))
        self.register_buffer('nothing', None)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.factor = self.factor / 2
            self.factor.mul_(0.5)
        return (self.factor * self.weight * x).tanh()


def gradients_of(
    supernet: Any, params: Any, forward: Any, context: Any, **options: Any
) -> tuple[Any, ...]:
    """Return outputs, gradients and buffers of one pass from a fixed random state."""
    torch.manual_seed(3)
    with context:
        outputs = forward()
    loss = outputs.square().sum() + outputs.sum()
    grads = torch.autograd.grad(loss, params, allow_unused=True, **options)
    buffers = {name: b.clone() for name, b in supernet.named_buffers()}
    return outputs.detach(), [*grads], buffers


def both_ways(supernet: Any, params: Any, forward: Any) -> list[tuple[Any, ...]]:
    """Return what a pass gives without checkpoints and with them, from the same buffers."""
    execution = Execution(supernet, checkpoint_cells=True)
    before = copy.deepcopy(supernet.state_dict())
    plain = gradients_of(supernet, params, forward, nullcontext())
    supernet.load_state_dict(before)
    return [plain, gradients_of(supernet, params, forward, execution.forward_context())]


@KINDS
@pytest.mark.parametrize(
    ('mutator_type', 'training'),
    [
        ('DartsMutator', True),
        ('SNASMutator', True),
        ('GDASMutator', True),
        ('PCDartsMutator', True),
        ('SNASMutator', False),
        ('PCDartsMutator', False),
    ],
)
def test_passes_are_the_same(mutator_type: str, training: bool, kind: str) -> None:
    supernet, mutator = built(kind, mutator_type)
    supernet.train(training)
    images = torch.randn(3, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    params = [images, *toys.logits_and_weights(supernet, mutator)]
    counts = [Counting(cell) for cell in find_cells(supernet)]
    plain, recomputed = both_ways(supernet, params, lambda: supernet(images))
    assert [count.calls for count in counts] == [3] * len(counts)  # Once, and twice.
    assert_same_state(list(recomputed), list(plain), **EXACT)
    assert any(g is not None and g.abs().max() > 0 for g in plain[1][1:])


@pytest.mark.parametrize(
    ('kind', 'hypergradient'),
    [
        ('darts', 'first_order'),
        ('darts', 'finite_difference'),
        ('nasbench201', 'first_order'),
        ('nasbench201', 'finite_difference'),
        ('nasbench201', 'exact'),
        ('nasbench201', 'neumann'),
        ('nasbench201', 'cg'),
    ],
)
def test_steps_are_the_same(hypergradient: str, kind: str) -> None:
    states = []
    for checkpoint_cells in (False, True):
        search = toy_search_over(kind, 'SNASMutator', hypergradient, checkpoint_cells)
        counts = [Counting(cell) for cell in search.execution.cells]
        torch.manual_seed(1)
        logs = [search.step(*batches()) for _ in range(2)]
        assert len(counts) == (len(find_cells(search.supernet)) if checkpoint_cells else 0)
        assert all(count.calls >= 8 for count in counts)
        states.append([logs, state_of(search), torch.get_rng_state()])
    assert_same_state(states[1], states[0], **EXACT)


EXTENSIONS = {
    'AuxiliarySkip': {},
    'SkipDropout': {'start': 0.5, 'warmup': 0},
    'OperationFreezing': {'window': 1, 'threshold': 0.0},
    'AdversarialPerturbation': {'steps': 2},
}


@pytest.mark.parametrize('name', EXTENSIONS)
def test_steps_with_extensions_are_the_same(name: str) -> None:
    states = []
    for checkpoint_cells in (False, True):
        extensions = [{'type': name, **EXTENSIONS[name]}]
        search = toy_search_over(
            'nasbench201',
            'DartsMutator',
            'first_order',
            checkpoint_cells,
            extensions=extensions,
        )
        search.on_epoch(1, 4)
        torch.manual_seed(1)
        logs = [search.step(*batches()) for _ in range(2)]
        states.append([logs, state_of(search), search.mutator.state_dict()])
    assert_same_state(states[1], states[0], **EXACT)


@pytest.mark.parametrize('mutator_type', ['SNASMutator', 'GDASMutator'])
def test_each_pass_keeps_its_own_draw(mutator_type: str) -> None:
    """The first pass is recomputed when the second one has drawn already."""
    supernet, mutator = built('nasbench201', mutator_type)
    images = torch.randn(2, 3, 2, 8, 8, dtype=torch.float64)
    params = toys.logits_and_weights(supernet, mutator)
    drawn: list[Any] = []

    def forward() -> Tensor:
        first = supernet(images[0])
        drawn.append(mutator.mixtures)
        second = supernet(images[1])
        drawn.append(mutator.mixtures)
        return first + 2 * second

    plain, recomputed = both_ways(supernet, params, forward)
    assert_same_state(list(recomputed), list(plain), **EXACT)
    first, second = drawn[:2]
    assert any(not first[key].weights.equal(second[key].weights) for key in first)
    # The pass that is over is still the last one.
    assert mutator.mixtures is drawn[-1]


@pytest.mark.parametrize('mutator_type', ['SNASMutator', 'GDASMutator'])
def test_a_cell_that_holds_the_whole_space(mutator_type: str) -> None:
    """It begins a pass by itself, and its recomputation begins no other one."""
    supernet, mutator = toys.prepared(mutator_type, OneCell())
    x, scale = torch.randn(6, 3).double(), torch.randn(2).double().requires_grad_()
    params = [scale, *toys.logits_and_weights(supernet, mutator)]
    plain, recomputed = both_ways(supernet, params, lambda: supernet([x], scale=scale))
    assert_same_state(list(recomputed), list(plain), **EXACT)
    assert plain[1][0].abs().min() > 0


def test_a_mutable_that_is_a_cell() -> None:
    class CellOP(mm.DifferentiableOP):
        is_cell = True

    supernet, mutator = toys.prepared('SNASMutator', toys.ToySupernet(op=CellOP))
    assert len(find_cells(supernet)) == 6
    images = torch.randn(2, 6, 3, dtype=torch.float64)
    params = toys.logits_and_weights(supernet, mutator)
    plain, recomputed = both_ways(
        supernet, params, lambda: supernet(images[0]) + 2 * supernet(images[1])
    )
    assert_same_state(list(recomputed), list(plain), **EXACT)
    assert all(mm.mutators.is_bound(cell) for cell in find_cells(supernet))


def test_buffers_and_modes_of_the_forward_pass() -> None:
    cell, x = Decaying(), torch.tensor([0.3, 0.1])
    execution = Execution(cell, checkpoint_cells=True)
    with execution.forward_context():
        out = cell(cell(x))  # With the factors 2 and 0.5.
    assert cell.factor == 0.5
    cell.eval()
    last = cell.factor
    with torch.no_grad():
        cell.factor.fill_(7.0)
    twice = [
        torch.autograd.grad(out.sum(), cell.weight, retain_graph=True)[0] for _ in range(2)
    ]
    w = cell.weight.detach().clone().requires_grad_()
    expected = torch.autograd.grad((0.5 * w * (2.0 * w * x).tanh()).tanh().sum(), w)[0]
    for grad in twice:
        assert_close(grad, expected)
    assert cell.factor is last
    assert cell.factor == 7.0
    assert not cell.training


def interrupted_pass(norm: Any, expected_mean: Tensor) -> None:
    assert norm.training
    assert norm.running_mean.equal(expected_mean)
    norm(torch.randn(4, 2))
    raise KeyboardInterrupt


def test_a_moment_ends_also_when_its_block_fails() -> None:
    norm = nn.BatchNorm1d(2)
    norm(torch.randn(4, 2))
    moment, mean = Moment(norm), norm.running_mean.clone()
    norm(torch.randn(4, 2))
    norm.eval()
    later = norm.running_mean.clone()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), moment:
            interrupted_pass(norm, mean)
        assert not norm.training
        assert norm.running_mean.equal(later)
        assert norm.num_batches_tracked == 2


def test_without_gradients_a_cell_runs_as_always() -> None:
    cell = Decaying()
    count = Counting(cell)
    with torch.no_grad(), checkpointed(cell):
        out = cell(torch.tensor([0.3, 0.1]))
    assert out.grad_fn is None
    assert_close(out, torch.tensor([1.2, -0.2]).tanh())
    assert count.calls == 1


def test_a_block_in_a_block_recomputes_once() -> None:
    cell = Decaying()
    count = Counting(cell)
    with checkpointed(cell), checkpointed(cell):
        out = cell(torch.tensor([0.3, 0.1]))
    assert 'forward' in cell.__dict__  # The counting one's.
    out.sum().backward()
    assert count.calls == 2


def test_nothing_is_left_on_the_supernet() -> None:
    supernet, mutator = built('darts', 'GDASMutator')
    modules = dict(supernet.named_modules())
    before = {name: dict(module.__dict__) for name, module in modules.items()}
    keys = list(supernet.state_dict())
    execution = Execution(supernet, channels_last=False, checkpoint_cells=True)
    images = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    with execution.forward_context():
        assert all('forward' in cell.__dict__ for cell in execution.cells)
        assert list(supernet.state_dict()) == keys
        inside = [copy.deepcopy(supernet), pickle.loads(pickle.dumps(supernet))]
        with pytest.raises(mm.errors.InputError, match=r'got shape \(1, 2\)'):
            supernet(torch.zeros(1, 2))
    with pytest.raises(KeyboardInterrupt), execution.forward_context():
        raise KeyboardInterrupt
    assert {name: dict(module.__dict__) for name, module in modules.items()} == before
    # Copies that are made inside have cells of their own, and so does what is exported.
    exported = export_subnet(supernet, mutator.search_subnet())
    assert not any('forward' in cell.__dict__ for cell in find_cells(exported))
    expected = toys.run(supernet.eval(), images)
    for twin in inside:
        own = {id(module) for module in twin.modules()}
        for cell in find_cells(twin):
            assert id(cell.__dict__['forward'].module) in own
            assert id(cell.__dict__['forward'].function.__self__) in own
        assert_close(toys.run(twin.eval(), images), expected)


def test_a_forward_of_its_own_comes_back() -> None:
    cell = Decaying()
    own = cell.__dict__['forward'] = lambda x: x * cell.weight
    with checkpointed(cell):
        cell(torch.ones(2)).sum().backward()
    assert cell.__dict__['forward'] is own
    assert_close(cell.weight.grad, torch.ones(2))


def test_a_copy_of_a_search_recomputes_its_own_cells() -> None:
    search = toy_search_over('nasbench201', 'DartsMutator', 'first_order', True)
    twin = copy.deepcopy(search)
    assert {id(c) for c in twin.execution.cells} == {id(c) for c in find_cells(twin.supernet)}
    data = batches()
    for _ in range(2):
        search.step(*data)
        twin.step(*data)
    assert_same_state(state_of(twin), state_of(search))


def test_remove() -> None:
    supernet, _ = built('darts', 'DartsMutator')
    execution = Execution(supernet, checkpoint_cells=True)
    execution.remove()
    with execution.forward_context():
        assert not any('forward' in cell.__dict__ for cell in find_cells(supernet))


@pytest.mark.parametrize('channels_last', [True, False])
def test_the_layout(channels_last: bool) -> None:
    supernet = nn.Sequential(nn.Conv2d(2, 4, 3))
    Execution(supernet, **({} if channels_last else {'channels_last': False}))
    weight = supernet[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_cells_inside_of_cells_are_part_of_them() -> None:
    class Outer(nn.Sequential):
        is_cell = True

    outer, other = Outer(Decaying(), nn.Sequential(Decaying())), Decaying()
    instance = nn.ReLU()
    instance.is_cell = True  # type: ignore[assignment]  # A class says so, no instance.
    assert find_cells(nn.Sequential(outer, instance, other, outer)) == [outer, other]
    assert find_cells(outer[1]) == [outer[1][0]]


def test_a_supernet_without_cells() -> None:
    supernet = nn.Sequential(nn.Conv2d(2, 4, 3))
    layout = supernet[0].weight.stride()
    expected = r'cells for checkpoint_cells=True, but Sequential has no module .*is_cell = True'
    with pytest.raises(ConfigError, match=expected):
        Execution(supernet, checkpoint_cells=True)
    assert supernet[0].weight.stride() == layout


@pytest.mark.parametrize('name', ['channels_last', 'checkpoint_cells'])
@pytest.mark.parametrize('value', [1, None, 'yes'])
def test_bad_flags(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f'`{name}` to be True or False, but got {value!r}'):
        Execution(Decaying(), **{name: value})


def test_a_step_holds_less() -> None:
    images, targets = torch.randn(16, 2, 12, 12), torch.tensor([0, 1, 2, 0] * 4)
    batch, peaks = (images, targets), []
    for checkpoint_cells in (False, True):
        supernet = mm.NasBench201Supernet(2, 3, base_channels=4, num_cells=2)
        mutator = mm.DartsMutator()
        mutator.prepare_from_supernet(supernet)
        search = search_over(supernet, mutator, checkpoint_cells=checkpoint_cells)
        search.step(batch, batch)
        peaks.append(peak_bytes(lambda search=search: search.step(batch, batch)))
    assert peaks[1] < 0.5 * peaks[0], peaks
