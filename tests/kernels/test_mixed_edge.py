"""Mixed edges by the compiled kernels, against operations of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from kernel_cases import EXACT, last, needs_kernels, often
from torch import Tensor, nn
from torch.testing import assert_close

from mmrazor_mutators.kernels import native
from mmrazor_mutators.kernels.mixed_edge import Term, TermKind, mixed_edge, term_of_conv
from mmrazor_mutators.mutables.mixing import mix
from mmrazor_mutators.ops import (
    DartsSepConv,
    NasBench201AvgPool,
    NasBench201Conv,
    NasBench201SkipConnect,
    NasBench201Zero,
)
from mmrazor_mutators.search.compilation import uncompiled
from mmrazor_mutators.typing import Mixture

KERNEL_SIZES = {'1': 1, '3': 3, 'o': 1, 't': 3}
"""Convolutions with a norm, and without."""


class Edge(nn.Module):
    """Candidates named by letters: ``s`` for the source, ``p`` for its mean, convolutions."""

    def __init__(self, letters: str, inputs: int, channels: int, by_kernel: bool) -> None:
        super().__init__()
        self.letters, self.by_kernel = letters, by_kernel
        self.convs, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for k, letter in enumerate(letters):
            torch.manual_seed(k)
            size = KERNEL_SIZES.get(letter)
            if size is not None:
                conv = nn.Conv2d(inputs, channels, size, padding=size // 2, bias=False)
                self.convs[str(k)] = conv
            if letter in '13':
                eps, momentum = 10.0 ** (-1 - k % 4), 0.1 + 0.1 * k
                self.norms[str(k)] = nn.BatchNorm2d(channels, eps, momentum, affine=False)

    def forward(self, x: Tensor, factors: Tensor) -> Tensor:
        if self.by_kernel:
            found = mixed_edge(x, self.terms(), factors.unbind())
            assert found is not None
            return found
        outputs: list[Tensor] = []
        for k, letter in enumerate(self.letters):
            if letter == 's':
                y = x
            elif letter == 'p':
                y = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            else:
                y = self.convs[str(k)](x.relu())
            outputs.append(self.norms[str(k)](y) if letter in '13' else y)
        return sum(w * y for w, y in zip(factors, outputs, strict=True))

    def terms(self) -> list[Term]:
        found: list[Term] = []
        for k, letter in enumerate(self.letters):
            if letter in 'sp':
                found.append(Term(TermKind.SAME if letter == 's' else TermKind.POOLED))
                continue
            norm = self.norms[str(k)] if letter in '13' else None
            term = term_of_conv(self.convs[str(k)], norm)
            assert term is not None
            found.append(term)
        return found


def through(
    by_kernel: bool,
    letters: str,
    x: Tensor,
    channels: int | None = None,
    wanted: str = 'xwf',
    change: Callable[[Tensor], Tensor] = lambda out: out,
    together: bool = True,
) -> list[Tensor]:
    """Return output, gradients of source, weights and factors, and running statistics."""
    edge = Edge(letters, x.shape[1], channels or x.shape[1], by_kernel).to(x.dtype)
    if together:
        edge.to(memory_format=torch.channels_last)
    x = x.detach().requires_grad_('x' in wanted)
    edge.requires_grad_('w' in wanted)
    factors = torch.linspace(-1, 1.3, len(letters), dtype=x.dtype)
    factors.requires_grad_('f' in wanted)
    out = change(edge(x, factors))
    leaves = [leaf for leaf in (x, *edge.parameters(), factors) if leaf.requires_grad]
    slope = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out).cos()
    grads = torch.autograd.grad(out, leaves, slope)
    return [out.detach(), *grads, *edge.buffers()]


def source(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(7)
    return last(torch.randn(*size, dtype=dtype) + 0.2)


def both(*args: Any, **kwargs: Any) -> tuple[list[Tensor], list[Tensor]]:
    return through(True, *args, **kwargs), through(False, *args, **kwargs)


@needs_kernels
@often
@given(
    batch=st.integers(1, 18),
    channels=st.sampled_from([1, 2, 3, 4, 5, 8, 16, 20, 32, 33, 64]),
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    letters=st.text('sp13ot', max_size=5),
    conv=st.sampled_from('13ot'),
    wanted=st.sampled_from(['x', 'w', 'f', 'xf', 'xw', 'wf', 'xwf']),
)
def test_an_edge(
    batch: int,
    channels: int,
    size: tuple[int, int],
    letters: str,
    conv: str,
    wanted: str,
    variant: None,
) -> None:
    assume(batch * size[0] * size[1] > 2)
    for mine, other in zip(
        *both(letters + conv, source(batch, channels, *size), wanted=wanted), strict=True
    ):
        # Gradients through a norm of few pixels are 0 but for rounding.
        assert_close(mine, other, rtol=1e-11, atol=1e-11)


@needs_kernels
@often
@given(
    inputs=st.sampled_from([1, 3, 8, 16, 20, 64]),
    channels=st.sampled_from([1, 5, 8, 16, 24, 32]),
    letters=st.text('13ot', min_size=1, max_size=4),
)
def test_other_channels(inputs: int, channels: int, letters: str, variant: None) -> None:
    mine, other = both(letters, source(3, inputs, 6, 5), channels)
    for one, two in zip(mine, other, strict=True):
        assert_close(one, two, rtol=1e-11, atol=1e-11)


@needs_kernels
@pytest.mark.parametrize('channels', [4, 16, 64])
@pytest.mark.parametrize('mean', [0.0, 30.0])
def test_single_precision_is_as_good_as_that_of_torch(
    channels: int, mean: float, variant: None
) -> None:
    x = source(8, channels, 16, 16, dtype=torch.float32) + mean
    best = through(False, 'sp13', x.double())
    for one, other, exact in zip(*both('sp13', x), best, strict=True):
        errors = [(found - exact).abs().max() for found in (one, other)]
        assert errors[0] <= 4 * errors[1] + 1e-6 * exact.abs().max()


@needs_kernels
def test_weights_and_gradients_that_lie_otherwise() -> None:
    x = source(3, 4, 5, 6)
    found = both('sp13', x, change=lambda out: torch.cat([out, out], 1).transpose(2, 3))
    assert_close(*found, **EXACT)
    assert_close(*both('sp13', x, together=False), **EXACT)
    turned = x.to(memory_format=torch.contiguous_format)
    edge = Edge('s1', 4, 4, True).double()
    assert mixed_edge(turned, edge.terms(), torch.ones(2, dtype=x.dtype).unbind()) is None


@needs_kernels
@pytest.mark.parametrize('batch', [3, 5, 16, 17])
def test_threads_change_nothing(batch: int) -> None:
    x = source(batch, 48, 5, 6, dtype=torch.float32)
    alone = through(True, 'sp133', x)
    try:
        torch.set_num_threads(2)
        together = through(True, 'sp133', x)
    finally:
        torch.set_num_threads(1)
    for one, two in zip(alone, together, strict=True):
        assert torch.equal(one, two)


@needs_kernels
@pytest.mark.parametrize('wanted', ['x', 'w', 'f', 'xwf'])
def test_derivatives_of_higher_order(wanted: str) -> None:
    edge = Edge('ps31', 2, 2, True).double()
    x = source(2, 2, 3, 2).requires_grad_('x' in wanted)
    weights = [conv.weight.requires_grad_('w' in wanted) for conv in edge.convs.values()]
    factors = torch.randn(4, dtype=torch.float64, requires_grad='f' in wanted)

    def run(x: Tensor, factors: Tensor, *_: Tensor) -> Tensor:
        return edge(x, factors)

    def direct(x: Tensor, factors: Tensor, *weights: Tensor) -> Tensor:
        names = [f'convs.{k}.weight' for k in edge.convs]
        values = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(edge, values, (x, factors))

    assert torch.autograd.gradcheck(direct, (x, factors, *weights))
    assert torch.autograd.gradgradcheck(direct, (x, factors, *weights))


@needs_kernels
def test_it_keeps_the_maps_before_norms_and_nothing_else() -> None:
    edge, x = Edge('sp13', 4, 4, True).double(), source(2, 4, 6, 6).requires_grad_()
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        edge(x, torch.ones(4, dtype=x.dtype, requires_grad=True))
    assert sum(tensor.shape == x.shape for tensor in saved) == 3  # Two maps, and the source.


@needs_kernels
def test_what_is_not_a_number_stays_so() -> None:
    x = source(2, 3, 6, 6)
    x[0, 1, 2, 3] = float('nan')
    mine, other = both('spt', x)
    for one, two in zip(mine[:2], other[:2], strict=True):
        # In the other domain it reaches the rest of its tile, which lies within two pixels.
        assert (one.isnan() | ~two.isnan()).all()
        assert not one[1].isnan().any()


def _conv(**changes: Any) -> nn.Module:
    return nn.Conv2d(**{
        'in_channels': 4, 'out_channels': 4, 'kernel_size': 3, 'padding': 1, 'bias': False,
        **changes,
    })  # fmt: skip


@pytest.mark.parametrize(
    ('changes', 'known'),
    [
        ({}, True),
        ({'kernel_size': 1, 'padding': 0}, True),
        ({'kernel_size': 1, 'padding': 0, 'dilation': 2}, True),
        ({'out_channels': 7}, True),
        ({'stride': 2}, False),
        ({'padding': 0}, False),
        ({'padding': 'same'}, False),
        ({'padding_mode': 'reflect'}, False),
        ({'dilation': 2, 'padding': 2}, False),
        ({'dilation': 2}, False),
        ({'groups': 2}, False),
        ({'bias': True}, False),
        ({'kernel_size': 5, 'padding': 2}, False),
        ({'kernel_size': (3, 1), 'padding': (1, 0)}, False),
        ({'kernel_size': 1, 'padding': 1}, False),
    ],
)
def test_convolutions_that_are_terms(changes: dict[str, Any], known: bool) -> None:
    assert (term_of_conv(_conv(**changes), None) is not None) == known


def test_other_modules_are_no_terms() -> None:
    assert term_of_conv(nn.Identity(), None) is None
    assert term_of_conv(nn.Conv1d(4, 4, 3, padding=1, bias=False), None) is None


def _refused(x: Tensor, norm: nn.Module | None = None, **changes: Any) -> bool:
    term = term_of_conv(_conv(**changes).to(x), norm)
    assert term is not None
    found = mixed_edge(x, [Term(TermKind.SAME), term], torch.ones(2, dtype=x.dtype).unbind())
    return found is None


@needs_kernels
def test_edges_that_are_left_alone() -> None:
    x = last(torch.randn(2, 4, 3, 3))
    norm = nn.BatchNorm2d(4, affine=False)
    assert not _refused(x, norm)
    assert _refused(x, nn.BatchNorm2d(4))
    assert _refused(x, nn.BatchNorm2d(4, affine=False).eval())
    assert _refused(x, nn.GroupNorm(2, 4))
    norm.register_forward_hook(lambda *_: None)
    assert _refused(x, norm)
    assert _refused(x, out_channels=5)  # The source itself does not fit.
    assert _refused(x[:, :3].contiguous(memory_format=torch.channels_last))
    assert _refused(x.to(torch.bfloat16))
    assert _refused(last(torch.randn(1, 4, 600, 600)))
    assert not _refused(last(torch.randn(1, 4, 500, 500)))
    try:
        torch.set_num_threads(3)
        assert _refused(x)  # Two images are too few for three threads.
    finally:
        torch.set_num_threads(1)
    term = term_of_conv(_conv(), None)
    assert term is not None
    ones = torch.ones(65).unbind()
    assert mixed_edge(x, [term] * 64, ones[:64]) is not None
    assert mixed_edge(x, [term] * 65, ones) is None
    assert mixed_edge(x, [term], [torch.ones(1)]) is None
    pooled = Term(TermKind.POOLED, norm=nn.BatchNorm2d(4, affine=False))
    assert mixed_edge(x, [term, pooled], ones[:2]) is None
    sliced = Term(TermKind.SQUARE, torch.ones(8, 4, 3, 3)[::2])
    assert mixed_edge(x, [sliced], ones[:1]) is None
    assert mixed_edge(x, [term], [torch.ones((), dtype=torch.float64)]) is None


# By way of the operations of NAS-Bench-201.


def operations(channels: int = 4, affine: bool = False) -> nn.ModuleList:
    torch.manual_seed(1)
    common: dict[str, Any] = {'in_channels': channels, 'out_channels': channels}
    norm = {'norm_cfg': {'type': 'BN', 'affine': affine}}
    return nn.ModuleList(
        [
            NasBench201Zero(**common),
            NasBench201SkipConnect(**common, **norm),
            NasBench201Conv(kernel_size=1, **common, **norm),
            NasBench201Conv(kernel_size=3, **common, **norm),
            NasBench201AvgPool(**common, **norm),
        ]
    ).double()


def mixed(
    ops: nn.ModuleList, monkeypatch: pytest.MonkeyPatch, kernels: bool, **mixture: Any
) -> tuple[list[Tensor], list[str]]:
    """Return output, gradients and buffers, and which kernels were called."""
    called: list[str] = []
    library = native._library
    with monkeypatch.context() as patch:
        if not kernels:
            patch.setattr(native, '_library', None)
        else:

            class Listening:
                def __getattr__(self, name: str) -> Any:
                    called.append(name)
                    return getattr(library, name)

            patch.setattr(native, '_library', Listening())
        x = source(3, 4, 6, 5).requires_grad_()
        weights = torch.linspace(0.1, 0.3, len(ops), dtype=x.dtype).requires_grad_()
        out = mix(list(ops), [x] * len(ops), Mixture(weights, **mixture))
        leaves = [x, weights, *ops.parameters()]
        slope = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
        grads = torch.autograd.grad(out, leaves, slope, allow_unused=True)
    values = [torch.zeros(()) if grad is None else grad for grad in grads]
    return [out.detach(), *values, *ops.buffers()], called


EDGE = 'kernels_edge_forward'


@needs_kernels
@pytest.mark.parametrize(
    ('mixture', 'fused'),
    [
        ({}, True),
        ({'paths': [3]}, True),
        ({'paths': [1, 2]}, True),
        ({'paths': [1]}, False),
        ({'paths': [0, 4]}, False),
        ({'paths': [3], 'silent': [1, 2]}, True),
    ],
)
def test_operations_are_mixed_in_one_call(
    mixture: dict[str, Any], fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, called = mixed(operations(), monkeypatch, True, **mixture)
    other, _ = mixed(operations(), monkeypatch, False, **mixture)
    assert (EDGE in called) == fused
    for one, two in zip(mine, other, strict=True):
        assert_close(one, two, rtol=1e-11, atol=1e-11)


@needs_kernels
@pytest.mark.parametrize('where', ['3', '3.conv', '3.conv.net', '3.conv.net.0', '3.conv.net.1'])
def test_hooks_are_called(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ops, heard = operations(), []
    ops.get_submodule(where).register_forward_hook(lambda *_: heard.append(where))
    mine, called = mixed(ops, monkeypatch, True)
    assert heard == [where]
    assert EDGE in called  # The others are done in one call still.
    other, _ = mixed(operations(), monkeypatch, False)
    assert_close(mine, other, rtol=1e-11, atol=1e-11)


@needs_kernels
def test_second_derivatives_are_taken_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of an edge is not enough for them: all of it would run once more."""
    with uncompiled():
        mine, called = mixed(operations(), monkeypatch, True)
    other, _ = mixed(operations(), monkeypatch, False)
    assert EDGE not in called
    assert_close(mine, other, rtol=1e-11, atol=1e-11)


@needs_kernels
def test_a_candidate_of_another_kind_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_another() -> nn.ModuleList:
        ops = operations()
        torch.manual_seed(2)
        conv = DartsSepConv(kernel_size=3, in_channels=4, out_channels=4)
        return ops.append(conv.double())

    mine, called = mixed(with_another(), monkeypatch, True)
    other, _ = mixed(with_another(), monkeypatch, False)
    assert EDGE in called
    assert_close(mine, other, rtol=1e-11, atol=1e-11)


@needs_kernels
@pytest.mark.parametrize('change', ['eval', 'affine', 'relu', 'parametrized'])
def test_operations_in_another_state_are_run_one_by_one(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed() -> nn.ModuleList:
        ops = operations(affine=change == 'affine')
        if change == 'relu':
            for k in (2, 3):
                ops[k].conv.net[0] = nn.LeakyReLU()
        if change == 'parametrized':
            for k in (2, 3):
                nn.utils.parametrizations.weight_norm(ops[k].conv.net[1])
        return ops.eval() if change == 'eval' else ops

    mine, called = mixed(changed(), monkeypatch, True)
    other, _ = mixed(changed(), monkeypatch, False)
    assert EDGE not in called
    assert_close(mine, other, rtol=1e-11, atol=1e-11)
