"""Separable convolutions as one node of a graph, against the same one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import EXACT, last
from torch import Tensor, nn
from torch.testing import assert_close

from mmrazor_mutators.kernels import native
from mmrazor_mutators.kernels.depthwise import shape_of
from mmrazor_mutators.kernels.eager_depthwise import convolve, gradients
from mmrazor_mutators.kernels.eager_separable import eager_separable
from mmrazor_mutators.ops import separable
from mmrazor_mutators.ops.blocks import separable_conv

KERNELS = [(1, 1), (3, 3), (5, 5), (7, 7), (3, 5), (5, 3), (4, 4), (2, 5)]
SIZES = [(8, 8), (16, 12), (7, 10), (10, 7), (6, 6), (12, 14), (4, 4), (3, 1), (5, 20)]


@pytest.fixture(autouse=True)
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, '_library', None)


def random_map(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return last(torch.randn(*size, dtype=dtype))


def same(kernel: tuple[int, int], dilation: int) -> tuple[int, int]:
    return kernel[0] // 2 * dilation, kernel[1] // 2 * dilation


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('kernel', KERNELS, ids=str)
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('dilation', [1, 2, 3])
@pytest.mark.parametrize('off', [0, 1])
def test_gradients_of_a_depthwise_convolution(
    size: Any, kernel: Any, stride: int, dilation: int, off: int
) -> None:
    """With the padding of the same size, and with one pixel more."""
    padding = tuple(p + off for p in same(kernel, dilation))
    full = zip(size, padding, kernel, strict=True)
    if any(s + 2 * p <= dilation * (k - 1) for s, p, k in full):
        pytest.skip('nothing would come out')
    x = random_map(2, 3, *size).requires_grad_()
    weight = torch.randn(3, 1, *kernel).double().requires_grad_()
    shape = shape_of(x, weight, (stride,) * 2, padding, (dilation,) * 2)
    plain = F.conv2d(x, weight, None, stride, padding, dilation, 3)
    out = convolve(x, weight, shape)
    assert_close(out, plain, **EXACT)
    grad = random_map(*plain.shape)
    expected = torch.autograd.grad(plain, (x, weight), grad)
    for needs in ((True, True), (True, False), (False, True)):
        found = gradients(grad, x.detach(), weight.detach(), shape, needs)
        for mine, other, need in zip(found, expected, needs, strict=True):
            assert (mine is not None) == need
            if mine is not None:
                assert_close(mine, other, **EXACT)


@pytest.mark.parametrize('dilation', [1, 2])
@pytest.mark.parametrize('size', [8, 16])
def test_single_precision_is_as_good_as_that_of_torch(dilation: int, size: int) -> None:
    x, grad = random_map(8, 16, size, size) + 1, random_map(8, 16, size, size)
    weight = torch.randn(16, 1, 5, 5).double()
    shape = shape_of(x, weight, (1, 1), same((5, 5), dilation), (dilation,) * 2)
    best = gradients(grad, x, weight, shape, (True, True))
    found = gradients(grad.float(), x.float(), weight.float(), shape, (True, True))
    for mine, exact in zip(found, best, strict=True):
        assert mine is not None
        assert exact is not None
        assert (mine - exact).abs().max() <= 2e-6 * exact.abs().max()


def noted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that grows with each attempt: whether one node did it."""
    done: list[bool] = []

    def compute(*args: Any) -> Any:
        out = eager_separable(*args)
        done.append(out is not None)
        return out

    monkeypatch.setattr(separable, 'eager_separable', compute)
    return done


def layers_alone(conv: Any, x: Tensor, rectified: bool = False) -> Tensor:
    _, depthwise, pointwise, _ = conv
    x = x if rectified else F.relu(x)
    steps = depthwise.stride, depthwise.padding, depthwise.dilation, depthwise.groups
    return F.conv2d(F.conv2d(x, depthwise.weight, None, *steps), pointwise.weight)


@pytest.mark.parametrize('frozen', [False, True])
@pytest.mark.parametrize('rectified', [False, True])
@pytest.mark.parametrize('options', [(3, 1, 1), (5, 2, 1), (5, 1, 2), (3, 2, 2)], ids=str)
def test_a_separable_convolution(
    options: Any, rectified: bool, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = separable_conv(3, 5, *options).double().requires_grad_(not frozen)
    x = random_map(2, 3, 8, 10).requires_grad_()
    leaves = [x] if frozen else [x, conv[1].weight, conv[2].weight]
    done = noted(monkeypatch)
    found = conv.inside(x, rectified)
    plain = layers_alone(conv, x, rectified)
    assert done == [True]
    grad = torch.randn_like(plain).transpose(2, 3).contiguous().transpose(2, 3)
    assert_close(found, plain, **EXACT)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for mine, other in zip(
        torch.autograd.grad(found, leaves, grad),
        torch.autograd.grad(plain, leaves, grad),
        strict=True,
    ):
        assert_close(mine, other, **EXACT)
    with torch.no_grad():
        assert_close(conv.inside(x, rectified), plain, **EXACT)


@pytest.mark.parametrize('wanted', [(0,), (1,), (2,), (0, 1, 2)])
def test_derivatives_of_higher_order(wanted: Any) -> None:
    conv = separable_conv(2, 3, 5, 1, 2).double()
    tensors = [random_map(1, 2, 4, 4), conv[1].weight.detach(), conv[2].weight.detach()]
    shape = shape_of(tensors[0], tensors[1], (1, 1), (4, 4), (2, 2))
    leaves = [t.requires_grad_(k in wanted) for k, t in enumerate(tensors)]

    def compute(*parts: Tensor) -> Any:
        given = iter(parts)
        full = [next(given) if k in wanted else t for k, t in enumerate(leaves)]
        return eager_separable(full[0], full[1], full[2], shape)

    parts = [leaves[k] for k in wanted]
    assert torch.autograd.gradcheck(compute, parts)
    assert torch.autograd.gradgradcheck(compute, parts)


def by_hook(conv: Any, x: Tensor) -> Tensor:
    seen: list[Any] = []
    hook = conv[1].register_forward_hook(lambda *args: seen.append(args))
    out = conv.inside(x)
    hook.remove()
    assert len(seen) == 1
    return out


def by_autocast(conv: Any, x: Tensor) -> Tensor:
    with torch.autocast('cpu', torch.bfloat16):
        return conv.inside(x)


def by_vmap(conv: Any, x: Tensor) -> Any:
    return torch.func.vmap(lambda image: conv.inside(image[None])[0])(x)


def by_grad(conv: Any, x: Tensor) -> Any:
    return torch.func.grad(lambda y: conv.inside(y).square().sum())(x)


def by_bias(conv: Any, x: Tensor) -> Tensor:
    conv[2].bias = nn.Parameter(torch.zeros(5))
    return conv.inside(x)


OTHERS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    'a hook': by_hook,
    'autocast': by_autocast,
    'vmap': by_vmap,
    'functional gradient': by_grad,
    'a bias': by_bias,
    'evaluation': lambda conv, x: conv.eval().inside(x),
    'NCHW': lambda conv, x: conv.inside(x.contiguous()),
    'half precision': lambda conv, x: conv.bfloat16().inside(x.bfloat16()),
    'no image': lambda conv, x: conv.inside(x[:0]),
}


@pytest.mark.parametrize('name', OTHERS)
def test_where_it_stays_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    conv, x = separable_conv(3, 5, 3), random_map(2, 3, 8, 8, dtype=torch.float32)
    plain = layers_alone(conv, x)
    if name == 'functional gradient':
        y = x.clone().requires_grad_()
        (plain,) = torch.autograd.grad(layers_alone(conv, y).square().sum(), y)
    if name == 'no image':
        plain = plain[:0]
    done = noted(monkeypatch)
    out = OTHERS[name](conv, x)
    assert not any(done)
    close = {'rtol': 2e-2, 'atol': 2e-2} if out.dtype == torch.bfloat16 else {}
    assert_close(out.float(), plain, **({'rtol': 1e-4, 'atol': 1e-4} | close))
