"""A search finds the candidate that the data was made with, and goes astray upwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mmrazor_mutators as mm
from mmrazor_mutators.search import Hypergradient
from mmrazor_mutators.search.hypergradients import ArchGradient

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    'square': lambda x: (x**2 - 1) / 2**0.5,
    'wave': lambda x: 2**0.5 * (3 * x).sin(),
    'ramp': lambda x: x,
}


class Apply(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return FUNCTIONS[self.name](x)


class TwoFunctions(nn.Module):
    """Each input has a function of its own, to be found, and a shift, to be learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = nn.ModuleList(
            mm.DifferentiableOP(space_id=space, choices={n: Apply(n) for n in FUNCTIONS})
            for space in ('left', 'right')
        )
        self.shifts = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        left, right = (x + self.shifts).T
        return self.ops[0](left) + self.ops[1](right)


class Astray(Hypergradient):
    """Trap: the sign. The same gradient, uphill."""

    def __init__(self, name: str) -> None:
        self.inner = mm.build_hypergradient(name)

    def __call__(self, *args: Any) -> ArchGradient:
        loss, grads = self.inner(*args)
        return ArchGradient(loss, [-grad for grad in grads])


def found(mutator: str, hypergradient: Any, truth: tuple[str, str], epochs: int = 15) -> Any:
    """Return the functions that the search finds, and its loss in the first and last epoch."""
    torch.manual_seed(0)
    supernet = TwoFunctions()
    owner = mm.build_mutator({'type': mutator})
    owner.prepare_from_supernet(supernet)
    search = mm.BilevelSearch(
        supernet,
        owner,
        nn.functional.mse_loss,
        torch.optim.SGD(supernet.parameters(), lr=0.05, momentum=0.9),
        torch.optim.Adam(owner.arch_params.values(), lr=0.1, betas=(0.5, 0.999)),
        hypergradient,
        grad_clip=5.0,
    )

    def batch() -> tuple[Tensor, Tensor]:
        x = torch.randn(64, 2)
        left, right = (x + torch.tensor([0.2, -0.1])).T
        return x, FUNCTIONS[truth[0]](left) + FUNCTIONS[truth[1]](right)

    losses = []
    for epoch in range(epochs):
        search.on_epoch(epoch, epochs)
        losses += [search.step(batch(), batch())['arch_loss'].item() for _ in range(6)]
    subnet = owner.search_subnet()
    chosen = tuple(subnet[space]['chosen'][0] for space in ('left', 'right'))
    return chosen, sum(losses[:6]) / 6, sum(losses[-6:]) / 6


CASES = [
    ('DartsMutator', 'first_order'),
    ('DartsMutator', 'exact'),
    ('DartsMutator', 'finite_difference'),
    ('DartsMutator', 'neumann'),
    ('SNASMutator', 'first_order'),
    ('GDASMutator', 'first_order'),
]
TRUTHS = [('square', 'wave'), ('ramp', 'square')]


@pytest.mark.parametrize('truth', TRUTHS, ids='-'.join)
@pytest.mark.parametrize(('mutator', 'name'), CASES)
def test_the_right_candidates_are_found(
    mutator: str, name: str, truth: tuple[str, str]
) -> None:
    chosen, first, last = found(mutator, name, truth)
    assert chosen == truth
    assert last < 0.5 * first


@pytest.mark.parametrize(('mutator', 'name'), [CASES[0], CASES[1], *CASES[-2:]])
def test_the_wrong_sign_would_not_find_them(mutator: str, name: str) -> None:
    chosen, first, last = found(mutator, Astray(name), TRUTHS[0])
    assert chosen != TRUTHS[0]
    assert last > first
