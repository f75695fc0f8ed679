"""Buffers that are put back, or lent for a while, as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mmrazor_mutators.copies import SavedBuffers
from mmrazor_mutators.recomputation import Recomputed


class Holder(nn.Module):
    """Buffers of every kind: one that it shares, one with a gradient, none at all."""

    def __init__(self, shared: Tensor) -> None:
        super().__init__()
        self.register_buffer('shared', shared)
        self.register_buffer('learnt', torch.ones(2, requires_grad=True))
        self.register_buffer('nothing', None)


def buffers_of(module: nn.Module) -> list[Any]:
    return [b for part in module.modules() for b in part._buffers.values()]


@pytest.mark.parametrize('fails', [False, True])
def test_a_module_works_on_copies(fails: bool) -> None:
    shared = torch.tensor([1.0, 2.0])
    net = nn.Sequential(Holder(shared), Holder(shared))
    saved = SavedBuffers(net)
    shared += 1
    net[0].register_buffer('late', torch.zeros(1))
    before = buffers_of(net)
    versions = [b if b is None else b._version for b in before]

    def work() -> None:
        for _ in range(2):  # Nothing is left of the first time.
            with saved.lent():
                assert_close(net[0].shared, torch.tensor([1.0, 2.0]))
                assert net[0].shared is net[1].shared
                assert net[0].learnt is before[1]
                assert net[0].nothing is None
                net[0].shared.zero_()
                net[1].shared = torch.ones(3)
                if fails:
                    raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            work()
    else:
        work()
    assert all(mine is b for mine, b in zip(buffers_of(net), before, strict=True))
    assert [b if b is None else b._version for b in before] == versions
    assert_close(shared, torch.tensor([2.0, 3.0]))


def test_a_norm_that_is_recomputed_disturbs_no_graph() -> None:
    """A pass in eval mode notes the statistics themselves, and they may not be written to."""
    norm, x = nn.BatchNorm1d(2).eval(), torch.randn(4, 2, requires_grad=True)
    outside, inside = norm(x), Recomputed(norm, norm)(x)
    assert_close(torch.autograd.grad(inside.sum(), x), torch.autograd.grad(outside.sum(), x))


def test_a_buffer_with_a_gradient_learns() -> None:
    holder, x = Holder(torch.ones(2)), torch.tensor([0.5, -2.0])
    Recomputed(lambda x: (holder.learnt * x).tanh(), holder)(x).sum().backward()
    assert_close(holder.learnt.grad, x * (1 - x.tanh() ** 2))
