"""A small supernet with skip connections, and searches over it."""

from __future__ import annotations

from typing import Any

import torch
import toys
from torch import Tensor, nn

import mmrazor_mutators as mm

NAMES = ('none', 'skip_connect', 'conv', 'pool')


class Conv(nn.Sequential):
    def __init__(self, stride: int) -> None:
        super().__init__(nn.Conv2d(4, 4, 3, stride, 1, bias=False), nn.BatchNorm2d(4))


class NoOp(nn.Module):
    is_zero = True

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x[:, :, :: self.stride, :: self.stride]


def candidates(stride: int) -> dict[str, nn.Module]:
    skip = mm.build_op(
        {'type': 'DartsSkipConnect', 'in_channels': 4, 'out_channels': 4, 'stride': stride}
    )
    pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    return dict(zip(NAMES, (NoOp(stride), skip, Conv(stride), pool), strict=True))


def op(space_id: str, stride: int = 1) -> nn.Module:
    return mm.DifferentiableOP(space_id=space_id, choices=candidates(stride))


class SkipSupernet(nn.Module):
    """Images ``(N, 2, 6, 6)``; shared, halving and nested spaces.

    The normal node keeps 2 of 3 inputs, each with an operation of its own; two
    mutables share ``normal_s``; ``reduce`` has stride 2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.first = op('normal_s')
        self.second = op('normal_s')
        edges = {f'p{i}': nn.Sequential(op(f'normal_p{i}')) for i in range(3)}
        self.node = mm.DifferentiableEdge(
            space_id='normal', with_arch_param=False, num_chosen=2, choices=edges
        )
        self.reduce = op('reduce', stride=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x).tanh()
        b = self.first(a)
        c = self.second(b)
        return self.head(self.reduce(self.node([a, b, c])).mean((2, 3)))


def batch(size: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(size, 2, 6, 6, dtype=torch.float64), torch.randint(3, (size,))


def prepared(*extensions: Any, mutator: Any = 'DartsMutator', **kwargs: Any) -> tuple[Any, Any]:
    """Return a supernet and its mutator with extensions, in double precision."""
    return toys.prepared(mutator, SkipSupernet(), extensions=list(extensions), **kwargs)


def search_over(supernet: Any, mutator: Any, **kwargs: Any) -> mm.BilevelSearch:
    """Return a search whose steps are large."""
    return mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.3, betas=(0.5, 0.999)),
        **kwargs,
    )


def set_logits(mutator: Any, space_id: str, **logits: float) -> None:
    """Set the logits of a space by name."""
    names = mutator.search_spaces[space_id]['choice_names']
    with torch.no_grad():
        for name, value in logits.items():
            mutator.arch_params[space_id][names.index(name)] = value
