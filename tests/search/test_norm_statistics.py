"""Batch norms take the statistics of some batches, and have their own again afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mmrazor_mutators.search.norm_statistics import batch_norms, recalibrated


def network() -> nn.Sequential:
    net = nn.Sequential(
        nn.BatchNorm1d(3, momentum=0.3),
        nn.Dropout(0.5),
        nn.Linear(3, 4),
        nn.BatchNorm1d(4, affine=False),
        nn.BatchNorm1d(4, track_running_stats=False),
    ).double()
    net.train()
    net(torch.randn(8, 3, dtype=torch.float64))
    return net.eval()


def test_statistics_are_the_means_over_the_batches() -> None:
    net = network()
    batches = [torch.randn(n, 3, dtype=torch.float64) + 2 for n in (6, 6, 9)]
    before = copy.deepcopy(net.state_dict())
    modes = [module.training for module in net.modules()]
    assert len(batch_norms(net)) == 2
    with recalibrated(net, net, iter(batches)):
        norm = net[0]
        assert_close(norm.running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
        assert_close(norm.running_var, torch.stack([b.var(0) for b in batches]).mean(0))
        hidden = [
            net[2]((b - b.mean(0)) / (b.var(0, correction=0) + norm.eps).sqrt() * norm.weight)
            for b in batches
        ]
        assert_close(net[3].running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0))
        assert [module.training for module in net.modules()] == modes
        assert norm.momentum == 0.3
        assert int(norm.num_batches_tracked) == 3
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_without_batches_nothing_changes() -> None:
    net = network()
    before = copy.deepcopy(net.state_dict())
    with recalibrated(net, net, ()):
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize('inside', [True, False])
def test_everything_is_put_back_after_an_error(inside: bool) -> None:
    net = network()
    before = copy.deepcopy(net.state_dict())

    def run(batch: torch.Tensor) -> None:
        net(batch)
        if not inside:
            raise KeyError('stop')

    with pytest.raises(KeyError), recalibrated(net, run, [torch.randn(5, 3).double()]):
        raise KeyError('stop')
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert (net[0].training, net[0].momentum) == (False, 0.3)
