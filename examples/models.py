"""Networks as people have them: nothing in here knows of a search.

Each takes ``width``, a factor of all hidden channels, which is how a network is made smaller
without a search.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ['Characters', 'MobileNet', 'ResNet', 'Series', 'UNet', 'scaled']


def scaled(channels: int, width: float) -> int:
    """Return a number of channels times a factor, at least 1."""
    return max(1, round(channels * width))


def conv(ins: int, outs: int, kernel: int, stride: int = 1, **kwargs: Any) -> nn.Conv2d:
    """Return a convolution that keeps the size of a map, but for its stride."""
    return nn.Conv2d(ins, outs, kernel, stride, kernel // 2, bias=False, **kwargs)


class BasicBlock(nn.Module):
    """A residual block of two convolutions (He et al., CVPR 2016)."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(ins, outs, 3, stride), nn.BatchNorm2d(outs)
        self.conv2, self.bn2 = conv(outs, outs, 3), nn.BatchNorm2d(outs)
        self.act = nn.ReLU(inplace=True)
        self.down: nn.Module = nn.Identity()
        if stride > 1 or ins != outs:
            self.down = nn.Sequential(conv(ins, outs, 1, stride), nn.BatchNorm2d(outs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of the block, shape ``(N, outs, H / stride, W / stride)``."""
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return self.act(y + self.down(x))


class ResNet(nn.Module):
    """A residual network of three stages, two blocks each."""

    def __init__(
        self, in_channels: int = 1, num_classes: int = 10, base: int = 16, width: float = 1.0
    ) -> None:
        super().__init__()
        sizes = [scaled(base * 2**stage, width) for stage in range(3)]
        self.conv1, self.bn1 = conv(in_channels, sizes[0], 3), nn.BatchNorm2d(sizes[0])
        self.act = nn.ReLU(inplace=True)
        blocks, ins = [], sizes[0]
        for stage, outs in enumerate(sizes):
            for number in range(2):
                blocks.append(BasicBlock(ins, outs, 2 if stage and not number else 1))
                ins = outs
        self.layers = nn.Sequential(*blocks)
        self.fc = nn.Linear(ins, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape ``(N, num_classes)``."""
        return self.fc(self.layers(self.act(self.bn1(self.conv1(x)))).mean((2, 3)))


class InvertedResidual(nn.Module):
    """An inverted residual block (Sandler et al., CVPR 2018)."""

    def __init__(self, ins: int, outs: int, stride: int, expansion: int, width: float) -> None:
        super().__init__()
        hidden = scaled(ins * expansion, 1.0)
        self.residual = ins == outs and stride == 1
        self.expand = nn.Sequential(conv(ins, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6())
        self.depthwise = nn.Sequential(
            conv(hidden, hidden, 5, stride, groups=hidden), nn.BatchNorm2d(hidden), nn.ReLU6()
        )
        self.project = nn.Sequential(conv(hidden, outs, 1), nn.BatchNorm2d(outs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of the block."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """A small MobileNetV2: 5x5 kernels, expansion 6, three stages of two or three blocks."""

    def __init__(
        self, in_channels: int = 1, num_classes: int = 10, base: int = 8, width: float = 1.0
    ) -> None:
        super().__init__()
        ins = scaled(base, width)
        self.stem = nn.Sequential(conv(in_channels, ins, 3), nn.BatchNorm2d(ins), nn.ReLU6())
        blocks = []
        for channels, count, stride in [(base, 2, 1), (2 * base, 3, 2), (4 * base, 3, 2)]:
            outs = scaled(channels, width)
            for number in range(count):
                step = stride if number == 0 else 1
                blocks.append(InvertedResidual(ins, outs, step, 6, width))
                ins = outs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(ins, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape ``(N, num_classes)``."""
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Characters(nn.Module):
    """A transformer encoder with a causal mask that predicts the next character."""

    def __init__(
        self,
        vocabulary: int = 97,
        length: int = 64,
        dim: int = 64,
        layers: int = 3,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        heads = max(1, round(4 * width))
        dim = 16 * heads
        self.embed = nn.Embedding(vocabulary, dim)
        self.place = nn.Parameter(0.02 * torch.randn(length, dim))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, heads, scaled(256, width), dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits of the next characters, shape ``(N, vocabulary, length)``."""
        count = tokens.shape[1]
        x = self.embed(tokens) + self.place[:count]
        mask = torch.full((count, count), float('-inf'), device=x.device, dtype=x.dtype).triu(1)
        for layer in self.layers:
            x = layer(x, src_mask=mask)
        return self.head(self.norm(x)).transpose(1, 2)


class Series(nn.Module):
    """A one-dimensional convolutional network for time series."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        ins = in_channels
        for channels in (16, 32, 32, 64):
            outs = scaled(channels, width)
            layers += [nn.Conv1d(ins, outs, 9, padding=4, bias=False), nn.BatchNorm1d(outs)]
            layers += [nn.ReLU(), nn.MaxPool1d(2)]
            ins = outs
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(ins, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape ``(N, num_classes)``."""
        return self.head(self.features(x).mean(2))


class UNet(nn.Module):
    """A U-Net of three levels (Ronneberger et al., MICCAI 2015)."""

    def __init__(
        self, in_channels: int = 1, num_classes: int = 2, base: int = 12, width: float = 1.0
    ) -> None:
        super().__init__()
        one, two, three = (scaled(base * 2**level, width) for level in range(3))
        self.down1, self.down2 = self._double(in_channels, one), self._double(one, two)
        self.middle = self._double(two, three)
        self.up2, self.join2 = nn.ConvTranspose2d(three, two, 2, 2), self._double(2 * two, two)
        self.up1, self.join1 = nn.ConvTranspose2d(two, one, 2, 2), self._double(2 * one, one)
        self.out = nn.Conv2d(one, num_classes, 1)

    @staticmethod
    def _double(ins: int, outs: int) -> nn.Sequential:
        return nn.Sequential(
            conv(ins, outs, 3),
            nn.BatchNorm2d(outs),
            nn.ReLU(),
            conv(outs, outs, 3),
            nn.BatchNorm2d(outs),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of every pixel, shape ``(N, num_classes, H, W)``."""
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        x = self.up2(self.middle(F.max_pool2d(second, 2)))
        x = self.up1(self.join2(torch.cat([x, second], 1)))
        return self.out(self.join1(torch.cat([x, first], 1)))
