"""Passes in bfloat16: which numbers are rounded, which are not, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import toys
from execution_searches import ARCHITECTURES, batches, built, search_over
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.mutables import find_mutables
from mmrazor_mutators.search.execution import Execution, check_precision

BF16 = torch.bfloat16


@pytest.fixture(params=toys.LEARNING_MUTATORS)
def mutator_type(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from toys.mutator_of(request)


def test_what_is_rounded_and_what_is_not(mutator_type: str) -> None:
    check_rounding('nasbench201', mutator_type)


@pytest.mark.parametrize('name', ['SNASMutator', 'PCDartsMutator'])
def test_what_is_rounded_in_the_darts_space(name: str) -> None:
    check_rounding('darts', name)


def floats(kind: str, mutator_type: str) -> tuple[Any, Any]:
    supernet, mutator = built(kind, mutator_type, drop_prob=0.0)
    return supernet.float(), mutator.float()


def one_pass(supernet: Any, mutator: Any, images: Tensor, **options: Any) -> dict[str, Any]:
    """Return what a pass from a fixed random state makes, and the types of the mixed maps."""
    seen: set[torch.dtype] = set()
    mutables = list(find_mutables(supernet))
    hooks = [m.register_forward_hook(lambda *args: seen.add(args[2].dtype)) for m in mutables]
    execution = Execution(supernet, **options)
    torch.manual_seed(3)
    with execution.forward_context():
        outputs = supernet(images)
        loss = nn.functional.cross_entropy(outputs, torch.arange(len(images)) % 3)
    params = toys.logits_and_weights(supernet, mutator)
    grads = torch.autograd.grad(loss, params, allow_unused=True)
    for hook in hooks:  # A recomputation has to meet the same ones.
        hook.remove()
    weights = {key: mixture.weights.detach() for key, mixture in mutator.mixtures.items()}
    buffers = {name: b.clone() for name, b in supernet.named_buffers()}
    return {'outputs': outputs, 'loss': loss, 'grads': grads, 'maps': seen, **locals()}


def check_rounding(kind: str, mutator_type: str) -> None:
    supernet, mutator = floats(kind, mutator_type)
    images, start = torch.randn(8, 2, 8, 8), supernet.state_dict()
    start = {name: value.clone() for name, value in start.items()}
    full = one_pass(supernet, mutator, images)
    supernet.load_state_dict(start)
    low = one_pass(supernet, mutator, images, autocast='bfloat16')
    assert full['maps'] == {torch.float32}
    assert low['maps'] == {BF16}
    for result in (full, low):
        assert result['outputs'].dtype == result['loss'].dtype == torch.float32
        assert {g.dtype for g in result['grads'] if g is not None} == {torch.float32}
    # Neither the draws nor the weights of the mixture know of it.
    assert_close(low['weights'], full['weights'], rtol=0, atol=0)
    assert not low['outputs'].equal(full['outputs'])
    assert_close(low['loss'], full['loss'], rtol=0.05, atol=0)
    assert (low['outputs'] - full['outputs']).norm() < 0.15 * full['outputs'].norm()
    for name, buffer in low['buffers'].items():
        assert buffer.dtype == full['buffers'][name].dtype, name
        if buffer.is_floating_point():
            assert_close(buffer, full['buffers'][name], rtol=0.05, atol=0.05)


@pytest.mark.parametrize('kind', ARCHITECTURES)
def test_recomputed_cells_are_rounded_alike(kind: str) -> None:
    supernet, mutator = floats(kind, 'SNASMutator')
    images = torch.randn(8, 2, 8, 8)
    start = {name: value.clone() for name, value in supernet.state_dict().items()}
    kept = one_pass(supernet, mutator, images, autocast='bfloat16')
    supernet.load_state_dict(start)
    options = {'autocast': 'bfloat16', 'checkpoint_cells': True}
    recomputed = one_pass(supernet, mutator, images, **options)
    for key in ('loss', 'grads', 'buffers'):
        assert_close(recomputed[key], kept[key], rtol=0, atol=0)


OPS = {
    'Identity': {},
    'DartsDilConv': {'kernel_size': 3},
    'DartsPoolBN': {'pool_type': 'max'},
    'DartsSepConv': {'kernel_size': 3},
    'DartsSkipConnect': {},
    'DartsZero': {},
    'NasBench201AvgPool': {},
    'NasBench201Conv': {'kernel_size': 3},
    'NasBench201SkipConnect': {},
    'NasBench201Zero': {},
}


@pytest.mark.parametrize('channels_last', [True, False])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('name', OPS)
def test_every_op_returns_maps_of_one_type(name: str, stride: int, channels_last: bool) -> None:
    cfg = {'type': name, 'in_channels': 4, 'out_channels': 4, 'stride': stride}
    op = mm.build_op({**cfg, **OPS[name]})
    Execution(op, channels_last=channels_last)
    x = torch.randn(2, 4, 6, 6)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    mutable = mm.DifferentiableOP(choices={'a': op, 'b': nn.AvgPool2d(stride)}, space_id='a')
    weights = torch.tensor([0.7, 0.3], requires_grad=True)
    results = []
    for source in (x, x.to(BF16)):
        with torch.autocast('cpu', BF16, enabled=source.dtype == BF16):
            mixed = mutable(source, arch_param=weights, relax=lambda w: mm.typing.Mixture(w))
        assert mixed.dtype == source.dtype
        grads = torch.autograd.grad(mixed.square().sum(), [weights, *op.parameters()])
        results.append([mixed.float(), *grads])
    for low, full in zip(results[1], results[0], strict=True):
        assert low.dtype == torch.float32
        assert (low - full).norm() <= 0.1 * full.norm() + 1e-3


def test_the_sum_of_a_mixture_is_rounded_at_each_addition() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones_like(x)

    choices = {str(i): Constant() for i in range(3)}
    mutable = mm.DifferentiableOP(choices=choices, space_id='a')
    weights = torch.tensor([1.0, 2**-9, 2**-9])
    for dtype, expected in ((BF16, 1.0), (torch.float32, 1 + 2**-8)):
        x = torch.zeros(1, 1, dtype=dtype)
        mixed = mutable(x, arch_param=weights, relax=lambda w: mm.typing.Mixture(w))
        assert mixed.dtype == dtype
        assert mixed.item() == expected


def test_outputs_of_any_form_are_float32() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Any:
            return {'a': self.linear(x), 'rest': (x.argmax(), [self.linear(x).double()], 'b')}

    supernet = Forked()
    x = torch.tensor([[1.0, 3.0]])
    expected = nn.functional.linear(x.to(BF16), *[p.to(BF16) for p in supernet.parameters()])
    with Execution(supernet, autocast='bfloat16').forward_context():
        out = supernet(x)
        inside = supernet.linear(x)
    assert inside.dtype == BF16
    assert out['a'].dtype == torch.float32
    assert_close(out['a'], expected.float(), rtol=0, atol=0)
    index, (double,), text = out['rest']
    assert (index.dtype, double.dtype, text) == (torch.int64, torch.float64, 'b')
    assert supernet(x)['a'].grad_fn is not None
    assert supernet.linear(x).dtype == torch.float32
    assert not supernet._forward_hooks


def test_weights_that_change_between_passes_are_cast_anew() -> None:
    """Also inside of one block, and inside of an autocast of the user's own."""
    supernet = nn.Linear(1, 1, bias=False)
    execution, x = Execution(supernet, autocast='bfloat16'), torch.ones(1, 1)
    with torch.autocast('cpu', BF16), execution.forward_context():
        for value in (1.0, 2.0):
            with torch.no_grad():
                supernet.weight.fill_(value)
            assert supernet(x).item() == value


def test_remove() -> None:
    supernet = nn.Linear(1, 1)
    execution = Execution(supernet, autocast='bfloat16')
    execution.remove()
    with execution.forward_context():
        assert supernet.weight.dtype == (supernet.weight @ supernet.weight).dtype


@pytest.mark.parametrize('hypergradient', ['first_order', 'exact', 'neumann', 'cg'])
def test_hypergradients(hypergradient: str) -> None:
    """Close to those in full precision, from the same weights and draws."""
    found = []
    for autocast in (None, 'bfloat16'):
        supernet, mutator = floats('nasbench201', 'DartsMutator')
        search = search_over(supernet, mutator, hypergradient, autocast=autocast)
        data = batches(size=16, dtype=torch.float32)
        found.append(search.hypergradient(search, *data))
        torch.manual_seed(0)
    full, low = found
    assert low.loss.dtype == torch.float32
    assert_close(low.loss, full.loss, rtol=0.02, atol=0.02)
    flat = [torch.cat([g.flatten() for g in result.grads]) for result in (full, low)]
    assert flat[1].dtype == torch.float32
    assert torch.cosine_similarity(*flat, dim=0) > 0.9


def test_a_search_refuses_finite_differences() -> None:
    supernet, mutator = floats('nasbench201', 'DartsMutator')
    with pytest.raises(ConfigError, match=r"'finite_difference' subtracts"):
        search_over(supernet, mutator, 'finite_difference', autocast='bfloat16')


def test_finite_differences_are_refused() -> None:
    finite, first = mm.build_hypergradient('finite_difference'), mm.build_hypergradient('exact')
    check_precision(None, finite)
    check_precision('bfloat16', first)
    expected = r"'finite_difference' subtracts .* less than autocast='bfloat16' can tell apart"
    with pytest.raises(ConfigError, match=expected):
        check_precision('bfloat16', finite)


@pytest.mark.parametrize('autocast', ['float32', 'bf16', torch.bfloat16, True, ''])
def test_unknown_precisions(autocast: Any) -> None:
    expected = f"`autocast` to be 'bfloat16', 'float16' or None, but got {autocast!r}$"
    with pytest.raises(ConfigError, match=expected):
        Execution(nn.Linear(1, 1), autocast=autocast)


def test_float16() -> None:
    supernet = nn.Linear(1, 1)
    with Execution(supernet, autocast='float16').forward_context():
        assert (supernet.weight @ supernet.weight).dtype == torch.float16
        assert supernet(torch.ones(1, 1)).dtype == torch.float32


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_weights_of_another_precision(dtype: torch.dtype) -> None:
    supernet = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1, dtype=dtype))
    with pytest.raises(ConfigError, match=f'to be torch.float32, but got {dtype}$'):
        Execution(supernet, autocast='bfloat16')
    Execution(supernet)


def test_devices_that_do_not_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = nn.Linear(1, 1, device='meta')
    with pytest.raises(ConfigError, match=r"knows autocast='bfloat16', but got 'meta'"):
        Execution(supernet, autocast='bfloat16')
    Execution(nn.Identity(), autocast='bfloat16')  # Without weights: as on the CPU.


@pytest.mark.parametrize('supported', [True, False])
def test_cuda_devices_without_it(
    monkeypatch: pytest.MonkeyPatch, supported: bool, recwarn: pytest.WarningsRecorder
) -> None:
    """On what a CUDA device would say."""

    class OnCuda(nn.Module):
        def parameters(self, recurse: bool = True) -> Any:
            return iter([_OnCuda()])

    class _OnCuda:
        dtype, device = torch.float32, torch.device('cuda', 0)

        def is_floating_point(self) -> bool:
            return True

    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: supported)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: f'Old {device}')
    monkeypatch.setattr(torch, 'autocast', lambda *args: None)
    if supported:
        Execution(OnCuda(), autocast='bfloat16', channels_last=False)
        return
    with pytest.raises(ConfigError, match=r"for autocast='bfloat16', but got Old cuda:0"):
        Execution(OnCuda(), autocast='bfloat16', channels_last=False)


@pytest.mark.cuda
def test_a_step_on_cuda() -> None:
    supernet, mutator = floats('darts', 'SNASMutator')
    supernet.cuda(), mutator.cuda()
    search = search_over(supernet, mutator, autocast='bfloat16', checkpoint_cells=True)
    data = [(images.cuda(), targets.cuda()) for images, targets in batches(dtype=torch.float32)]
    logs = search.step(*data)
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in logs.values())
