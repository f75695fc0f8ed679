"""Concatenation with dense gradients."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import EXACT, last
from torch.testing import assert_close

from mmrazor_mutators.ops.concatenation import concatenate


@pytest.mark.parametrize('together', [True, False], ids=['channels last', 'NCHW'])
def test_parts_get_dense_gradients(together: bool) -> None:
    maps = [torch.randn(2, c, 5, 4).double() for c in (3, 1, 2)]
    maps = [(last(x) if together else x).requires_grad_() for x in maps]
    # What a norm reads is the gradient of what was put together.
    inner = [x * 2 for x in maps]
    grads: list[torch.Tensor] = []
    for x in inner:
        x.register_hook(grads.append)
    out = concatenate(inner)
    plain = torch.cat([x * 2 for x in maps], 1)
    assert torch.equal(out, plain)
    slope = torch.randn_like(plain)
    found = torch.autograd.grad(out, maps, slope)
    assert_close(found, torch.autograd.grad(plain, maps, slope), **EXACT)
    layout = torch.channels_last if together else torch.contiguous_format
    assert [g.is_contiguous(memory_format=layout) for g in grads] == [True] * 3


def test_derivatives_of_higher_order() -> None:
    maps = [last(torch.randn(1, c, 2, 2).double()).requires_grad_() for c in (2, 1)]

    def compute(*parts: torch.Tensor) -> torch.Tensor:
        return concatenate(parts).square().square()

    assert torch.autograd.gradcheck(compute, maps)
    assert torch.autograd.gradgradcheck(compute, maps)


def test_what_it_leaves_to_torch() -> None:
    maps = [torch.randn(2, c, requires_grad=True) for c in (3, 1)]
    assert 'Cat' in type(concatenate(maps).grad_fn).__name__
    mixed = [torch.randn(1, 2, 3, 3, requires_grad=True), torch.randn(1, 1, 3, 3).double()]
    assert concatenate(mixed).dtype == torch.float64
    stacked = torch.randn(4, 1, 2, 3, 3)
    out = torch.func.vmap(lambda x: concatenate([x, 2 * x]))(stacked)
    assert torch.equal(out, torch.cat([stacked, 2 * stacked], 2))
