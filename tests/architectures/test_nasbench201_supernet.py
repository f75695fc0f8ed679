from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.architectures import NasBench201Reduction, arch_string_to_subnet

ALL = '|{0}~0|+|{0}~0|{0}~1|+|{0}~0|{0}~1|{0}~2|'
MIXED = (
    '|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|'
)


def found_network(arch_string: str, **arguments: object) -> nn.Module:
    supernet = mm.NasBench201Supernet(**arguments)
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    return mutator.export_subnet(supernet, arch_string_to_subnet(arch_string))


@pytest.mark.parametrize(
    ('operation', 'num_classes', 'parameters'),
    [
        # The largest and smallest networks of the benchmark, in its own count.
        ('nor_conv_3x3', 10, 1_531_546),
        ('nor_conv_3x3', 100, 1_537_396),
        ('none', 10, 73_306),
        ('avg_pool_3x3', 100, 79_156),
    ],
)
def test_published_parameter_counts(operation: str, num_classes: int, parameters: int) -> None:
    net = found_network(
        ALL.format(operation), in_channels=3, num_classes=num_classes, affine=True
    )
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def relu_conv_bn(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(outputs))


class MixedCell(nn.Module):
    """The cell of ``MIXED``, written out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edge_01 = relu_conv_bn(channels, channels, 3)
        self.edge_12 = relu_conv_bn(channels, channels, 1)
        self.edge_23 = relu_conv_bn(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        node1 = self.edge_01(x)
        pooled = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        node2 = pooled + self.edge_12(node1)
        return x + self.edge_23(node2)


class Residual(nn.Module):
    """The benchmark's block between the stages."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            relu_conv_bn(channels, 2 * channels, 3, 2),
            relu_conv_bn(2 * channels, 2 * channels, 3),
        )
        self.shortcut = nn.Conv2d(channels, 2 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + self.shortcut(nn.functional.avg_pool2d(x, 2))


def test_found_network_is_the_benchmarks_network() -> None:
    net = found_network(
        MIXED, in_channels=2, num_classes=3, base_channels=4, num_cells=1, affine=True
    ).double()
    reference = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        *(MixedCell(4), Residual(4), MixedCell(8), Residual(8), MixedCell(16)),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 3),
    ).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    values = net.state_dict().values()
    reference.load_state_dict(dict(zip(reference.state_dict(), values, strict=True)))
    for mode in (True, False):
        images = torch.randn(4, 2, 8, 12, dtype=torch.float64)
        assert_close(net.train(mode)(images), reference.train(mode)(images))


@pytest.mark.parametrize(('height', 'width'), [(5, 7), (6, 5)])
def test_reduction_rounds_up_and_averages_what_is_there(height: int, width: int) -> None:
    block = NasBench201Reduction(3, 4).double()
    nn.init.zeros_(block.conv_b.net[2].weight)  # The convolutions are out of the sum.
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    out = block(x)
    assert out.shape == (2, 4, -(-height // 2), -(-width // 2))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            mean = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
            assert_close(out[:, :, i, j], mean @ block.downsample[1].weight[:, :, 0, 0].T)


def test_cells_share_one_space_per_edge() -> None:
    supernet = mm.NasBench201Supernet(1, 10, base_channels=2, num_cells=2)
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    spaces = mutator.search_spaces
    assert set(spaces) == {'n1_p0', 'n2_p0', 'n2_p1', 'n3_p0', 'n3_p1', 'n3_p2'}
    assert {len(space['modules']) for space in spaces.values()} == {6}


def test_affine_stays_inside_the_cells() -> None:
    supernet = mm.NasBench201Supernet(1, 10, base_channels=2, num_cells=1)
    outside = [m.affine for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)]
    mm.DartsMutator().prepare_from_supernet(supernet)
    everywhere = [m.affine for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)]
    assert outside == [True] * 6  # Stem, twice two in a reduction, last norm.
    assert everywhere.count(True) == 6
    assert everywhere.count(False) == 3 * 6 * 2  # Cells, edges, convolutions on an edge.
