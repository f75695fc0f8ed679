"""Average pooling by the compiled kernel, against that of torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import EXACT, last, needs_kernels, often
from torch import Tensor
from torch.testing import assert_close

from mmrazor_mutators.ops.fast_pools import AveragePool2d, native_average_pool


def reference(x: Tensor) -> Tensor:
    return F.avg_pool2d(x.contiguous(), 3, 1, 1, count_include_pad=False)


@needs_kernels
@often
@given(
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 3, 4, 8, 16, 17, 37]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32], ids=str)
def test_a_pooling(
    batch: int, channels: int, size: tuple[int, int], dtype: torch.dtype, variant: None
) -> None:
    torch.manual_seed(batch)
    x = last(torch.randn(batch, channels, *size, dtype=torch.float64)).requires_grad_()
    expected = reference(x)
    slope = torch.randn_like(expected)
    mine = last(x.detach().to(dtype)).requires_grad_()
    out = native_average_pool(mine)
    assert out is not None
    close = EXACT if dtype == torch.float64 else {'rtol': 1e-5, 'atol': 1e-6}
    assert_close(out, expected.to(dtype), **close)
    (exact,) = torch.autograd.grad(expected, x, slope)
    (grad,) = torch.autograd.grad(out, mine, slope.to(dtype))
    assert_close(grad, exact.to(dtype), **close)


@needs_kernels
def test_derivatives_of_a_pooling() -> None:
    x = last(torch.randn(1, 2, 3, 4, dtype=torch.float64)).requires_grad_()

    def squared(x: Tensor) -> Any:
        return native_average_pool(x).square()  # type: ignore[union-attr]

    assert torch.autograd.gradcheck(squared, (x,))
    assert torch.autograd.gradgradcheck(squared, (x,))


@needs_kernels
def test_poolings_that_torch_has_to_do() -> None:
    x = last(torch.randn(2, 3, 4, 5, dtype=torch.float64))
    assert native_average_pool(x) is not None
    assert native_average_pool(x.contiguous()) is None
    assert native_average_pool(x[0]) is None
    assert native_average_pool(x[:0]) is None
    assert native_average_pool(x.bfloat16()) is None


OPTIONS: list[dict[str, Any]] = [
    {},
    {'kernel_size': 5, 'padding': 2},
    {'stride': 2},
    {'padding': 0},
    {'count_include_pad': True},
    {'ceil_mode': True},
    {'divisor_override': 2},
]


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('layout', ['last', 'first', 'cropped'])
def test_the_module_is_that_of_torch(options: dict[str, Any], layout: str) -> None:
    given = {'kernel_size': 3, 'stride': 1, 'padding': 1, 'count_include_pad': False}
    x = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    x = {'last': last(x), 'first': x, 'cropped': last(x)[:, :, 1:, 2:]}[layout]
    x.requires_grad_()
    pools = (cls(**{**given, **options}) for cls in (AveragePool2d, torch.nn.AvgPool2d))
    found = []
    for pool in pools:
        out = pool(x)
        slope = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)
        found.append([out, *torch.autograd.grad(out, x, slope)])
    assert_close(*found, **EXACT)
