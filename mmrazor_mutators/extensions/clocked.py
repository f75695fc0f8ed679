"""A budget of milliseconds, kept to by the clock and not by a table alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..costs import (
    Chosen,
    LatencyFile,
    find_arguments,
    scaled,
    settle_by_clock,
    time_in_turns,
)
from ..errors import ConfigError, SearchSpaceError
from .budget import Budget

__all__ = ['Agreement', 'agree_with_clock']


class Agreement(NamedTuple):
    """What a clock has said.

    Attributes:
        limit: Milliseconds that the network may take.
        takes: Milliseconds that it takes, a median.
        factor: By what milliseconds of the profile were multiplied.
    """

    limit: float
    takes: float
    factor: float


def agree_with_clock(
    mutator: Any,
    supernet: nn.Module,
    seconds: float = 1.0,
    report: Callable[[str], None] | None = None,
) -> Agreement | None:
    """Let a budget of milliseconds be one of the clock: call it when a search is over.

    The network that ``search_subnet`` returns is timed where the profile was made.  Where it
    takes longer than it may, or is quicker than the tolerance of the budget allows, all
    milliseconds by the profile are multiplied by what was missing, and the next network is
    read off, until one is within the budget.  ``search_subnet`` returns that one from then on.

    A budget that is a fraction is one of the original network, which is timed in turns with
    the others.

    Args:
        mutator: After a search.
        supernet: The one that it was prepared from.
        seconds: How long each network is run.
        report: Is told what goes on.

    Returns:
        What the clock has said; ``None`` where there is no budget of milliseconds.

    Raises:
        ConfigError: The profile was measured on another device or version of PyTorch.
        SearchSpaceError: No network that was timed is within the budget; all is as it was.

    >>> import mmrazor_mutators as mm
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> supernet = mm.make_searchable(net, [dict(match='0', width=[4, 8])], torch.zeros(1, 3))
    >>> mutator = mm.DartsMutator(extensions=[dict(type='Budget', params=0.6)])
    >>> mutator.prepare_from_supernet(supernet)
    >>> mm.agree_with_clock(mutator, supernet) is None  # No milliseconds: nothing is timed.
    True
    """
    say = report or (lambda text: None)
    budget = Budget.of(mutator)
    if budget is None or 'latency_ms' not in budget.limits:
        return None
    by_table, before = budget.models['latency_ms'], budget.limits['latency_ms']
    share, limit = budget.budgets['latency_ms'], before
    original: list[nn.Module] = []
    arguments = find_arguments(supernet, budget.example_inputs)

    def network(chosen: Chosen) -> nn.Module:
        subnet = mutator._choose_everywhere(lambda sid: {'chosen': [*chosen[sid]]})
        net: nn.Module = mutator.export_subnet(supernet, subnet)
        return net.eval()

    def milliseconds(nets: list[nn.Module]) -> list[float]:
        with _as_profiled(budget.profile, supernet):
            runs = time_in_turns(nets, arguments, seconds)
        return [1e3 * float(np.median(calls)) for calls in runs]

    def clock(chosen: Chosen) -> float:
        takes, *whole = milliseconds([network(chosen), *original])
        if whole:  # Of a fraction the limit is one of now, as clocks drift.
            takes *= limit / (share * whole[0])
        say(f'{takes:.4g} ms by the clock, of {limit:.4g} ms')
        return takes

    def found_with(factor: float) -> Chosen | None:
        budget.correct('latency_ms', scaled(by_table, factor), limit)
        try:
            return budget.read_off(mutator, budget.allowed(mutator))
        except SearchSpaceError:
            return None

    try:
        whole = budget.reference('latency_ms', mutator)
        if share <= 1 and whole is not None:
            original = [network(whole)]
            limit = share * milliseconds(original)[0]
        factor, takes = settle_by_clock(found_with, by_table.of, clock, limit, budget.tolerance)
    except BaseException:
        budget.correct('latency_ms', by_table, before)
        raise
    budget.correct('latency_ms', scaled(by_table, factor), limit)
    return Agreement(limit, takes, factor)


@contextmanager
def _as_profiled(path: Any, supernet: nn.Module) -> Iterator[None]:
    """Run with as many threads as the profile was made with, on its device."""
    where = LatencyFile.read(path).where
    device = next((p.device for p in supernet.parameters()), torch.device('cpu'))
    here = LatencyFile.here(device)
    differing = [key for key in ('device', 'torch') if where.get(key) != here[key]]
    if differing:
        shown = '; '.join(f'{key}: {where.get(key)!r}, here {here[key]!r}' for key in differing)
        raise ConfigError(
            f'The profile {str(path)!r} was measured elsewhere ({shown}), so that no network '
            'can be timed here; the one found is within the budget by the profile'
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(int(where.get('threads') or threads))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
