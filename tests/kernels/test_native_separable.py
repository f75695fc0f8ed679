"""Separable convolutions in one pass, against the same one after the other in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from kernel_cases import EXACT, needs_kernels, often
from torch import Tensor, nn
from torch.testing import assert_close

from mmrazor_mutators.kernels import native
from mmrazor_mutators.kernels.depthwise import shape_of
from mmrazor_mutators.kernels.native_depthwise import fits
from mmrazor_mutators.kernels.native_separable import native_separable
from mmrazor_mutators.ops import separable
from mmrazor_mutators.ops.batch_norm import scaled_norm
from mmrazor_mutators.ops.blocks import separable_conv
from mmrazor_mutators.ops.separable import SeparableConv

SINGLE: dict[str, Any] = {'rtol': 1e-4, 'atol': 1e-4}


def random_map(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*size, dtype=dtype).contiguous(memory_format=torch.channels_last)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """Channels that fill vectors and some that do not, in and out apart; odd sizes."""
    found: dict[str, Any] = {
        name: (draw(size), draw(size))
        for name, size in {'kernel': st.integers(1, 6), 'stride': st.integers(1, 2)}.items()
    }
    found['dilation'] = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    most = [d * (k - 1) for d, k in zip(found['dilation'], found['kernel'], strict=True)]
    found['padding'] = tuple(draw(st.integers(0, p)) for p in most)
    channels = st.sampled_from([1, 2, 3, 4, 5, 8, 16, 17, 32, 37, 64, 83])
    found['channels'] = draw(channels), draw(channels)
    size = st.integers(1, 11)
    found['x'] = draw(st.integers(1, 3)), draw(size), draw(size)
    return found


@needs_kernels
@often
@given(case=convolutions(), relu=st.booleans())
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32], ids=str)
def test_a_separable_convolution(
    case: dict[str, Any], relu: bool, dtype: torch.dtype, variant: None
) -> None:
    (batch, *size), (channels, out) = case.pop('x'), case.pop('channels')
    x = random_map(batch, channels, *size)
    x[x.abs() < 0.2] = 0  # The gradient of a ReLU there is 0.
    depthwise = torch.randn(channels, 1, *case.pop('kernel')).double()
    pointwise = torch.randn(out, channels, 1, 1).double()
    shape = shape_of(x, depthwise, **case)
    assume(min(shape[:6]) > 0)
    assert fits(shape)
    leaves = [t.requires_grad_() for t in (x, depthwise, pointwise)]
    between = F.conv2d(x.relu() if relu else x, depthwise, groups=channels, **case)
    expected = F.conv2d(between, pointwise)
    grad = random_map(*expected.shape)
    slopes = torch.autograd.grad(expected, leaves, grad)
    mine = [t.detach().to(dtype).requires_grad_() for t in leaves]
    found: Any = native_separable(*mine, shape, relu)  # type: ignore[misc]
    close = EXACT if dtype == torch.float64 else SINGLE
    assert_close(found, expected.to(dtype), **close)
    for one, other in zip(
        torch.autograd.grad(found, mine, grad.to(dtype)), slopes, strict=True
    ):
        assert_close(one, other.to(dtype), **close)


@needs_kernels
@pytest.mark.parametrize('relu', [True, False])
@pytest.mark.parametrize('wanted', ['x', 'depthwise', 'pointwise', 'all'])
def test_derivatives(wanted: str, relu: bool) -> None:
    torch.manual_seed(1)
    sizes = {'x': (2, 3, 4, 5), 'depthwise': (3, 1, 3, 3), 'pointwise': (2, 3, 1, 1)}
    leaves = [
        random_map(*size).requires_grad_(wanted in (name, 'all'))
        for name, size in sizes.items()
    ]
    leaves[0].data[leaves[0].abs() < 0.05] += 0.2  # Not where a ReLU has no derivative.

    def run(*leaves: Tensor) -> Any:
        shape = shape_of(*leaves[:2], (2, 1), (1, 1), (1, 1))  # type: ignore[misc]
        return native_separable(*leaves, shape, relu)  # type: ignore[misc]

    assert torch.autograd.gradcheck(run, leaves)
    assert torch.autograd.gradgradcheck(run, leaves)


@needs_kernels
def test_what_is_kept() -> None:
    """The rectified map never is, and the map in between for a gradient of weights alone."""
    conv, x = convolution(), random_map(2, 6, 8, 8).requires_grad_()
    assert conv(x).grad_fn is not None
    kept: list[tuple[int, ...]] = []

    def note(t: Tensor) -> Tensor:
        kept.append(tuple(t.shape))
        return t

    for frozen, maps in ((False, 2), (True, 1)):
        conv.requires_grad_(not frozen)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            out: Any = separable._fused(x, *list(conv)[:3])
        assert sum(shape == (2, 6, 8, 8) for shape in kept) == maps
        out.sum().backward()


def convolution(out: int = 5, **options: Any) -> SeparableConv:
    torch.manual_seed(1)
    return separable_conv(
        6, out, 3, norm_cfg={'type': 'BN', 'affine': False}, **options
    ).double()


def through(module: Callable[[Tensor], Tensor], x: Tensor, params: Any) -> list[Tensor]:
    """Return the output, and the gradients of the input and the parameters."""
    x = x.detach().requires_grad_()
    out = module(x)
    slope = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out, *torch.autograd.grad(out, [x, *params], slope.sin())]


MAPS = {
    'last': random_map(2, 6, 7, 8),
    'first': torch.randn(2, 6, 7, 8).double(),
    'sliced': random_map(2, 9, 7, 8)[:, 2:8],
    'one pixel': random_map(3, 6, 1, 1),
}


@needs_kernels
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('name', MAPS)
@pytest.mark.parametrize('options', [{}, {'stride': 2}, {'dilation': 2}], ids=str)
def test_a_module_with_and_without(
    options: dict[str, Any], name: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv, x = convolution(**options).train(training), MAPS[name]
    weight = torch.tensor(0.3).double()
    params = list(conv.parameters())
    ways: list[Callable[[Tensor], Tensor]] = [
        conv,
        lambda a: scaled_norm(conv[3], conv.inside(a), weight),
        lambda a: weight * conv.after_relu(a),
    ]
    mine = [through(way, x, params) for way in ways]
    monkeypatch.setattr(native, '_library', None)
    assert_close(mine, [through(way, x, params) for way in ways], **EXACT)
    norm, plain = conv[3], nn.Sequential(*conv)
    assert_close(mine[0], through(plain, x, params), **EXACT)
    assert_close(mine[1], through(lambda a: weight * plain(a), x, params), **EXACT)
    rest = nn.Sequential(*list(conv)[1:3], norm)
    assert_close(mine[2], through(lambda a: weight * rest(a), x, params), **EXACT)


@pytest.mark.parametrize('place', range(4))
def test_hooks_on_a_part_are_called(place: int) -> None:
    conv, seen = convolution(), []
    conv[place].register_forward_hook(lambda *_: seen.append(1))
    x = random_map(2, 6, 5, 5)
    assert_close(conv(x), nn.Sequential(*convolution())(x), **EXACT)
    assert seen == [1]


class OtherReLU(nn.ReLU):
    """Of a class of its own."""


@needs_kernels
def test_who_runs_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(conv: SeparableConv, x: Tensor) -> bool:
        return separable._fused(x, *list(conv)[:3]) is not None

    x = random_map(2, 6, 5, 5)
    assert runs(convolution(), x)
    assert runs(convolution().eval(), x)
    assert not runs(convolution(), MAPS['first'])
    assert not runs(convolution().float(), x)
    assert not runs(convolution().bfloat16(), x.bfloat16())
    for i, other in enumerate(
        [OtherReLU(), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 1)]
    ):
        conv = convolution()
        conv[i] = other.double()
        assert not runs(conv, x)
    conv = convolution()
    conv[2] = type(conv[2])(6, 6, 1, bias=True).double()
    assert not runs(conv, x)
    conv[2] = type(conv[2])(6, 6, 1, stride=2, bias=False).double()
    assert not runs(conv, x)
    with torch.autocast('cpu', torch.bfloat16):
        assert not runs(convolution(), x)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    assert not runs(convolution(), x)
    assert runs(convolution(), random_map(3, 6, 5, 5))


@needs_kernels
def test_not_a_number_comes_through_as_through_torch(variant: None) -> None:
    x = random_map(1, 6, 4, 4)
    x[0, 0, 1, 1] = torch.nan
    x[0, 1, 2, 2] = torch.inf
    x[0, 2, 2, 2] = -torch.inf
    conv = convolution().eval()
    params = list(conv.parameters())
    plain = nn.Sequential(*conv)
    mine, theirs = through(conv, x, params), through(plain, x, params)
    for one, other in zip(mine, theirs, strict=True):
        assert torch.equal(one.isnan(), other.isnan())
        assert_close(one.nan_to_num(), other.nan_to_num(), **EXACT)


@needs_kernels
def test_gradients_of_every_layout() -> None:
    conv, x = convolution(), random_map(2, 6, 4, 4).requires_grad_()
    shape = shape_of(x, conv[1].weight, (1, 1), (1, 1), (1, 1))
    leaves = x, conv[1].weight, conv[2].weight
    out: Any = native_separable(*leaves, shape, True)
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(out, leaves, grad, retain_graph=True)
    wide = torch.cat([grad, grad], 1).contiguous(memory_format=torch.channels_last)
    for other in (grad.contiguous(), wide[:, :5]):
        assert_close(torch.autograd.grad(out, leaves, other, retain_graph=True), expected)
    constant = torch.autograd.grad(out.sum(), leaves)
    assert_close(constant, torch.autograd.grad(conv_in_torch(x, conv).sum(), leaves), **EXACT)


def conv_in_torch(x: Tensor, conv: SeparableConv) -> Tensor:
    between = F.conv2d(x.relu(), conv[1].weight, padding=1, groups=6)
    return F.conv2d(between, conv[2].weight)


@needs_kernels
def test_threads_do_not_change_the_numbers() -> None:
    x = random_map(5, 20, 33, 31, dtype=torch.float32)
    conv = separable_conv(20, 36, 5)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            found.append(
                through(
                    lambda a: separable._fused(a, *list(conv)[:3]),
                    x,
                    [conv[1].weight, conv[2].weight],
                )
            )
        finally:
            torch.set_num_threads(1)
    for other in found[1:]:
        assert_close(other, found[0], rtol=0, atol=0)


@needs_kernels
def test_transforms_compilers_and_exports_see_ordinary_convolutions() -> None:
    conv, x = convolution().eval(), random_map(2, 6, 8, 8)
    expected = nn.Sequential(*conv)(x)
    assert_close(torch.func.vmap(conv)(x[:, None])[:, 0], expected, **EXACT)
    compiled: Any = torch.compile(convolution(), fullgraph=True, backend='aot_eager')
    params = list(compiled.parameters())
    assert_close(through(compiled, x, params), through(compiled._orig_mod, x, params), **EXACT)
    program = torch.export.export(conv, (x,))
    assert not any('mmrazor' in str(node.target) for node in program.graph.nodes)
    assert_close(program.module()(x), expected, **EXACT)
