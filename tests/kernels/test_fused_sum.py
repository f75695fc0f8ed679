"""Weighted sums of maps by the compiled kernels, against the plain sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from kernel_cases import EXACT, last, needs_kernels, often
from torch import Tensor, nn
from torch.testing import assert_close

from mmrazor_mutators.kernels.fused_sum import batch_norm_of, fused_sum, takes_map
from mmrazor_mutators.mutables import mixing
from mmrazor_mutators.ops import DartsDilConv, DartsSkipConnect
from mmrazor_mutators.sharing import Begun, Open, Prologue, begin
from mmrazor_mutators.typing import Mixture


def random_maps(kinds: str, *size: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(len(kinds))
    return [last(3 * torch.randn(*size, dtype=dtype) - k) for k in range(len(kinds))]


def modules(kinds: str, channels: int, dtype: torch.dtype) -> list[nn.BatchNorm2d | None]:
    """Return a norm for every ``n``, each with options and statistics of its own."""
    found: list[nn.BatchNorm2d | None] = []
    for k, kind in enumerate(kinds):
        torch.manual_seed(k)
        options: dict[str, Any] = {'affine': False, 'momentum': 0.1 + 0.1 * k}
        norm = nn.BatchNorm2d(channels, eps=10.0 ** (-1 - k % 4), **options).to(dtype)
        norm(torch.randn(4, channels, 3, 3, dtype=dtype) + 1)
        found.append(norm if kind == 'n' else None)
    return found


def by_kernel(maps: Any, norms: Any, weights: Any) -> Tensor:
    channels = maps[0].shape[1]
    known = [None if norm is None else batch_norm_of(norm, channels) for norm in norms]
    found = fused_sum(maps, known, weights)
    assert found is not None
    return found


def plainly(maps: Any, norms: Any, weights: Any) -> Any:
    terms = zip(maps, norms, weights, strict=True)
    return sum(w * (x if norm is None else norm(x)) for x, norm, w in terms)


def through(
    compute: Callable[..., Tensor], kinds: str, maps: list[Tensor], wanted: str = 'both'
) -> list[Tensor]:
    """Return output, gradients and running statistics."""
    norms = modules(kinds, maps[0].shape[1], maps[0].dtype)
    row = torch.linspace(-1, 1.3, len(kinds), dtype=maps[0].dtype)
    weights = row.requires_grad_(wanted != 'maps').unbind()
    maps = [x.detach().requires_grad_(wanted != 'weights') for x in maps]
    out = compute(maps, norms, weights)
    slope = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    leaves = {'maps': maps, 'weights': [row], 'both': [*maps, row]}[wanted]
    grads = torch.autograd.grad(out, leaves, slope)
    buffers = [b for norm in norms if norm is not None for b in norm.buffers()]
    return [out.detach(), *grads, *buffers]


@needs_kernels
@often
@given(
    batch=st.integers(1, 5),
    channels=st.sampled_from([1, 2, 3, 4, 5, 8, 16, 20, 33]),
    size=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    kinds=st.text('n.', min_size=1, max_size=9),
    wanted=st.sampled_from(['maps', 'weights', 'both']),
)
def test_a_sum(
    batch: int, channels: int, size: tuple[int, int], kinds: str, wanted: str, variant: None
) -> None:
    assume(batch * size[0] * size[1] > 2)
    maps = random_maps(kinds, batch, channels, *size)
    found = [through(compute, kinds, maps, wanted) for compute in (by_kernel, plainly)]
    for mine, other in zip(*found, strict=True):
        # Gradients through a norm of few pixels are 0 but for rounding.
        assert_close(mine, other, rtol=1e-11, atol=1e-11)


@needs_kernels
@pytest.mark.parametrize('mean', [0.0, 30.0, -3000.0])
@pytest.mark.parametrize('channels', [4, 16, 20])
def test_single_precision_is_as_good_as_that_of_torch(
    mean: float, channels: int, variant: None
) -> None:
    kinds = 'n.n.'
    maps = random_maps(kinds, 8, channels, 16, 16, dtype=torch.float32)
    maps = [x + mean for x in maps]
    best = through(plainly, kinds, [x.double() for x in maps])
    mine = through(by_kernel, kinds, maps)
    theirs = through(plainly, kinds, maps)
    for one, other, exact in zip(mine, theirs, best, strict=True):
        errors = [(found - exact).abs().max() for found in (one, other)]
        assert errors[0] <= 2 * errors[1] + 1e-6 * exact.abs().max()


@needs_kernels
def test_gradients_that_are_not_dense() -> None:
    maps = random_maps('n.', 2, 3, 4, 5)

    def half(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *args: torch.cat([args[0][1], compute(*args)], 1).transpose(2, 3)

    found = [through(half(compute), 'n.', maps) for compute in (by_kernel, plainly)]
    assert_close(*found, **EXACT)


@needs_kernels
@pytest.mark.parametrize('wanted', ['maps', 'weights', 'both'])
def test_derivatives_of_higher_order(wanted: str) -> None:
    norms = modules('n.n', 2, torch.float64)
    maps = [x.requires_grad_(wanted != 'weights') for x in random_maps('n.n', 2, 2, 3, 2)]
    row = torch.randn(3, dtype=torch.float64, requires_grad=wanted != 'maps')

    def run(row: Tensor, *maps: Tensor) -> Tensor:
        return by_kernel(maps, norms, row.unbind())

    assert torch.autograd.gradcheck(run, (row, *maps))
    assert torch.autograd.gradgradcheck(run, (row, *maps))


@needs_kernels
@pytest.mark.parametrize(
    ('weights', 'maps', 'kept'), [(True, True, 3), (False, True, 2), (False, False, 0)]
)
def test_what_is_kept(weights: bool, maps: bool, kept: int) -> None:
    """Without the gradient of its weight, a map as it is need not be kept."""
    values = [x.requires_grad_(maps) for x in random_maps('n.n', 2, 2, 3, 2)]
    row = torch.rand(3, dtype=torch.float64, requires_grad=weights).unbind()
    saved: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        saved.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        by_kernel(values, modules('n.n', 2, torch.float64), row)
    assert len([x for x in saved if x.dim() == 4]) == kept


@needs_kernels
def test_threads_do_not_change_the_numbers() -> None:
    maps = random_maps('n.n', 5, 20, 33, 31, dtype=torch.float32)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            found.append(through(by_kernel, 'n.n', maps))
        finally:
            torch.set_num_threads(1)
    for other in found[1:]:
        assert_close(other, found[0], rtol=0, atol=0)


def test_norms_that_a_sum_cannot_do() -> None:
    options: list[dict[str, Any]] = [{'affine': True}, {'momentum': None}]
    options += [{'track_running_stats': False}, {'eps': 0.0}]
    for option in options:
        assert batch_norm_of(nn.BatchNorm2d(3, **{'affine': False, **option}), 3) is None
    norm = nn.BatchNorm2d(3, affine=False)
    assert batch_norm_of(norm, 3) is not None
    assert batch_norm_of(norm, 4) is None
    assert batch_norm_of(nn.SyncBatchNorm(3, affine=False), 3) is None
    for name in ('forward', 'forward_pre', 'full_backward', 'full_backward_pre'):
        handle = getattr(norm, f'register_{name}_hook')(lambda *_: None)
        assert batch_norm_of(norm, 3) is None
        handle.remove()
    assert batch_norm_of(norm, 3) is not None
    assert batch_norm_of(norm.eval(), 3) is None
    strided = nn.BatchNorm2d(3, affine=False)
    strided.running_mean = torch.zeros(6)[::2]
    assert batch_norm_of(strided, 3) is None


def test_maps_that_a_sum_cannot_take() -> None:
    x = last(torch.zeros(2, 3, 4, 5))
    assert takes_map(x)
    assert not takes_map(x.contiguous())
    assert not takes_map(x[:1, :, :1, :1])
    assert not takes_map(x[:0])
    assert not takes_map(x[0])


@needs_kernels
def test_sums_that_torch_has_to_do() -> None:
    maps, weights = random_maps('..', 2, 3, 4, 5), torch.rand(2).double().unbind()
    assert fused_sum(maps, [None, None], weights) is not None
    assert fused_sum(maps, [None, None], [w.float() for w in weights]) is None
    assert fused_sum(maps, [None, None], [w[None] for w in weights]) is None
    assert fused_sum([maps[0], maps[1].float()], [None, None], weights) is None
    with torch.autocast('cpu', torch.bfloat16):
        assert fused_sum(maps, [None, None], weights) is None


class Candidate(nn.Module):
    """A user's candidate that leaves its norm open."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def prologue(self) -> Prologue:
        return Prologue('square', torch.square)

    def epilogue(self, shared: Tensor) -> Tensor:
        return self.norm(shared)

    def open_epilogue(self, shared: Tensor) -> Open:
        return Open(shared, self.norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.square())


class Turned(nn.Module):
    """A candidate with an output of another layout."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous() * 2


def candidates(drop_prob: float = 0.0) -> nn.ModuleList:
    torch.manual_seed(0)
    dropped: Any = DartsDilConv(3, in_channels=4, out_channels=4, use_drop_path=True)
    dropped.drop_path.drop_prob = drop_prob
    options: list[dict[str, Any]] = [{'affine': False}, {}, {'affine': False, 'momentum': None}]
    norms = [nn.BatchNorm2d(4, **option) for option in options]
    others: list[nn.Module] = [
        nn.Sigmoid(),
        Turned(),
        DartsSkipConnect(in_channels=4, out_channels=4),
    ]
    plain = DartsDilConv(
        5, in_channels=4, out_channels=4, norm_cfg={'type': 'BN', 'affine': False}
    )
    return nn.ModuleList([dropped, plain, *map(Candidate, norms), *others]).double()


def mixed(
    ops: nn.ModuleList, sharing: bool = True, layout: Any = torch.channels_last
) -> list[Tensor]:
    """Return the mixture, gradients and buffers."""
    torch.manual_seed(3)
    x = torch.randn(3, 4, 6, 5, dtype=torch.float64).contiguous(memory_format=layout)
    weights = torch.linspace(-1, 2, len(ops), dtype=torch.float64).requires_grad_()
    x.requires_grad_()
    if sharing:
        out = mixing.mix(list(ops), [x] * len(ops), Mixture(weights))
    else:
        out = sum(w * op(x) for w, op in zip(weights, ops, strict=True))
    slope = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    leaves = [x, weights, *ops.parameters()]
    return [out, *torch.autograd.grad(out, leaves, slope), *ops.buffers()]


@pytest.mark.parametrize('layout', [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('drop_prob', [0.0, 0.4])
def test_candidates_of_all_kinds(drop_prob: float, training: bool, layout: Any) -> None:
    found = [
        mixed(candidates(drop_prob).train(training), sharing, layout)
        for sharing in (True, False)
    ]
    assert_close(*found, **EXACT)


def test_a_norm_with_a_hook_runs_itself() -> None:
    seen: list[int] = []
    ops: Any = candidates()
    ops[2].norm.register_forward_hook(lambda *_: seen.append(1))
    found = mixed(ops)
    assert seen == [1]
    assert_close(found, mixed(candidates(), sharing=False), **EXACT)


@needs_kernels
def test_who_is_summed_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[tuple[int, int]] = []

    def noted(maps: Any, norms: Any, weights: Any) -> Any:
        counts.append((len(maps), sum(norm is not None for norm in norms)))
        return fused_sum(maps, norms, weights)

    monkeypatch.setattr(mixing, 'fused_sum', noted)
    mixed(candidates())
    mixed(candidates(0.4).eval())
    mixed(nn.ModuleList(candidates()[:1]))
    # All but the one of another layout; of the norms those without parameters.
    assert counts == [(7, 2), (7, 0)]


def test_weights_of_another_type_do_without() -> None:
    norm = nn.BatchNorm2d(3, affine=False, momentum=1.0).double()
    (x,) = random_maps('.', 2, 3, 4, 5)
    ops = [Candidate(norm), nn.Identity()]
    begun = [begin(op, x) for op in ops]
    assert begun[1] == Begun(x, shares=False)
    weights = torch.tensor([0.25, 0.5]).unbind()
    out = mixing.weighted_sum(ops, begun, weights)
    squares = x.square()
    expected = 0.25 * nn.BatchNorm2d(3, affine=False).double()(squares) + 0.5 * x
    assert_close(out, expected, **EXACT)
    assert norm.num_batches_tracked == 1
