from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import InputError
from mmrazor_mutators.host import DropPath

# {kind: [[(operation, earlier node), ...] of each node]}
DARTS_V2 = {
    'normal': [
        [('sep_conv_3x3', 0), ('sep_conv_3x3', 1)],
        [('sep_conv_3x3', 0), ('sep_conv_3x3', 1)],
        [('sep_conv_3x3', 1), ('skip_connect', 0)],
        [('skip_connect', 0), ('dil_conv_3x3', 2)],
    ],
    'reduce': [
        [('max_pool_3x3', 0), ('max_pool_3x3', 1)],
        [('skip_connect', 2), ('max_pool_3x3', 1)],
        [('max_pool_3x3', 0), ('skip_connect', 2)],
        [('skip_connect', 2), ('max_pool_3x3', 1)],
    ],
}


def to_subnet(genotype: dict[str, list[list[tuple[str, int]]]]) -> dict[str, Any]:
    subnet = {}
    for kind, nodes in genotype.items():
        for i, edges in enumerate(nodes, start=2):
            subnet[f'{kind}_n{i}'] = {'chosen': [f'{kind}_n{i}_p{j}' for _, j in edges]}
            for name, j in edges:
                subnet[f'{kind}_n{i}_p{j}'] = {'chosen': [name]}
    return subnet


def prepare(**arguments: Any) -> tuple[mm.DartsSupernet, mm.DartsMutator]:
    supernet, mutator = mm.DartsSupernet(**arguments), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    return supernet, mutator


def count(net: nn.Module) -> int:
    return sum(p.numel() for name, p in net.named_parameters() if 'aux' not in name)


def test_published_parameter_counts() -> None:
    supernet, _ = prepare(in_channels=3, num_classes=10)
    assert count(supernet) == 1_930_618
    supernet, mutator = prepare(
        in_channels=3,
        num_classes=10,
        base_channels=36,
        num_layers=20,
        auxiliary=True,
        affine=True,
        candidates=('max_pool_3x3', 'skip_connect', 'sep_conv_3x3', 'dil_conv_3x3'),
    )
    assert count(mutator.export_subnet(supernet, to_subnet(DARTS_V2))) == 3_349_342


SMALL = {
    'normal': [
        [('skip_connect', 0), ('dil_conv_5x5', 1)],
        [('sep_conv_3x3', 0), ('avg_pool_3x3', 2)],
    ],
    'reduce': [
        [('max_pool_3x3', 0), ('skip_connect', 1)],
        [('dil_conv_5x5', 1), ('skip_connect', 2)],
    ],
}


def norm_conv(inputs: int, outputs: int, size: int, **arguments: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, size, bias=False, **arguments)
    return [conv, nn.BatchNorm2d(outputs)]


def depthwise(channels: int, size: int, pad: int, **arguments: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels, channels, size, padding=pad, groups=channels, bias=False, **arguments
    )


class Halve(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        even, odd = self.even(x[:, :, ::2, ::2]), self.odd(x[:, :, 1::2, 1::2])
        return self.norm(torch.cat([even, odd], 1))


class NormalCell(nn.Module):
    """The normal cell of ``SMALL``, written out."""

    def __init__(self, prev_prev: int, prev: int, channels: int) -> None:
        super().__init__()
        self.in0 = nn.Sequential(nn.ReLU(), *norm_conv(prev_prev, channels, 1))
        self.in1 = nn.Sequential(nn.ReLU(), *norm_conv(prev, channels, 1))
        self.dil = nn.Sequential(
            nn.ReLU(), depthwise(channels, 5, 4, dilation=2), *norm_conv(channels, channels, 1)
        )
        self.sep = nn.Sequential(
            nn.ReLU(),
            depthwise(channels, 3, 1),
            *norm_conv(channels, channels, 1),
            nn.ReLU(),
            depthwise(channels, 3, 1),
            *norm_conv(channels, channels, 1),
        )

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        s0, s1 = self.in0(s0), self.in1(s1)
        node2 = s0 + self.dil(s1)
        pooled = F.avg_pool2d(node2, 3, 1, 1, count_include_pad=False)
        return torch.cat([node2, self.sep(s0) + pooled], 1)


class ReductionCell(nn.Module):
    """The reduction cell of ``SMALL``, written out."""

    def __init__(self, prev_prev: int, prev: int, channels: int, halved: bool) -> None:
        super().__init__()
        self.in0: nn.Module
        if halved:
            self.in0 = Halve(prev_prev, channels)
        else:
            self.in0 = nn.Sequential(nn.ReLU(), *norm_conv(prev_prev, channels, 1))
        self.in1 = nn.Sequential(nn.ReLU(), *norm_conv(prev, channels, 1))
        self.skip = Halve(channels, channels)
        self.dil = nn.Sequential(
            nn.ReLU(),
            depthwise(channels, 5, 4, dilation=2, stride=2),
            *norm_conv(channels, channels, 1),
        )

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        s0, s1 = self.in0(s0), self.in1(s1)
        node2 = F.max_pool2d(s0, 3, 2, 1) + self.skip(s1)
        return torch.cat([node2, self.dil(s1) + node2], 1)


class Reference(nn.Module):
    """Three cells of ``SMALL`` with 4, 8 and 16 channels per node."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*norm_conv(2, 12, 3, padding=1))
        self.cell0 = NormalCell(12, 12, 4)
        self.cell1 = ReductionCell(12, 8, 8, halved=False)
        self.cell2 = ReductionCell(8, 16, 16, halved=True)
        self.aux = nn.Sequential(
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            *norm_conv(32, 128, 1),
            nn.ReLU(),
            *norm_conv(128, 768, 2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.fc = nn.Linear(32, 3)
        self.aux_fc = nn.Linear(768, 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        s0 = self.stem(images)
        s1 = self.cell0(s0, s0)
        s2 = self.cell1(s0, s1)
        s3 = self.cell2(s1, s2)
        return self.fc(s3.mean((2, 3))), self.aux_fc(self.aux(s3))


def test_found_network_is_the_authors_network() -> None:
    supernet, mutator = prepare(
        in_channels=2,
        num_classes=3,
        base_channels=4,
        num_layers=3,
        num_nodes=2,
        auxiliary=True,
        affine=True,
    )
    net = mutator.export_subnet(supernet, to_subnet(SMALL)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    reference = Reference().double()
    values = net.state_dict().values()
    reference.load_state_dict(dict(zip(reference.state_dict(), values, strict=True)))
    images = torch.randn(4, 2, 8, 12, dtype=torch.float64)
    logits, auxiliary = net.forward_with_auxiliary(images)
    expected, expected_auxiliary = reference(images)
    assert_close(logits, expected)
    assert_close(auxiliary, expected_auxiliary)
    # The running statistics agree by now as well.
    assert_close(net.eval()(images), reference.eval()(images)[0])


@pytest.mark.parametrize('size', [8, 28, 32])
def test_training_with_the_auxiliary_head(size: int) -> None:
    supernet, mutator = prepare(
        in_channels=1,
        num_classes=5,
        base_channels=2,
        num_layers=3,
        num_nodes=2,
        auxiliary=True,
        drop_path=True,
        affine=True,
    )
    net = mutator.export_subnet(supernet, to_subnet(SMALL))
    images = torch.randn(2, 1, size, size)
    logits, auxiliary = net.forward_with_auxiliary(images)
    (logits.square().sum() + auxiliary.square().sum()).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    # The plain forward neither runs the auxiliary head nor moves its statistics.
    before = net.backbone.auxliary_module.net[3].running_mean.clone()
    assert net(images).shape == (2, 5)
    assert_close(net.backbone.auxliary_module.net[3].running_mean, before, rtol=0, atol=0)
    assert net.eval().forward_with_auxiliary(images)[1] is None


def test_auxiliary_head_is_optional() -> None:
    supernet, _ = prepare(in_channels=1, num_classes=5, base_channels=2, num_layers=3)
    images = torch.randn(2, 1, 8, 8)
    logits, auxiliary = supernet.forward_with_auxiliary(images)
    assert auxiliary is None
    assert_close(logits, supernet(images))


def test_auxiliary_head_with_one_image() -> None:
    supernet, _ = prepare(
        in_channels=1, num_classes=5, base_channels=2, num_layers=3, auxiliary=True
    )
    with pytest.raises(InputError, match=r'at least 2 images .* but got 1'):
        supernet.forward_with_auxiliary(torch.randn(1, 1, 8, 8))
    assert supernet(torch.randn(1, 1, 8, 8)).shape == (1, 5)


def test_norms_of_search_and_retraining() -> None:
    def norms(**arguments: Any) -> list[nn.BatchNorm2d]:
        supernet, _ = prepare(in_channels=1, num_classes=5, num_layers=1, **arguments)
        return [m for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)]

    # Search: the stem, two inputs, and 8 norms on each of 14 edges (2 in each
    # separable convolution), of which the identity on 6 edges has none.
    search = norms()
    assert [norm.affine for norm in search] == [True] + [False] * (2 + 14 * 9 - 6)
    # Retraining: all affine, and none after the 2 poolings on each edge.
    assert [norm.affine for norm in norms(affine=True)] == [True] * (3 + 14 * 7 - 6)


@pytest.mark.parametrize('drop_path', [True, False])
def test_drop_path(drop_path: bool) -> None:
    supernet, _ = prepare(in_channels=1, num_classes=5, num_layers=3, drop_path=drop_path)
    drop_paths = [m for m in supernet.modules() if isinstance(m, DropPath)]
    # One normal and two reduction cells of 14 edges: 7 candidates, less the
    # identities, which are on every edge of stride 1.
    identities = 14 + 2 * 6
    assert len(drop_paths) == (3 * 14 * 7 - identities if drop_path else 0)
    assert all(module.drop_prob == 0 for module in drop_paths)


@pytest.mark.parametrize('pool_norm', [True, False])
def test_pools_have_a_norm_if_asked_for(pool_norm: bool) -> None:
    cfg = {'type': 'DartsSupernet', 'in_channels': 1, 'num_classes': 2, 'base_channels': 2}
    mapping = mm.build_architecture({**cfg, 'pool_norm': pool_norm}).default_placeholder_mapping
    choices = mapping['node']['choices']
    pools = {name: choice['norm_cfg'] for name, choice in choices.items() if 'pool' in name}
    assert len(pools) == 2
    assert all((norm is not None) == pool_norm for norm in pools.values())
    assert choices['sep_conv_3x3']['norm_cfg'] is not None
