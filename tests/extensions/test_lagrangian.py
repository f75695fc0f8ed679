"""Limits that come down, and a state that goes on: against the formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.extensions.lagrangian import Constrained


def pressed(constrained: Constrained, *ratios: float) -> tuple[float, list[float]]:
    """Return the penalty and its gradient."""
    x = torch.tensor(ratios, requires_grad=True)
    penalty = constrained.pressure(x)
    (grad,) = torch.autograd.grad(penalty, x)
    return penalty.item(), grad.tolist()


def allowed_at(epoch: int, first: int, epochs: int, ramp: float, start: float) -> float:
    """How many times its limit a cost may be, written down once more."""
    share = (epoch - first) / (epochs - 1 - first)
    return max(start, 1.0) ** max(0.0, 1 - share / ramp)


@pytest.mark.parametrize('first', [0, 3])
@pytest.mark.parametrize('ramp', [0.25, 0.5, 1.0])
@pytest.mark.parametrize('start', [8.0, 0.6])
def test_limits_come_down_geometrically(first: int, ramp: float, start: float) -> None:
    constrained = Constrained(2, interval=10**6, ramp=ramp)
    for epoch in range(first, 12):
        constrained.on_epoch(epoch, 12)
        # The second cost is at twice its limit all the time, and the first begins at `start`.
        cost = start if epoch == first else 1.7
        told, grads = pressed(constrained, cost, 2.0)
        expected = 0.0
        for ratio, begin, grad in ((cost, start, grads[0]), (2.0, 2.0, grads[1])):
            allowed = allowed_at(epoch, first, 12, ramp, begin)
            excess = ratio / allowed - 1
            expected += max(0.0, excess) ** 2 / 2
            assert grad == pytest.approx(max(0.0, excess) / allowed, abs=1e-6)
        assert told == pytest.approx(expected, abs=1e-6)
    assert allowed_at(11, first, 12, ramp, start) == 1


def test_where_nobody_tells_the_epoch_nothing_comes_down() -> None:
    constrained = Constrained(1, interval=10**6, ramp=0.5)
    for _ in range(3):
        assert pressed(constrained, 3.0) == (2.0, [2.0])


def test_without_a_ramp() -> None:
    constrained = Constrained(1, interval=10**6, ramp=0)
    constrained.on_epoch(0, 10)
    assert pressed(constrained, 3.0) == (2.0, [2.0])


def test_it_goes_on_from_a_state() -> None:
    def steps(constrained: Constrained, epochs: range) -> list[Any]:
        found = []
        for epoch in epochs:
            constrained.on_epoch(epoch, 8)
            found += [pressed(constrained, 4.0 - 0.1 * k) for k in range(3)]
        return found

    first = Constrained(1, interval=2, ramp=0.7)
    steps(first, range(2, 4))
    other = Constrained(1, interval=2, ramp=0.7)
    other.load_state_dict(first.state_dict())
    assert steps(other, range(4, 8)) == steps(first, range(4, 8))
    # And one that begins there has another way down.
    assert steps(Constrained(1, 2, 0.7), range(4, 8)) != steps(other, range(4, 8))


def test_a_look_changes_nothing() -> None:
    constrained = Constrained(1, interval=1, ramp=0.5)
    constrained.on_epoch(2, 10)
    before = {key: value.clone() for key, value in constrained.state_dict().items()}
    with torch.no_grad():
        constrained.pressure(torch.tensor([5.0]))
    assert all(value.equal(before[key]) for key, value in constrained.state_dict().items())


@pytest.mark.parametrize('ramp', [-0.1, 1.1, math.nan, '0.5', True, None])
def test_ramps_that_are_none(ramp: Any) -> None:
    with pytest.raises(ConfigError, match=f'Expected `ramp` from 0 to 1, but got {ramp!r}'):
        Constrained(1, interval=1, ramp=ramp)
