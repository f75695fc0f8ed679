"""Weighted sums of maps as one node of a graph, against the plain sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_cases import EXACT, last
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from mmrazor_mutators.kernels import native
from mmrazor_mutators.kernels.eager_sum import eager_sum
from mmrazor_mutators.kernels.fused_sum import batch_norm_of
from mmrazor_mutators.kernels.graph_nodes import is_plain
from mmrazor_mutators.mutables import mixing
from mmrazor_mutators.ops import DartsDilConv, DartsPoolBN, DartsSkipConnect
from mmrazor_mutators.typing import Mixture


@pytest.fixture(autouse=True)
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, '_library', None)


def norms_of(kinds: str, channels: int) -> list[nn.BatchNorm2d | None]:
    """Return a norm for every ``n``, each with options and statistics of its own."""
    found: list[nn.BatchNorm2d | None] = []
    for k, kind in enumerate(kinds):
        options: dict[str, Any] = {'affine': False, 'momentum': 0.1 + 0.1 * k}
        norm = nn.BatchNorm2d(channels, eps=10.0 ** (-1 - k), **options).double()
        norm(torch.arange(4.0 * channels).double().view(4, channels, 1, 1))
        found.append(norm if kind == 'n' else None)
    return found


def at_once(maps: Any, norms: Any, weights: Any) -> Any:
    known = [
        None if norm is None else batch_norm_of(norm, len(norm.running_mean)) for norm in norms
    ]
    return eager_sum(maps, known, weights)


def plainly(maps: Any, norms: Any, weights: Any) -> Any:
    terms = zip(maps, norms, weights, strict=True)
    return sum(w * (x if norm is None else norm(x)) for x, norm, w in terms)


def through(compute: Callable[..., Tensor], kinds: str, wanted: str) -> list[Tensor]:
    """Return output, gradients and running statistics."""
    torch.manual_seed(len(kinds))
    norms, slope = norms_of(kinds, 3), torch.randn(2, 3, 5, 4).double()
    row = torch.linspace(-1, 1.3, len(kinds)).double().requires_grad_(wanted != 'maps')
    maps = [last(3 * torch.randn(2, 3, 5, 4).double() - k) for k in range(len(kinds))]
    maps = [x.requires_grad_(wanted != 'weights') for x in maps]
    out = compute(maps, norms, row.unbind())
    leaves = {'maps': maps, 'weights': [row], 'both': [*maps, row]}[wanted]
    # Gradients come as windows of larger ones.
    wide = torch.cat([slope, slope], 1)[:, :3]
    grads = torch.autograd.grad(out, leaves, wide)
    buffers = [b for norm in norms if norm is not None for b in norm.buffers()]
    return [out.detach(), *grads, *buffers]


@pytest.mark.parametrize('wanted', ['maps', 'weights', 'both'])
@pytest.mark.parametrize('kinds', ['n', '.', 'nn', '..', 'n.n.', '.nn', '..n'])
def test_a_sum(kinds: str, wanted: str) -> None:
    found = through(at_once, kinds, wanted)
    for mine, other in zip(found, through(plainly, kinds, wanted), strict=True):
        assert_close(mine, other, **EXACT)


@pytest.mark.parametrize('wanted', ['maps', 'weights', 'both'])
def test_derivatives_of_higher_order(wanted: str) -> None:
    kinds = 'n.n'
    row = torch.tensor([0.3, -1.2, 0.8]).double().requires_grad_(wanted != 'maps')
    maps = [last(torch.randn(2, 2, 2, 3).double()) for _ in kinds]
    maps = [x.requires_grad_(wanted != 'weights') for x in maps]

    def compute(*parts: Tensor) -> Any:
        return at_once(parts[:3], norms_of(kinds, 2), parts[3].unbind())

    assert torch.autograd.gradcheck(compute, [*maps, row])
    assert torch.autograd.gradgradcheck(compute, [*maps, row])


def test_inputs_stay_as_they_were() -> None:
    maps = [last(torch.randn(2, 3, 4, 4)) for _ in range(3)]
    before = [x.clone() for x in maps]
    weights = torch.rand(3).unbind()
    with torch.no_grad():
        total = eager_sum(maps, [None] * 3, weights)
    assert_close(total, plainly(before, [None] * 3, weights))
    assert all(map(torch.equal, maps, before))


def test_where_it_stays_out() -> None:
    maps, weights = [last(torch.randn(2, 3, 4, 4)) for _ in range(2)], torch.rand(2).unbind()
    assert eager_sum(maps, [None, None], weights) is not None
    assert eager_sum(maps, [None, None], [w.double() for w in weights]) is None
    assert eager_sum(maps, [None, None], [w[None] for w in weights]) is None
    assert eager_sum([maps[0], maps[1].double()], [None, None], weights) is None
    with torch.autocast('cpu', torch.bfloat16):
        assert eager_sum(maps, [None, None], weights) is None
    known = batch_norm_of(nn.BatchNorm2d(3, affine=False).double(), 3)
    assert eager_sum(maps, [known, None], weights) is None


def test_what_is_plain() -> None:
    x = torch.ones(2)
    seen: list[bool] = []

    def note(y: Tensor) -> Tensor:
        seen.append(is_plain(y))
        return y.sum()

    torch.func.grad(note)(x)
    with torch.autograd.forward_ad.dual_level():
        note(x)
    with FlopCounterMode(display=False):
        note(x)
    with torch.autocast('cpu', torch.bfloat16):
        note(x)
    note(x.to_sparse())
    note(x.to('meta'))
    note(x.bfloat16())
    assert seen == [False] * 7
    assert is_plain(x, nn.Parameter(x))
    assert not is_plain(x, x.double())


@pytest.mark.parametrize('together', [True, False], ids=['channels last', 'NCHW'])
def test_a_mixture_is_the_plain_sum(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, Any] = {'in_channels': 3, 'out_channels': 3}
    ops = nn.ModuleList(
        [
            DartsDilConv(kernel_size=3, norm_cfg={'type': 'BN', 'affine': False}, **sizes),
            DartsDilConv(kernel_size=5, **sizes),
            DartsPoolBN('avg', norm_cfg={'type': 'BN', 'affine': False}, **sizes),
            DartsSkipConnect(**sizes),
        ]
    ).double()
    x = torch.randn(2, 3, 6, 8).double()
    x = (last(x) if together else x).requires_grad_()
    row = torch.tensor([0.1, 0.2, 0.3, 0.4]).double().requires_grad_()
    counts: list[int] = []

    def noted(maps: Any, *args: Any) -> Any:
        counts.append(len(maps))
        return eager_sum(maps, *args)

    monkeypatch.setattr(mixing, 'eager_sum', noted)
    out = mixing.mix(list(ops), [x] * len(ops), Mixture(row))
    plain: Any = sum(w * op(x) for w, op in zip(row, ops, strict=True))
    # One has a norm with parameters: it closes by itself, and joins then.
    if together:
        assert counts == [4]
    slope = torch.randn_like(plain)
    leaves = [x, row, *ops.parameters()]
    found, expected = (torch.autograd.grad(y, leaves, slope) for y in (out, plain))
    assert_close(out, plain, **EXACT)
    for mine, other in zip(found, expected, strict=True):
        assert_close(mine, other, rtol=1e-11, atol=1e-12)
