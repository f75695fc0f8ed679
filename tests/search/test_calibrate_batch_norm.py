"""Batch norms of inherited weights get the statistics of data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, InputError


def network_and_batches() -> tuple[Any, list[Tensor]]:
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, momentum=0.3), nn.Dropout(0.5), nn.BatchNorm2d(3)
    )
    network[1].eval()
    network[1].running_var.fill_(7)
    return network, [torch.randn(n, 2, 5, 5) * n for n in (4, 6, 3)]


def test_statistics_are_averages_over_batches() -> None:
    network, batches = network_and_batches()
    modes = [module.training for module in network.modules()]
    weights = [p.clone() for p in network.parameters()]
    with torch.no_grad():
        maps = [network[0](x) for x in batches]
    assert mm.calibrate_batch_norm(network, batches) == 3
    means = torch.stack([y.mean((0, 2, 3)) for y in maps])
    variances = torch.stack([y.var((0, 2, 3)) for y in maps])
    assert_close(network[1].running_mean, means.mean(0))
    assert_close(network[1].running_var, variances.mean(0))
    # Behind the first norm every batch has mean 0: nothing was dropped in between.
    assert_close(network[3].running_mean, torch.zeros(3), rtol=0, atol=1e-6)
    assert [norm.momentum for norm in (network[1], network[3])] == [0.3, 0.1]
    assert [module.training for module in network.modules()] == modes
    assert_close(list(network.parameters()), weights, rtol=0, atol=0)
    assert all(p.grad is None for p in network.parameters())


def pairs(x: Tensor) -> Any:
    return x, torch.zeros(len(x))


@pytest.mark.parametrize(
    ('form', 'forward'),
    [
        (pairs, None),
        (lambda x: {'inputs': x}, None),
        (lambda x: {'img': x, 'gt_label': None}, None),
        (lambda x: {'x': x}, lambda network, batch: network(batch['x'])),
    ],
)
def test_forms_of_batches_and_their_number(form: Any, forward: Any) -> None:
    network, batches = network_and_batches()
    twin, _ = network_and_batches()
    twin.load_state_dict(network.state_dict())
    mm.calibrate_batch_norm(twin, batches[:2])
    loader = map(form, batches)
    assert mm.calibrate_batch_norm(network, loader, batches=2, forward=forward) == 2
    assert_close(network.state_dict(), twin.state_dict(), rtol=0, atol=0)
    assert next(loader) is not None  # No more was read than was used.


def test_errors_leave_the_network_as_it_was() -> None:
    network, batches = network_and_batches()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    with pytest.raises(InputError, match='at least one batch'):
        mm.calibrate_batch_norm(network, [])
    with pytest.raises(ConfigError, match=r'`batches` .* 0'):
        mm.calibrate_batch_norm(network, batches, batches=0)
    with pytest.raises(InputError, match='`inputs` or `img` as a batch, but got x, y'):
        mm.calibrate_batch_norm(network, [batches[0], {'x': 1, 'y': 2}])
    with pytest.raises(RuntimeError, match='channels'):
        mm.calibrate_batch_norm(network, [batches[0], torch.ones(2, 1, 5, 5)])
    assert_close(network.state_dict(), state, rtol=0, atol=0)
    assert [module.training for module in network.modules()] == modes
    assert network[1].momentum == 0.3


def test_inherited_weights_predict_better() -> None:
    """The statistics of a mixture are far off for one path; those of data are exact."""
    supernet = mm.build_architecture(
        {
            'type': 'NasBench201Supernet',
            'in_channels': 3,
            'num_classes': 4,
            'base_channels': 4,
            'num_cells': 1,
        }
    )
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    x = torch.randn(16, 3, 8, 8)
    for _ in range(20):
        supernet(x)
    network = mutator.export_subnet(supernet, mutator.random_subnet(1))
    with torch.no_grad():
        exact = network.train()(x)
        off = (network.eval()(x) - exact).abs().max()
        mm.calibrate_batch_norm(network, [x])
        assert (network(x) - exact).abs().max() < 0.2 * off
