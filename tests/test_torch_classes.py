"""Exported networks are made of the layers of torch, and compute the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.mutables import network_of, our_classes_kept, use_torch_classes
from mmrazor_mutators.ops.fast_convs import DepthwiseConv2d, PointwiseConv2d
from mmrazor_mutators.ops.fast_pools import AveragePool2d
from mmrazor_mutators.ops.separable import SeparableConv

OURS = {DepthwiseConv2d, PointwiseConv2d, AveragePool2d, SeparableConv}
SPACES: dict[str, dict[str, Any]] = {
    'DartsSupernet': {'base_channels': 4, 'num_layers': 3, 'num_nodes': 3},
    'NasBench201Supernet': {'base_channels': 4, 'num_cells': 1},
}


def found(name: str, seed: int) -> tuple[nn.Module, nn.Module, dict[str, Any]]:
    cfg = {'type': name, 'in_channels': 3, 'num_classes': 5, **SPACES[name]}
    supernet = mm.build_architecture(cfg)
    mutator = mm.GDASMutator()
    mutator.prepare_from_supernet(supernet)
    with torch.no_grad():
        for _ in range(3):
            supernet(torch.randn(4, 3, 16, 16))
    subnet = mutator.random_subnet(seed)
    return supernet, mutator.export_subnet(supernet, subnet), subnet


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('name', SPACES)
def test_classes_are_those_of_torch_and_outputs_are_equal(name: str, channels_last) -> None:
    seen = set()
    x = torch.randn(2, 3, 16, 16)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    for seed in range(4):
        supernet, net, subnet = found(name, seed)
        ours = network_of(supernet, subnet)
        if channels_last:
            net, ours = (n.to(memory_format=torch.channels_last) for n in (net, ours))
        classes = {type(module) for module in ours.modules()}
        seen |= classes & OURS
        assert not {type(module) for module in net.modules()} & OURS
        assert list(net.state_dict()) == list(ours.state_dict())
        for mode in (False, True):
            assert_close(net.train(mode)(x), ours.train(mode)(x), rtol=1e-5, atol=1e-6)
        if not channels_last:
            with torch.no_grad():
                assert_close(net.eval()(x), ours.eval()(x), rtol=0, atol=1e-6)
    assert len(seen) > 1


def test_a_subclass_keeps_its_class() -> None:
    class Twice(PointwiseConv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    net = nn.Sequential(Twice(2, 3, 1), PointwiseConv2d(3, 2, 1))
    use_torch_classes(net)
    assert [type(layer) for layer in net] == [Twice, nn.Conv2d]


def test_classes_of_ours_are_kept_only_inside_of_the_block() -> None:
    net = nn.Sequential(PointwiseConv2d(3, 2, 1))
    with our_classes_kept():
        use_torch_classes(net)
    assert type(net[0]) is PointwiseConv2d
    with pytest.raises(KeyError), our_classes_kept():
        raise KeyError
    use_torch_classes(net)
    assert type(net[0]) is nn.Conv2d


# Torch prefers torch.export; those who still have TorchScript in use need this.
@pytest.mark.filterwarnings('ignore:.torch.jit.trace:DeprecationWarning')
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_torchscript_takes_the_network() -> None:
    _, net, _ = found('DartsSupernet', 1)
    x = torch.randn(2, 3, 16, 16)
    traced = torch.jit.trace(net.eval(), x)
    assert_close(traced(x), net(x), rtol=0, atol=1e-6)
