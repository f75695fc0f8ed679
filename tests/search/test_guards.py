"""Temporary changes end, whatever happens inside, and bit for bit."""

from __future__ import annotations

import contextlib
import gc
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from mmrazor_mutators.copies import copy_into
from mmrazor_mutators.search.guards import (
    buffers_kept,
    buffers_kept_on_error,
    frozen,
    get_rng_state,
    replayed,
    set_rng_state,
    uncollected,
    values_kept,
)


class Interrupted(BaseException):
    """Not an ``Exception``, as when a user presses a key."""


def bits_of(tensors: list[Tensor]) -> list[bytes]:
    return [tensor.detach().numpy().tobytes() for tensor in tensors]


any_floats = st.lists(st.floats(width=64), min_size=1, max_size=4)


@given(first=any_floats, second=any_floats, fails=st.booleans())
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_values_kept(first: list[float], second: list[float], fails: bool) -> None:
    """NaN, infinities and -0.0 come back as well; ``w + d - d`` would not do that."""
    params = [nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (first, second)]
    bits, places = bits_of(params), [param.data_ptr() for param in params]
    values = [torch.randn_like(param) for param in params]
    try:
        with values_kept(params):
            copy_into(params, values)
            for param, value in zip(params, values, strict=True):
                assert_close(param.detach(), value, rtol=0, atol=0)
            if fails:
                raise Interrupted
    except Interrupted:
        assert fails
    assert bits_of(params) == bits
    assert [param.data_ptr() for param in params] == places
    assert all(param.requires_grad and param.grad is None for param in params)


def test_values_of_the_wrong_shape() -> None:
    params = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    with pytest.raises(RuntimeError), values_kept(params):
        copy_into(params, [torch.zeros(2), torch.zeros(4)])
    assert bits_of(params) == bits_of([torch.ones(2), torch.ones(3)])


def net_with_buffers() -> nn.Module:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    net(torch.randn(4, 3))
    return net


@pytest.mark.parametrize('fails', [False, True])
@pytest.mark.parametrize('guard', [buffers_kept, buffers_kept_on_error])
def test_buffers(guard: Any, fails: bool) -> None:
    """Trap: running statistics that remember virtual passes."""
    net = net_with_buffers()
    objects, before = list(net.buffers()), [b.clone() for b in net.buffers()]
    after = before
    try:
        with guard(net):
            net(torch.randn(4, 3))
            after = [buffer.clone() for buffer in net.buffers()]
            if fails:
                raise Interrupted
    except Interrupted:
        assert fails
    assert net[0].num_batches_tracked == (
        2 if guard is buffers_kept_on_error and not fails else 1
    )
    expected = before if fails or guard is buffers_kept else after
    for buffer, original, value in zip(net.buffers(), objects, expected, strict=True):
        assert buffer is original
        assert_close(buffer, value, rtol=0, atol=0)


class Rebinding(nn.Module):
    """Keeps its average by assignment, as much code in the wild does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('average', torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.average = 0.9 * self.average + 0.1 * x.detach().mean(0)
        return x - self.average


@pytest.mark.parametrize('guard', [buffers_kept, buffers_kept_on_error])
def test_buffers_that_are_assigned_anew(guard: Any) -> None:
    net = nn.Sequential(Rebinding())
    net(torch.ones(4, 3))
    before = net[0].average.clone()

    def failing() -> None:
        with guard(net):
            net(5 * torch.ones(4, 3))
            raise Interrupted

    with pytest.raises(Interrupted):
        failing()
    assert_close(net[0].average, before, rtol=0, atol=0)


@pytest.mark.parametrize('fails', [False, True])
def test_frozen(fails: bool) -> None:
    params = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)]
    try:
        with frozen(params):
            assert not (params[0] * params[1]).requires_grad
            if fails:
                raise Interrupted
    except Interrupted:
        assert fails
    assert [param.requires_grad for param in params] == [True, False]


@pytest.mark.parametrize('fails', [False, True])
def test_replayed(fails: bool) -> None:
    state = get_rng_state()
    first = torch.rand(3)
    here = get_rng_state()
    try:
        with replayed(state):
            assert_close(torch.rand(3), first, rtol=0, atol=0)
            torch.rand(17)
            if fails:
                raise Interrupted
    except Interrupted:
        assert fails
    assert torch.get_rng_state().equal(here['cpu'])


def test_rng_state_is_a_copy() -> None:
    state = get_rng_state()
    expected = torch.randn(4)
    torch.randn(100)
    set_rng_state(state)
    assert_close(torch.randn(4), expected, rtol=0, atol=0)


@pytest.mark.cuda
def test_rng_state_of_cuda_devices() -> None:
    torch.rand(1, device='cuda')
    state = get_rng_state()
    first = torch.rand(3, device='cuda')
    following = torch.rand(3, device='cuda')
    set_rng_state(state)
    torch.rand(3, device='cuda')
    with replayed(state):
        assert_close(torch.rand(3, device='cuda'), first, rtol=0, atol=0)
    assert_close(torch.rand(3, device='cuda'), following, rtol=0, atol=0)


@pytest.mark.parametrize('enabled', [True, False])
@pytest.mark.parametrize('fails', [True, False])
def test_uncollected(enabled: bool, fails: bool) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self

    runs: list[str] = []

    def note(phase: str, _: Any) -> None:
        runs.append(phase)

    before = gc.isenabled()
    gc.callbacks.append(note)
    try:
        (gc.enable if enabled else gc.disable)()
        with contextlib.suppress(Interrupted), uncollected():
            runs.clear()
            kept = [Cycle() for _ in range(20_000)]
            assert not runs
            if fails:
                raise Interrupted
        assert gc.isenabled() == enabled
        kept += [Cycle() for _ in range(20_000)]
        assert bool(runs) == enabled
    finally:
        gc.callbacks.remove(note)
        (gc.enable if before else gc.disable)()
