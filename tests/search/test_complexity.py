"""Costs of subnets: those of the exported network, without exporting it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmengine.analysis import FlopAnalyzer
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, SubnetError
from mmrazor_mutators.search import SubnetCosts
from mmrazor_mutators.search.complexity import module_flops

NB201 = {
    'type': 'NasBench201Supernet',
    'in_channels': 2,
    'num_classes': 3,
    'base_channels': 4,
    'num_cells': 1,
}
DARTS = {
    'type': 'DartsSupernet',
    'in_channels': 2,
    'num_classes': 3,
    'base_channels': 4,
    'num_layers': 3,
    'num_nodes': 2,
}


def counted(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Return the FLOPs by the counter's own total."""
    counter = FlopAnalyzer(copy.deepcopy(net).eval(), torch.zeros(1, *shape))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counter.tracer_warnings('none')
    return counter.total()


def prepared(architecture: Any) -> tuple[Any, Any]:
    supernet = mm.build_architecture(architecture)
    mutator = mm.OneShotMutator()
    mutator.prepare_from_supernet(supernet)
    return supernet, mutator


@pytest.mark.parametrize('architecture', [NB201, DARTS], ids=lambda cfg: cfg['type'])
def test_costs_are_those_of_the_exported_network(architecture: Any) -> None:
    supernet, mutator = prepared(architecture)
    mutator.set_subnet(mutator.random_subnet(9))
    active = [m.active_names for m in mm.mutables.find_mutables(supernet)]
    buffers = copy.deepcopy(supernet.state_dict())
    supernet.train()
    costs = SubnetCosts(supernet, (2, 8, 8))
    assert [m.active_names for m in mm.mutables.find_mutables(supernet)] == active
    assert all(torch.equal(v, buffers[k]) for k, v in supernet.state_dict().items())
    assert supernet.training
    found = set()
    for seed in range(4):
        subnet = mutator.random_subnet(seed)
        net = mutator.export_subnet(supernet, subnet)
        expected = {
            'flops': counted(net, (2, 8, 8)),
            'params': sum(p.numel() for p in net.parameters()),
        }
        assert costs(subnet) == expected
        full = mutator.masks_to_subnet(mutator.subnet_to_masks(subnet))
        assert costs(full) == expected
        mutator.set_subnet(subnet)
        assert costs() == expected
        found.add(expected['flops'])
    assert len(found) > 2
    with pytest.raises(SubnetError, match="a space 'nope'"):
        costs({**subnet, 'nope': {'chosen': ['a']}})


def test_flops_are_multiply_adds() -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 5, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(80, 7),
    )
    flops = module_flops(net, (2, 8, 8))
    assert flops == {'': 0, '0': 2 * 5 * 9 * 16, '1': 0, '2': 0, '3': 80 * 7}


class Twice(nn.Module):
    """Uses one layer in two places, and one of its choices holds another's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        tied = nn.Linear(4, 4, bias=False)
        tied.weight = self.layer.weight
        self.op = mm.OneShotOP(
            space_id='a', choices={'tied': tied, 'own': nn.Linear(4, 4), 'no': nn.Identity()}
        )

    def forward(self, x: Any) -> Any:
        return self.op(self.layer(self.layer(x)))


def test_shared_weights_count_once_and_shared_work_twice() -> None:
    net = Twice()
    costs = SubnetCosts(net, (3, 5, 4))
    per_use = 16 * 15
    expected = {'tied': (3 * per_use, 16), 'own': (3 * per_use, 36), 'no': (2 * per_use, 16)}
    for name, (flops, params) in expected.items():
        assert costs({'a': {'chosen': [name]}}) == {'flops': flops, 'params': params}


def test_images_that_do_not_fit() -> None:
    supernet, _ = prepared(NB201)
    with pytest.raises(ConfigError, match=r'shape \(3, 8, 8\) do not pass NasBench201Supernet'):
        SubnetCosts(supernet, (3, 8, 8))
    assert all(len(m.active_names) == 5 for m in mm.mutables.find_mutables(supernet))
