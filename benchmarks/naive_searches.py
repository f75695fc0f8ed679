"""The same searches as everybody writes them: the reference of the speed table.

A loop over all candidates of all edges, each by itself, in NCHW, `none` computed, and every
backward pass computes all gradients. Nothing of the library is used here, so that the
equality of the results means something.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def norm(channels: int) -> nn.BatchNorm2d:
    """A norm inside of a cell."""
    return nn.BatchNorm2d(channels, affine=False)


class Zero(nn.Module):
    """The candidate `none`, computed."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by zero."""
        if self.stride == 1:
            return x.mul(0.0)
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class Reduce(nn.Module):
    """Half the size by two 1x1 convolutions, one of them shifted by a pixel."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, 2, bias=False)
        self.bn = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate both."""
        x = F.relu(x)
        return self.bn(torch.cat([self.conv1(x), self.conv2(x[:, :, 1:, 1:])], 1))


def conv(c_in: int, c_out: int, kernel: int = 1) -> nn.Module:
    """ReLU, convolution, norm."""
    layer = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), layer, norm(c_out))


def separable(c: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise and pointwise convolution, norm."""
    padding = kernel // 2 * dilation
    depthwise = nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(c, c, 1, bias=False), norm(c)]


def darts_candidates(c: int, stride: int) -> list[nn.Module]:
    """The eight candidates of DARTS, in its order."""
    return [
        Zero(stride),
        nn.Sequential(nn.MaxPool2d(3, stride, 1), norm(c)),
        nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm(c)),
        nn.Identity() if stride == 1 else Reduce(c, c),
        nn.Sequential(*separable(c, 3, stride), *separable(c, 3, 1)),
        nn.Sequential(*separable(c, 5, stride), *separable(c, 5, 1)),
        nn.Sequential(*separable(c, 3, stride, 2)),
        nn.Sequential(*separable(c, 5, stride, 2)),
    ]


def nasbench201_candidates(c: int) -> list[nn.Module]:
    """The five candidates of NAS-Bench-201, in its order."""
    pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return [Zero(1), nn.Identity(), conv(c, c, 1), conv(c, c, 3), pool]


class MixedOp(nn.Module):
    """The weighted sum of all candidates."""

    def __init__(self, ops: list[nn.Module]) -> None:
        super().__init__()
        self.ops = nn.ModuleList(ops)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Run every candidate."""
        return sum(w * op(x) for w, op in zip(weights, self.ops, strict=True))


class DartsCell(nn.Module):
    """A cell of DARTS."""

    def __init__(
        self, nodes: int, c: int, c_prev: int, c_pprev: int, kind: str, candidates: int
    ) -> None:
        super().__init__()
        self.reduction = 'reduction' in kind.split()
        after = 'after-reduction' in kind.split()
        self.pre0 = Reduce(c_pprev, c) if after else conv(c_pprev, c)
        self.pre1 = conv(c_prev, c)
        self.nodes = nodes
        self.edges = nn.ModuleList(
            MixedOp(darts_candidates(c, 2 if self.reduction and j < 2 else 1)[:candidates])
            for i in range(nodes)
            for j in range(i + 2)
        )

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        """Return the concatenated nodes."""
        states, offset = [self.pre0(s0), self.pre1(s1)], 0
        for _ in range(self.nodes):
            new = sum(
                self.edges[offset + j](h, weights[offset + j]) for j, h in enumerate(states)
            )
            offset += len(states)
            states.append(new)
        return torch.cat(states[2:], 1)


class NaiveDarts(nn.Module):
    """The supernet of DARTS, with its architecture parameters."""

    def __init__(
        self, channels: int = 16, layers: int = 8, nodes: int = 4, candidates: int = 8
    ) -> None:
        super().__init__()
        c = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        edges = sum(i + 2 for i in range(nodes))
        self.alphas = nn.ParameterList(
            nn.Parameter(1e-3 * torch.randn(edges, candidates)) for _ in range(2)
        )
        self.cells = nn.ModuleList()
        c_pprev, c_prev, c, after = c, c, channels, ''
        for i in range(layers):
            reduction = i in (layers // 3, 2 * layers // 3)
            c = 2 * c if reduction else c
            kind = f'{"reduction" if reduction else ""} {after}'
            self.cells.append(DartsCell(nodes, c, c_prev, c_pprev, kind, candidates))
            after = 'after-reduction' if reduction else ''
            c_pprev, c_prev = c_prev, nodes * c
        self.fc = nn.Linear(c_prev, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            weights = F.softmax(self.alphas[int(cell.reduction)], dim=-1)
            s0, s1 = s1, cell(s0, s1, weights)
        return self.fc(F.adaptive_avg_pool2d(s1, 1).flatten(1))


class Residual(nn.Module):
    """The block between the stages of NAS-Bench-201."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()

        def layer(a: int, b: int, stride: int) -> list[nn.Module]:
            return [
                nn.ReLU(),
                nn.Conv2d(a, b, 3, stride, 1, bias=False),
                nn.BatchNorm2d(b),
            ]

        self.body = nn.Sequential(*layer(c_in, c_out, 2), *layer(c_out, c_out, 1))
        self.down = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both branches."""
        return self.down(x) + self.body(x)


class NasBench201Cell(nn.Module):
    """A cell of NAS-Bench-201."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(MixedOp(nasbench201_candidates(c)) for _ in range(6))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the last node."""
        states, offset = [x], 0
        for i in range(1, 4):
            new = sum(
                self.edges[offset + j](h, weights[offset + j]) for j, h in enumerate(states)
            )
            offset += i
            states.append(new)
        return states[-1]


class NaiveNasBench201(nn.Module):
    """The supernet of NAS-Bench-201, with its architecture parameters."""

    def __init__(self, channels: int = 16, cells: int = 5) -> None:
        super().__init__()
        c = channels
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        self.alphas = nn.ParameterList([nn.Parameter(1e-3 * torch.randn(6, 5))])
        self.cells = nn.ModuleList()
        for stage in range(3):
            if stage:
                self.cells.append(Residual(c, 2 * c))
                c *= 2
            self.cells.extend(NasBench201Cell(c) for _ in range(cells))
        self.last = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU())
        self.fc = nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.stem(x)
        for cell in self.cells:
            if isinstance(cell, Residual):
                x = cell(x)
            else:
                x = cell(x, F.softmax(self.alphas[0], dim=-1))
        return self.fc(F.adaptive_avg_pool2d(self.last(x), 1).flatten(1))


class NaiveSearch:
    """The published loop: first order, or second order with a copied model."""

    def __init__(self, model: Any, second_order: bool = False) -> None:
        self.model, self.second_order = model, second_order
        alphas = {id(a) for a in model.alphas}
        self.weights = [p for p in model.parameters() if id(p) not in alphas]
        self.weight_optimizer = torch.optim.SGD(
            self.weights, lr=0.025, momentum=0.9, weight_decay=3e-4
        )
        self.arch_optimizer = torch.optim.Adam(
            model.alphas.parameters(), lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3
        )

    def step(self, train_batch: Any, arch_batch: Any) -> None:
        """Step the architecture and then the weights, clipped to norm 5."""
        self.arch_optimizer.zero_grad()
        if self.second_order:
            self._second_order(train_batch, arch_batch)
        else:
            F.cross_entropy(self.model(arch_batch[0]), arch_batch[1]).backward()
        self.arch_optimizer.step()
        self.weight_optimizer.zero_grad()
        F.cross_entropy(self.model(train_batch[0]), train_batch[1]).backward()
        nn.utils.clip_grad_norm_(self.weights, 5.0)
        self.weight_optimizer.step()

    def _second_order(self, train_batch: Any, arch_batch: Any) -> None:
        """Equations 7 and 8 of DARTS, by the rule of its authors' code."""
        model, group = self.model, self.weight_optimizer.param_groups[0]
        loss = F.cross_entropy(model(train_batch[0]), train_batch[1])
        grads = torch.autograd.grad(loss, self.weights)
        copied = copy.deepcopy(model)
        alphas = {id(a) for a in copied.alphas}
        theirs = [p for p in copied.parameters() if id(p) not in alphas]
        with torch.no_grad():
            for w, mine, g in zip(theirs, self.weights, grads, strict=True):
                state = self.weight_optimizer.state.get(mine, {})
                moment = group['momentum'] * state.get('momentum_buffer', torch.zeros_like(w))
                w.sub_(group['lr'] * (moment + g + group['weight_decay'] * w))
        F.cross_entropy(copied(arch_batch[0]), arch_batch[1]).backward()
        vector = [w.grad for w in theirs]
        radius = 0.01 / torch.cat([v.flatten() for v in vector]).norm()
        sides = []
        for scale in (radius, -2 * radius):
            with torch.no_grad():
                for w, v in zip(self.weights, vector, strict=True):
                    w.add_(scale * v)
            loss = F.cross_entropy(model(train_batch[0]), train_batch[1])
            sides.append(torch.autograd.grad(loss, list(model.alphas)))
        with torch.no_grad():
            for w, v in zip(self.weights, vector, strict=True):
                w.add_(radius * v)
        for a, theirs_a, plus, minus in zip(model.alphas, copied.alphas, *sides, strict=True):
            a.grad = theirs_a.grad - group['lr'] * (plus - minus) / (2 * radius)
