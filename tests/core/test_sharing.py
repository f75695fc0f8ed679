"""What candidates of one source share: computed once, with the results of the plain loop."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import mmrazor_mutators as mm
from mmrazor_mutators.mutables import find_mutables
from mmrazor_mutators.sharing import Prologue, run_candidate, shared_work

DARTS = {'type': 'DartsSupernet', 'base_channels': 4, 'num_layers': 3, 'num_nodes': 3}
NB201 = {'type': 'NasBench201Supernet', 'base_channels': 4, 'num_cells': 1}
spaces = pytest.mark.parametrize('space', [DARTS, NB201], ids=['darts', 'nasbench201'])


class Squared(nn.Module):
    """A user's candidate that joins in; counts how often it begins."""

    def __init__(self, factor: float, begun: list[float]) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))
        self.begun = begun

    def square(self, x: Tensor) -> Tensor:
        self.begun.append(self.factor.item())
        return x.square()

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x.square()

    def prologue(self) -> Prologue:
        return Prologue('square', self.square)

    def epilogue(self, shared: Tensor) -> Tensor:
        return self.factor * shared


@pytest.fixture
def begun() -> list[float]:
    return []


@pytest.fixture
def ops(begun: list[float]) -> list[Squared]:
    return [Squared(factor, begun) for factor in (2.0, 3.0)]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 4, dtype=torch.float64)


def test_a_prologue_runs_once_per_source(
    ops: list[Squared], begun: list[float], x: Tensor
) -> None:
    other = x.clone()
    with shared_work():
        outputs = [run_candidate(op, source) for source in (x, other) for op in ops]
    assert begun == [2.0, 2.0]
    for output, factor in zip(outputs, (2, 3, 2, 3), strict=True):
        assert_close(output, factor * x**2)
    run_candidate(ops[1], x)
    run_candidate(ops[0], x)
    assert begun == [2.0, 2.0, 3.0, 2.0]  # Nothing outlives the block.


def test_blocks_end_when_they_raise_and_may_be_nested(
    ops: list[Squared], begun: list[float], x: Tensor
) -> None:
    with pytest.raises(ValueError, match='stop'), shared_work():
        raise ValueError('stop')
    with shared_work():
        run_candidate(ops[0], x)
        with shared_work():
            run_candidate(ops[0], x)
        run_candidate(ops[0], x)
    assert len(begun) == 2


def test_weights_multiply(ops: list[Squared], x: Tensor) -> None:
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    out = run_candidate(ops[0], x, weight)
    assert_close(out, 0.3 * 2 * x**2)
    assert_close(torch.autograd.grad(out.sum(), weight)[0], (2 * x**2).sum())


def test_what_runs_without_a_graph_is_not_shared_with_what_has_one(
    ops: list[Squared], begun: list[float], x: Tensor
) -> None:
    x.requires_grad_()
    with shared_work():
        with torch.no_grad():
            silent = run_candidate(ops[0], x)
        loud = run_candidate(ops[1], x)
    assert len(begun) == 2
    assert not silent.requires_grad
    assert_close(torch.autograd.grad(loud.sum(), x)[0], 6 * x)


@pytest.mark.parametrize(
    'hook', ['forward_pre', 'forward', 'full_backward', 'full_backward_pre']
)
def test_hooks_keep_a_candidate_out(hook: str, ops: list[Squared], x: Tensor) -> None:
    calls = []
    getattr(ops[0], f'register_{hook}_hook')(lambda *_: calls.append(1))
    x.requires_grad_()
    with shared_work():
        out = run_candidate(ops[0], x)
    out.sum().backward()
    assert calls == [1]


def test_threads_share_nothing(ops: list[Squared], begun: list[float], x: Tensor) -> None:
    with shared_work():
        run_candidate(ops[0], x)
        thread = threading.Thread(target=run_candidate, args=(ops[0], x))
        thread.start()
        thread.join()
    assert len(begun) == 2


def build(space: dict[str, Any], seed: int = 0, **kwargs: Any) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    cfg = {**space, 'in_channels': 2, 'num_classes': 3, **kwargs}
    supernet = mm.build_architecture(cfg)
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    supernet.double()
    with torch.no_grad():
        for logits in mutator.double().arch_params.values():
            logits.normal_()
    return supernet, mutator


def keep_out(supernet: nn.Module) -> None:
    """Let every candidate run by itself, as a plain loop would."""
    for mutable in find_mutables(supernet):
        for choice in mutable.choices.values():
            choice.register_forward_hook(lambda *_: None)


@spaces
@pytest.mark.parametrize(
    ('training', 'size', 'channels_last'),
    [(True, 8, True), (True, 9, False), (False, 8, False), (False, 9, True)],
)
def test_results_are_those_of_the_plain_loop(
    space: dict[str, Any], training: bool, size: int, channels_last: bool
) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    found = []
    for plain in (False, True):
        supernet, mutator = build(space)
        images = torch.randn(4, 2, size, size, dtype=torch.float64)
        supernet(images)  # Running statistics that differ from those at the start.
        supernet.train(training).to(memory_format=layout)
        if plain:
            keep_out(supernet)
        images = images.contiguous(memory_format=layout).requires_grad_()
        out = supernet(images)
        slope = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
        leaves = [images, *mutator.arch_params.values(), *supernet.parameters()]
        grads = torch.autograd.grad((out * slope).sum(), leaves)
        found.append([out, *grads, *(b.double() for b in supernet.buffers())])
    for mine, naive in zip(*found, strict=True):
        # Some gradients are 0 but for rounding: that of what a norm takes away.
        assert (mine - naive).abs().max() <= 1e-12 * naive.abs().max() + 1e-14


class Counting(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@spaces
def test_less_is_computed(space: dict[str, Any]) -> None:
    counts = []
    for plain in (False, True):
        supernet, _ = build(space)
        if plain:
            keep_out(supernet)
        with Counting() as counting:
            supernet(torch.randn(4, 2, 8, 8, dtype=torch.float64))
        counts.append([counting.counts[name] for name in ('relu', 'avg_pool2d', 'mul')])
    for shared, by_itself in zip(*counts, strict=True):
        assert 0 < shared < by_itself


@spaces
def test_an_earlier_graph_stays_good(space: dict[str, Any]) -> None:
    supernet, _ = build(space)
    images = torch.randn(4, 2, 8, 8, dtype=torch.float64)
    for mutable in find_mutables(supernet):
        for choice in mutable.choices.values():  # By itself, which notes its statistics.
            if hasattr(choice, 'pool'):
                width = choice.in_channels
                out = choice(torch.randn(4, width, 8, 8, dtype=torch.float64).requires_grad_())
    supernet(images)
    out.sum().backward()
