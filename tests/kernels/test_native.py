"""The compiled kernels, against double precision of torch; and everything without them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from kernel_cases import EXACT, last, needs_kernels, often
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.kernels import native
from mmrazor_mutators.kernels.depthwise import shape_of
from mmrazor_mutators.kernels.native_depthwise import CALLS, fits, native_depthwise
from mmrazor_mutators.kernels.native_norm import native_batch_norm
from mmrazor_mutators.ops.batch_norm import normalize_by_batch, scaled_norm
from mmrazor_mutators.ops.fast_convs import DepthwiseConv2d

SINGLE: dict[str, Any] = {'rtol': 1e-4, 'atol': 1e-5}


def random_map(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return last(torch.randn(*size, dtype=dtype))


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """Sizes of every kind: odd ones, borders that are most of a map, channels left over."""
    pair = {'x': st.integers(1, 12), 'kernel': st.integers(1, 8), 'stride': st.integers(1, 2)}
    found = {name: (draw(size), draw(size)) for name, size in pair.items()}
    found['dilation'] = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    most = [d * (k - 1) for d, k in zip(found['dilation'], found['kernel'], strict=True)]
    found['padding'] = tuple(draw(st.integers(0, p)) for p in most)
    batch, channels = (
        draw(st.integers(1, 3)),
        draw(st.sampled_from([1, 2, 3, 4, 8, 16, 17, 37])),
    )
    found['x'] = (batch, channels, *found['x'])
    return found


@needs_kernels
@often
@given(case=convolutions())
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32], ids=str)
def test_a_depthwise_convolution(
    case: dict[str, Any], dtype: torch.dtype, variant: None
) -> None:
    (size, kernel), strides = (case.pop('x'), case.pop('kernel')), case
    x = random_map(*size).requires_grad_()
    weight = torch.randn(size[1], 1, *kernel, dtype=torch.float64, requires_grad=True)
    shape = shape_of(x, weight, **strides)
    assume(min(shape[:6]) > 0)
    assert fits(shape)
    expected = F.conv2d(x, weight, None, groups=size[1], **strides)
    assert expected.shape[2:] == shape[4:6]
    grad = torch.randn_like(expected)
    slopes = torch.autograd.grad(expected, (x, weight), grad)
    close = EXACT if dtype == torch.float64 else SINGLE
    with torch.no_grad():
        mine = (last(t.to(dtype)) for t in (x, grad))
        a, g, w = *mine, weight.to(dtype)
        found = (
            CALLS['forward'](a, w, shape),
            CALLS['input'](g, w, shape),
            CALLS['weight'](g, a, shape),
        )
    for one, other in zip(found, (expected, *slopes), strict=True):
        assert_close(one, other.detach().to(dtype), **close)


@needs_kernels
@pytest.mark.parametrize(
    ('size', 'kernel', 'options'),
    [
        ((2, 3, 4, 5), 3, ((1, 1), (1, 1), (1, 1))),
        ((1, 2, 5, 4), 5, ((2, 2), (2, 2), (1, 1))),
        ((1, 2, 4, 4), 3, ((2, 2), (2, 2), (2, 2))),
    ],
)
def test_derivatives_of_a_convolution(size: Any, kernel: int, options: Any) -> None:
    x = random_map(*size).requires_grad_()
    weight = torch.randn(size[1], 1, kernel, kernel, dtype=torch.float64, requires_grad=True)

    def convolve(x: Tensor, weight: Tensor) -> Any:
        return native_depthwise(x, weight, shape_of(x, weight, *options))

    assert torch.autograd.gradcheck(convolve, (x, weight))
    assert torch.autograd.gradgradcheck(convolve, (x, weight))


@needs_kernels
@pytest.mark.parametrize(('wanted', 'kinds'), [('x', {'input'}), ('weight', {'weight'})])
def test_only_the_gradient_that_is_needed(
    wanted: str, kinds: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves = {'x': random_map(2, 3, 4, 4), 'weight': torch.randn(3, 1, 3, 3).double()}
    leaves[wanted].requires_grad_()
    seen: list[str] = []
    for kind, run in CALLS.items():
        note = lambda *args, kind=kind, run=run: (seen.append(kind), run(*args))[1]  # noqa: E731
        monkeypatch.setitem(CALLS, kind, note)
    shape = shape_of(*leaves.values(), (1, 1), (1, 1), (1, 1))
    out: Any = native_depthwise(*leaves.values(), shape)
    out.sum().backward()
    assert set(seen) == {'forward', *kinds}


@needs_kernels
@pytest.mark.parametrize(
    ('kernel', 'options'),
    [(9, {}), (3, {'stride': 3}), (3, {'padding': 3}), (3, {'size': 2}), (3, {'batch': 0})],
)
def test_what_the_kernels_cannot_do(kernel: int, options: dict[str, int]) -> None:
    given = {'stride': 2, 'padding': 0, 'size': 20, 'batch': 1, **options}
    x = torch.zeros(given['batch'], 2, given['size'], given['size'])
    weight = torch.zeros(2, 1, kernel, kernel)
    pairs = [(given['stride'],) * 2, (given['padding'],) * 2, (1, 1)]
    assert not fits(shape_of(x, weight, *pairs))
    if kernel < 9:
        assert fits(shape_of(torch.zeros(1, 2, 20, 20), weight, (2, 2), (2, 2), (1, 1)))


def convolution(**options: Any) -> DepthwiseConv2d:
    torch.manual_seed(1)
    given = {'kernel_size': 3, 'padding': 1, 'groups': 6, 'bias': False, **options}
    return DepthwiseConv2d(6, given.pop('out', 6), **given)


def through(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the output, and the gradients of the input and the parameters."""
    x = x.detach().requires_grad_()
    out = module(x)
    slope = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out, *torch.autograd.grad(out, [x, *module.parameters()], slope)]


MODULES = {
    'plain': {},
    'strided': {'stride': 2},
    'dilated': {'dilation': 2, 'padding': 2},
    'bias': {'bias': True},
    'reflected': {'padding_mode': 'reflect'},
    'same': {'padding': 'same'},
    'groups': {'groups': 3},
    'wider': {'out': 12},
}
MAPS = {
    'last': random_map(2, 6, 7, 8),
    'first': torch.randn(2, 6, 7, 8).double(),
    'sliced': random_map(2, 9, 7, 8)[:, 2:8],
    'cropped': random_map(2, 6, 9, 10)[:, :, 1:8, 2:],
    'transposed': random_map(2, 6, 8, 7).transpose(2, 3),
}


@needs_kernels
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('name', MAPS)
@pytest.mark.parametrize('options', MODULES.values(), ids=list(MODULES))
def test_a_module_with_and_without(
    options: dict[str, Any], name: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = convolution(**options).double().train(training)
    mine = through(conv, MAPS[name])
    monkeypatch.setattr(native, '_library', None)
    assert_close(mine, through(conv, MAPS[name]), **EXACT)


@needs_kernels
def test_who_gets_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    run = native.conv
    monkeypatch.setattr(
        'mmrazor_mutators.kernels.native_depthwise.conv',
        lambda kind, *args: (calls.append(kind), run(kind, *args))[1],
    )

    def uses_them(conv: nn.Module, x: Tensor) -> bool:
        calls.clear()
        conv(x)
        return calls == ['forward']

    x = random_map(2, 6, 8, 8)
    assert uses_them(convolution().double(), x)
    assert uses_them(convolution().double().eval(), MAPS['sliced'])
    assert not uses_them(convolution().double(), MAPS['first'])
    assert not uses_them(convolution(bias=True).double(), x)
    assert not uses_them(convolution().bfloat16(), x.bfloat16())
    with torch.autocast('cpu', torch.bfloat16):
        assert not uses_them(convolution().double(), x)
    with torch.autograd.forward_ad.dual_level():
        assert not uses_them(convolution().double(), x)


@needs_kernels
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_goes_without(dtype: torch.dtype) -> None:
    conv, x = convolution().to(dtype), random_map(2, 6, 8, 8).to(dtype)
    assert not native.usable(x, conv.weight)
    assert_close(conv(x), F.conv2d(x, conv.weight, padding=1, groups=6))


@needs_kernels
def test_transforms_and_traces_see_an_ordinary_convolution() -> None:
    conv, x = convolution().double(), random_map(2, 6, 8, 8)
    assert native.usable(x, conv.weight)
    assert not native.usable(x, conv.weight.float())
    assert not native.usable(x.to('meta'), conv.weight)
    expected = F.conv2d(x, conv.weight, padding=1, groups=6)
    assert_close(torch.func.vmap(conv)(x[:, None])[:, 0], expected)
    slopes = torch.func.grad(lambda a: conv(a).pow(2).sum())(x)
    assert slopes.abs().min() > 0
    traced = torch.fx.experimental.proxy_tensor.make_fx(conv)(x)
    assert 'aten.convolution' in traced.code


def norms(channels: int, dtype: torch.dtype) -> nn.BatchNorm2d:
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(channels, affine=False, momentum=0.3, eps=1e-3).to(dtype)
    norm(3 * torch.randn(4, channels, 3, 3, dtype=dtype) + 1)
    return norm


def through_norm(norm: nn.Module, x: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
    x = x.detach().requires_grad_()
    leaves = [x] if weight is None else [x, weight.requires_grad_()]
    out = scaled_norm(norm, x, weight)
    slope = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    grads = torch.autograd.grad(out, leaves, slope)
    return {'out': out, **{str(i): g for i, g in enumerate(grads)}, **norm.state_dict()}


@needs_kernels
@often
@given(
    batch=st.integers(1, 5),
    channels=st.sampled_from([1, 2, 3, 4, 5, 8, 16, 20, 33]),
    size=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    weight=st.sampled_from([None, 0.7, -2.0, 0.0]),
)
def test_a_norm(
    batch: int, channels: int, size: tuple[int, int], weight: float | None, variant: None
) -> None:
    assume(batch * size[0] * size[1] > 1)
    torch.manual_seed(batch)
    x = last(4 * torch.randn(batch, channels, *size, dtype=torch.float64) - 7)
    mine, other = norms(channels, x.dtype), norms(channels, x.dtype)
    scales = [None if weight is None else torch.tensor(weight).double() for _ in range(2)]
    found = through_norm(mine, x, scales[0])
    # With a scale of its own F.batch_norm runs as it is.
    expected = through_norm(other, x.contiguous(), scales[1])
    exact = {'rtol': 1e-11, 'atol': 1e-11}
    if x.is_contiguous():
        exact = EXACT  # One layout is the other one: both took the same way.
    assert_close(found, expected, **exact)


@needs_kernels
@pytest.mark.parametrize('mean', [0.0, 30.0, -3000.0])
@pytest.mark.parametrize('channels', [4, 16, 20])
def test_a_norm_in_single_precision_is_as_good_as_that_of_torch(
    mean: float, channels: int, variant: None
) -> None:
    x = random_map(8, channels, 16, 16, dtype=torch.float32) + mean
    weight = torch.tensor(0.7)
    best = through_norm(norms(channels, torch.float64), x.double(), weight.double())
    mine = through_norm(norms(channels, torch.float32), x, weight.clone())
    theirs = through_norm(norms(channels, torch.float32), x.contiguous(), weight.clone())
    for name in ('out', '0', '1', 'running_mean', 'running_var'):
        errors = [(found[name] - best[name]).abs().max() for found in (mine, theirs)]
        assert errors[0] <= 2 * errors[1] + 1e-6 * best[name].abs().max(), name


@needs_kernels
def test_derivatives_of_a_norm() -> None:
    x, weight = random_map(2, 3, 3, 2).requires_grad_(), torch.tensor(0.4).double()
    norm = norms(3, torch.float64)
    for leaves in ((x, weight.requires_grad_()), (x.detach(), weight), (x,)):

        def run(*leaves: Tensor) -> Any:
            scale = leaves[1] if len(leaves) > 1 else None
            running = norm.running_mean, norm.running_var
            return native_batch_norm(leaves[0], scale, running, 0.1, 1e-3)  # type: ignore

        assert torch.autograd.gradcheck(run, leaves)
        assert torch.autograd.gradgradcheck(run, leaves)


@needs_kernels
@pytest.mark.parametrize('channels', [1, 16, 33])
def test_second_derivatives_of_a_norm_of_many_channels(channels: int) -> None:
    x = random_map(2, channels, 5, 4).requires_grad_()
    weight, slope = torch.tensor(0.4).double().requires_grad_(), torch.randn_like(x)
    running = torch.zeros(channels).double(), torch.ones(channels).double()
    mine: Any = native_batch_norm(x, weight, running, 0.1, 1e-3)
    scales = weight.expand(channels).contiguous()
    found = []
    for out in (mine, F.batch_norm(x, None, None, scales, training=True, eps=1e-3)):
        first = torch.autograd.grad((out * slope).sum(), (x, weight), create_graph=True)
        mixed = sum(part.sin().sum() for part in first)
        found.append([*first, *torch.autograd.grad(mixed, (x, weight))])
    assert_close(*found, rtol=1e-10, atol=1e-12)


@needs_kernels
def test_norms_that_torch_has_to_do() -> None:
    running = torch.zeros(3).double(), torch.ones(3).double()
    x, one = random_map(2, 3, 4, 4), torch.tensor(1.0).double()
    assert native_batch_norm(x, one, running, 0.1, 1e-5) is not None
    assert native_batch_norm(x.contiguous(), one, running, 0.1, 1e-5) is None
    assert native_batch_norm(x[:1, :, :1, :1], one, running, 0.1, 1e-5) is None
    assert native_batch_norm(x[:, :, 0], one, running, 0.1, 1e-5) is None
    assert native_batch_norm(x.float(), one, running, 0.1, 1e-5) is None
    assert native_batch_norm(x[:0], one, running, 0.1, 1e-5) is None
    assert native_batch_norm(x, one, running, 0.1, 0.0) is None
    strided = torch.zeros(6).double()[::2]
    assert native_batch_norm(x, one, (strided, running[1]), 0.1, 1e-5) is None
    with pytest.raises(ValueError, match=r'Expected more than 1 value.*\[1, 3, 1, 1\]'):
        scaled_norm(norms(3, torch.float64), x[:1, :, :1, :1], one)


@needs_kernels
def test_a_norm_for_several_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    x = random_map(3, 5, 4, 4)
    mine = normalize_by_batch(x, norms(5, x.dtype))
    monkeypatch.setattr(native, '_library', None)
    other = normalize_by_batch(x, norms(5, x.dtype))
    assert_close(mine[0], other[0], **EXACT)
    assert_close(tuple(mine[1]), tuple(other[1]), **EXACT)


def test_hooks_on_a_norm_are_called() -> None:
    norm, seen = norms(3, torch.float64), []
    norm.register_forward_hook(lambda *_: seen.append(1))
    scaled_norm(norm, random_map(2, 3, 4, 4))
    assert seen == [1]


@needs_kernels
def test_threads_do_not_change_the_numbers() -> None:
    x = random_map(5, 20, 33, 31, dtype=torch.float32)
    conv = DepthwiseConv2d(20, 20, 5, padding=2, groups=20, bias=False)
    scale = torch.tensor(0.3)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            norm = through_norm(norms(20, torch.float32), x, scale.clone())
            found.append([*through(conv, x), *norm.values()])
        finally:
            torch.set_num_threads(1)
    for other in found[1:]:
        assert_close(other, found[0], rtol=0, atol=0)


def test_a_failure_is_an_error() -> None:
    native._check(0)
    with pytest.raises(MemoryError, match='Expected memory for the sums of a kernel'):
        native._check(1)


def test_a_folder_without_the_library(tmp_path: Path) -> None:
    assert native._load(tmp_path) is None
    for suffix in native.EXTENSION_SUFFIXES:
        (tmp_path / f'_native{suffix}').write_bytes(b'of another machine')
    assert native._load(tmp_path) is None


def step_of_a_search(seed: int = 0) -> dict[str, Tensor]:
    """Return everything that a step of a search in double precision moves."""
    torch.manual_seed(seed)
    supernet = mm.build_architecture(
        {
            'type': 'DartsSupernet',
            'in_channels': 3,
            'num_classes': 4,
            'base_channels': 4,
            'num_layers': 3,
        }
    )
    mutator = mm.build_mutator({'type': 'DartsMutator'})
    mutator.prepare_from_supernet(supernet)
    mutator.double()
    supernet.double().to(memory_format=torch.channels_last)
    search = mm.BilevelSearch(
        supernet,
        mutator,
        F.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.1),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.1),
        'first_order',
    )
    batches = [(random_map(4, 3, 16, 16), torch.randint(4, (4,))) for _ in range(2)]
    search.step(*batches)
    alphas = {f'alpha of {name}': alpha for name, alpha in mutator.arch_params.items()}
    return {**supernet.state_dict(), **alphas}


@needs_kernels
def test_a_step_of_a_search_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = step_of_a_search()
    monkeypatch.setattr(native, '_library', None)
    assert_close(mine, step_of_a_search(), rtol=1e-7, atol=1e-9)


SWITCHED = """
import torch
from mmrazor_mutators.kernels import native
from mmrazor_mutators.ops.fast_convs import DepthwiseConv2d
torch.manual_seed(0)
conv, x = DepthwiseConv2d(4, 4, 3, padding=1, groups=4, bias=False), torch.randn(1, 4, 5, 5)
x = x.contiguous(memory_format=torch.channels_last)
plain = torch.nn.functional.conv2d(x, conv.weight, padding=1, groups=4)
print(native.available(), torch.allclose(conv(x), plain, atol=1e-6))
"""


def test_the_switch() -> None:
    found = subprocess.run(
        [sys.executable, '-c', SWITCHED],
        env={**os.environ, native.SWITCH: '0', 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert found.split() == ['False', 'True']


@needs_kernels
def test_a_compiled_module() -> None:
    conv, x = convolution(kernel_size=5, padding=2).double(), random_map(2, 6, 7, 8)
    compiled: Any = torch.compile(conv, fullgraph=True, backend='aot_eager')
    assert_close(through(compiled, x), through(conv, x), **EXACT)


def test_a_compiled_candidate() -> None:
    op = mm.build_op(
        {'type': 'DartsSepConv', 'kernel_size': 3, 'in_channels': 4, 'out_channels': 6}
    ).double()
    x, weight = random_map(2, 4, 6, 6), torch.tensor(0.3).double()
    expected = op.after_first(x).close(weight)

    def scaled(x: Tensor, weight: Tensor) -> Tensor:
        return op.after_first(x).close(weight)

    compiled: Any = torch.compile(scaled, fullgraph=True, backend='aot_eager')
    assert_close(compiled(x, weight), expected, **EXACT)


@needs_kernels
def test_an_export_does_without() -> None:
    conv, x = convolution().double(), random_map(2, 6, 7, 8)
    program = torch.export.export(conv, (x,))
    names = {str(node.target) for node in program.graph.nodes}
    assert not any('mmrazor' in name for name in names)
    assert_close(program.module()(x), conv(x), **EXACT)
