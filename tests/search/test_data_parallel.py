"""A supernet in DistributedDataParallel: n ranks take the step of one with the joined batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import results_of
from test_search_distributed import batches, outcome, small_search
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from toy_searches import HYPERGRADIENTS, assert_same_state

import mmrazor_mutators as mm

WORLDS = [2, pytest.param(4, marks=pytest.mark.slow)]


def wrapped(search: Any, name: str, **kwargs: Any) -> Any:
    """Return a search as somebody writes it who has wrapped the supernet."""
    parallel = DistributedDataParallel(search.supernet)
    return mm.BilevelSearch(
        parallel,
        search.mutator,
        search.loss_fn,
        torch.optim.SGD(parallel.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
        torch.optim.Adam(search.mutator.arch_params.values(), lr=0.05),
        name,
        grad_clip=0.1,
        **kwargs,
    )


def spread(search: Any, rank: int) -> Any:
    """Let a rank begin with logits and weights of its own."""
    with torch.no_grad():
        for tensor in (*search.weights, *search.arch_params):
            tensor.add_(rank)
    return search


def part_of(batch: Any, rank: int, world_size: int) -> Any:
    return tuple(tensor[rank::world_size] for tensor in batch)


def job(rank: int, world_size: int) -> Any:
    results = {}
    for name in HYPERGRADIENTS:
        search = wrapped(spread(small_search(), rank), name)
        for _ in range(2):
            search.step(*(part_of(batch, rank, world_size) for batch in batches()))
        results[name] = outcome(search)
        results[f'{name} keys'] = [*search.state_dict()['supernet']]
        both = wrapped(spread(small_search(), rank), name, accumulate=2)
        for _ in range(2):
            halves = [
                [part_of(tuple(t[half] for t in batch), rank, world_size) for half in HALVES]
                for batch in batches()
            ]
            both.step(*halves)
        results[f'{name} in parts'] = outcome(both)
    return results


HALVES = (slice(0, 4), slice(4, 8))


@pytest.mark.parametrize('world_size', WORLDS)
def test_ranks_are_worth_the_joined_batch(world_size: int, tmp_path: Path) -> None:
    results = results_of(job, world_size, tmp_path)
    for name in HYPERGRADIENTS:
        search = small_search(hypergradient=name, grad_clip=0.1)
        for _ in range(2):
            search.step(*batches())
        expected = outcome(search)
        for found in results:
            # The finite difference divides rounding errors by its radius.
            for key in (name, f'{name} in parts'):
                assert_same_state(found[key], expected, rtol=1e-8, atol=1e-9)
                assert_same_state(found[key], results[0][key])
            # It can be gone on with in one process.
            assert found[f'{name} keys'] == [*search.supernet.state_dict()]


def job_plain(rank: int, world_size: int) -> Any:
    """Train by one optimizer; the logits are no parameters of what is wrapped."""
    from mmrazor_mutators.distributed import average_

    search = small_search()
    parallel = DistributedDataParallel(search.supernet)
    arch_params = [*search.mutator.arch_params.values()]
    inputs, targets = part_of(batches()[0], rank, world_size)
    nn.functional.cross_entropy(parallel(inputs), targets).backward()
    alone = [param.grad.clone() for param in arch_params]
    average_([param.grad for param in arch_params])
    grads = [param.grad for param in (*search.weights, *arch_params)]
    return {'grads': grads, 'alone': alone}


@pytest.mark.parametrize('world_size', WORLDS)
def test_a_loop_with_one_backward(world_size: int, tmp_path: Path) -> None:
    search = small_search()
    inputs, targets = batches()[0]
    nn.functional.cross_entropy(search.supernet(inputs), targets).backward()
    expected = [param.grad for param in (*search.weights, *search.arch_params)]
    results = results_of(job_plain, world_size, tmp_path)
    for found in results:
        assert_same_state(found['grads'], expected, rtol=1e-9, atol=1e-10)
    assert not results[0]['alone'][0].equal(results[1]['alone'][0])
