"""Networks as people bring them, with rules that use every kind of choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from attending import (
    Characters,
    Encoder,
    Translator,
    ViT,
    padded_tokens,
)
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """A residual block, as in a ResNet."""

    def __init__(self, ins: int, outs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.act = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outs, outs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)
        self.down: nn.Module = nn.Identity()
        if stride > 1 or ins != outs:
            self.down = nn.Sequential(
                nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return self.act(self.down(x) + y)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.layers = nn.Sequential(Block(6, 6), Block(6, 8, 2), Block(8, 8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


class Inverted(nn.Module):
    """An inverted residual, as in a MobileNetV2."""

    def __init__(self, ins: int, outs: int, ratio: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = ins * ratio
        self.residual = ins == outs and stride == 1
        self.conv = nn.Sequential(
            nn.Conv2d(ins, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(True),
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(True),
            nn.Conv2d(hidden, outs, 1, bias=False),
            nn.BatchNorm2d(outs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def mobilenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1),
        nn.BatchNorm2d(4),
        Inverted(4, 4, 3, 5, 1),
        Inverted(4, 6, 2, 3, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


def series() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 6, 7, padding=3),
        nn.BatchNorm1d(6),
        nn.GELU(),
        nn.MaxPool1d(2),
        nn.Conv1d(6, 8, 5, padding=2),
        nn.GroupNorm(4, 8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 6, 5),
    )


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.join = nn.Sequential(nn.Conv2d(10, 6, 3, padding=1), nn.ReLU())
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        return self.out(self.join(torch.cat([self.up(self.down2(first)), first], 1)))


class ConvNeXt(nn.Module):
    """Layer norms over channels, and a parameter that scales them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 2, 2)
        self.depthwise = nn.Conv2d(6, 6, 5, padding=2, groups=6)
        self.norm = nn.LayerNorm(6)
        self.expand = nn.Linear(6, 12)
        self.project = nn.Linear(12, 6)
        self.gamma = nn.Parameter(torch.rand(6))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.project(F.gelu(self.expand(y))) * self.gamma
        return self.head((x + y.permute(0, 3, 1, 2)).mean((2, 3)))


class Squeezed(nn.Module):
    """A residual block with a gate for each channel, as in an EfficientNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(width, 8, 1), nn.BatchNorm2d(8), nn.SiLU())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.gate = Gate(8)
        self.project = nn.Conv2d(8, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.gate(self.depthwise(self.expand(x))))


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(x.mean((2, 3), keepdim=True)).relu()
        return x * self.expand(y).sigmoid()


def efficient() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1, padding_mode='reflect'),
        Squeezed(4),
        Squeezed(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


class Case(NamedTuple):
    build: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    rules: Callable[[], list[dict[str, Any]]]


CASES = {
    'resnet': Case(
        ResNet,
        lambda: torch.randn(2, 3, 8, 8),
        lambda: [
            {'match': '*.conv2', 'kernel_size': [1, 3, 5]},
            {'match': '*.conv1', 'width': [0.25, 0.5, 1.0]},
            {'match': 'stem', 'width': [3, 6]},
            {'match': nn.ReLU, 'activation': ['relu', 'silu', 'gelu']},
            {'match': ['layers.0', 'layers.2'], 'depth': True},
            {'match': 'layers.1.bn1', 'norm': ['bn', 'in']},
        ],
    ),
    'mobilenet': Case(
        mobilenet,
        lambda: torch.randn(2, 3, 8, 8),
        lambda: [
            {'match': 'Inverted', 'expansion': [1, 2, 3]},
            {'match': '*.conv.3', 'kernel_size': [1, 3]},
            {'match': '2', 'depth': True},
            {'match': '0', 'width': [0.5, 1.0]},
        ],
    ),
    'characters': Case(
        Characters,
        lambda: torch.randint(0, 11, (2, 6)),
        lambda: [
            {'match': '*.self_attn', 'heads': [1, 2, 4]},
            {'match': 'TransformerEncoderLayer', 'ffn': [0.25, 0.5, 1.0], 'depth': True},
            {'match': 'embed', 'width': [2, 5, 8]},
        ],
    ),
    'series': Case(
        series,
        lambda: torch.randn(3, 2, 12),
        lambda: [{'match': 'Conv1d', 'kernel_size': [3, 5, 7], 'width': [0.5, 1.0]}],
    ),
    'unet': Case(
        UNet,
        lambda: torch.randn(2, 1, 8, 8),
        lambda: [
            {'match': ['down1.0', 'down2.0', 'up', 'join.0'], 'width': [0.25, 0.5, 1.0]},
            {'match': ['down2.0', 'join.0'], 'kernel_size': [1, 3, 5]},
        ],
    ),
    'convnext': Case(
        ConvNeXt,
        lambda: torch.randn(2, 3, 8, 8),
        lambda: [
            {'match': 'expand', 'width': [0.5, 1.0]},
            {'match': 'stem', 'width': [2, 4, 6]},
            {'match': 'depthwise', 'kernel_size': [3, 5]},
            {
                'match': 'project',
                'ops': lambda linear: {'deep': nn.Sequential(nn.Tanh(), nn.Linear(12, 6))},
            },
        ],
    ),
    'vit': Case(
        ViT,
        lambda: torch.randn(2, 3, 8, 8),
        lambda: [
            {'match': '*.attn', 'heads': [1, 2, 4]},
            {'match': '*.mlp', 'ffn': [0.25, 0.5, 1.0]},
            {'match': 'Attending', 'depth': True},
            {'match': 'patches', 'width': [0.25, 0.5, 1.0]},
        ],
    ),
    'efficient': Case(
        efficient,
        lambda: torch.randn(2, 3, 8, 8),
        lambda: [
            {'match': 'Squeezed', 'depth': True, 'expansion': [0.5, 1, 2]},
            {'match': '*.gate.reduce', 'width': [0.5, 1.0]},
            {'match': '*.depthwise', 'kernel_size': [1, 3, 5]},
            {'match': '1.gate', 'ops': {'plain': {'type': 'torch.nn.Identity'}}},
        ],
    ),
    'encoder': Case(
        Encoder,
        padded_tokens,
        lambda: [
            {'match': '*.self_attn', 'heads': [1, 2, 4]},
            {'match': 'TransformerEncoderLayer', 'ffn': [0.25, 0.5, 1.0], 'depth': True},
            {'match': 'embed', 'width': [0.5, 1.0]},
        ],
    ),
    'translator': Case(
        Translator,
        lambda: torch.randint(0, 11, (2, 6)),
        lambda: [
            {'match': 'MultiheadAttention', 'heads': [1, 2, 4]},
            {'match': ['*coder.layers.0', '*coder.layers.1'], 'ffn': [0.5, 1.0], 'depth': True},
            {'match': 'embed', 'width': [4, 6, 8]},
        ],
    ),
}
