"""A segment that is recomputed in the backward pass sees the draw of its forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import mmrazor_mutators as mm

MUTATORS = pytest.mark.parametrize(
    'mutator_type', ['DartsMutator', 'SNASMutator', 'GDASMutator']
)
REENTRANT = pytest.mark.parametrize('use_reentrant', [False, True])


class Chain(nn.Module):
    """Three ops, of which the first two share a space; some calls are checkpointed.

    Args:
        segments: Groups of ops to call in one checkpoint each, or ``None``.
        use_reentrant: As for ``checkpoint``.
    """

    segments: Any = None
    use_reentrant = False

    def __init__(self) -> None:
        super().__init__()
        spaces = ('shared', 'shared', 'own')
        self.ops = nn.ModuleList(
            mm.DifferentiableOP(space_id=space, choices=toys.candidates()) for space in spaces
        )
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        for segment in self.segments or ((0,), (1,), (2,)):
            part = nn.Sequential(*[self.ops[i] for i in segment], self.dropout)
            if self.segments is None:
                x = part(x)
            else:
                x = checkpoint(part, x, use_reentrant=self.use_reentrant)
        return x


def gradients(supernet: Any, mutator: Any, forward: Any) -> list[Tensor | None]:
    parameters = toys.logits_and_weights(supernet, mutator)
    for parameter in parameters:
        parameter.grad = None
    torch.manual_seed(1)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(2)
    forward(x).square().sum().backward()
    return [x.grad, *[parameter.grad for parameter in parameters]]


def assert_same(mine: list[Tensor | None], expected: list[Tensor | None]) -> None:
    assert [g is None for g in mine] == [g is None for g in expected]
    pairs = [(g, e) for g, e in zip(mine, expected, strict=True) if e is not None]
    assert_close([g for g, _ in pairs], [e for _, e in pairs])


@MUTATORS
def test_checkpointed_ops(mutator_type: str) -> None:
    supernet, mutator = toys.prepared(mutator_type, Chain())
    expected = gradients(supernet, mutator, supernet)
    assert expected[1] is not None  # Of the shared logits.
    supernet.segments = ((0,), (1,), (2,))
    for _ in range(2):
        assert_same(gradients(supernet, mutator, supernet), expected)


@MUTATORS
def test_a_space_inside_and_outside_of_a_segment(mutator_type: str) -> None:
    class Half(Chain):
        def forward(self, x: Tensor) -> Tensor:
            if self.segments is None:
                return self.ops[1](self.ops[0](x))
            return self.ops[1](checkpoint(self.ops[0], x, use_reentrant=False))

    supernet, mutator = toys.prepared(mutator_type, Half())
    expected = gradients(supernet, mutator, supernet)
    supernet.segments = ((0,),)
    assert_same(gradients(supernet, mutator, supernet), expected)


@MUTATORS
@REENTRANT
@pytest.mark.parametrize('part', ['', '0'])
def test_a_checkpointed_supernet(mutator_type: str, use_reentrant: bool, part: str) -> None:
    supernet, mutator = toys.prepared(mutator_type, nn.Sequential(Chain()))
    module = supernet.get_submodule(part)
    expected = gradients(supernet, mutator, module)
    assert expected[1] is not None

    def forward(x: Tensor) -> Tensor:
        return checkpoint(module, x, use_reentrant=use_reentrant)

    assert_same(gradients(supernet, mutator, forward), expected)


@REENTRANT
def test_weights_that_were_given_hold_in_the_backward_pass(use_reentrant: bool) -> None:
    supernet, mutator = toys.prepared('SNASMutator', Chain())
    given = {'shared': torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)}

    def forward(x: Tensor) -> Tensor:
        with mutator.mixing(given):
            return supernet(x)

    expected = gradients(supernet, mutator, forward)
    assert expected[1] is None  # The logits of the space were not asked.
    supernet.segments = ((0,), (1,), (2,))
    supernet.use_reentrant = use_reentrant
    assert_same(gradients(supernet, mutator, forward), expected)


@REENTRANT
def test_given_weights_hold_where_all_is_recomputed(use_reentrant: bool) -> None:
    supernet, mutator = toys.prepared('SNASMutator', Chain())
    given = {'shared': torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)}

    def forward(x: Tensor) -> Tensor:
        with mutator.mixing(given):
            return supernet(x)

    def recomputed(x: Tensor) -> Tensor:
        with mutator.mixing(given):
            return checkpoint(supernet, x, use_reentrant=use_reentrant)

    expected = gradients(supernet, mutator, forward)
    assert_same(gradients(supernet, mutator, recomputed), expected)


@MUTATORS
@REENTRANT
def test_an_op_by_itself_knows_nothing_of_an_older_pass(
    mutator_type: str, use_reentrant: bool
) -> None:
    supernet, mutator = toys.prepared(mutator_type, Chain())
    first = supernet.ops[0]
    expected = gradients(supernet, mutator, first)
    supernet(torch.randn(6, 4, dtype=torch.float64))

    def forward(x: Tensor) -> Tensor:
        return checkpoint(first, x, use_reentrant=use_reentrant)

    assert_same(gradients(supernet, mutator, forward), expected)


def test_the_next_forward_draws_anew() -> None:
    supernet, mutator = toys.prepared('SNASMutator', toys.UnitSupernet())
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    draws = []
    for _ in range(3):
        first, second, _ = checkpoint(supernet, x, use_reentrant=False)
        assert_close(first, second, rtol=0, atol=0)
        (first * torch.arange(3)).sum().backward()
        draws.append(tuple(first.tolist()))
    assert len(set(draws)) == 3
    assert mutator.arch_params['a'].grad.abs().max() > 0
