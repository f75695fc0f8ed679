"""Two processes search as one; trap: gradients that pass the reducer by, so ranks drift apart.

Both ranks run every job once, and the tests look at what they sent back.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import spawn
from torch import Tensor, nn
from torch.testing import assert_close
from toy_searches import HYPERGRADIENTS, SpoiltLoss, assert_same_state

import mmrazor_mutators as mm
from mmrazor_mutators.distributed import average_, same_draws, world_size
from mmrazor_mutators.errors import NonFiniteLossError

WORLD_SIZE = 2


def small_search(
    mutator: str = 'DartsMutator', hypergradient: Any = 'first_order', **kwargs: Any
) -> Any:
    """Return a search in which the mean of the losses of two halves is that of the whole."""
    torch.manual_seed(0)
    supernet = nn.Sequential(
        nn.Linear(3, 4), *(_one_of_three() for _ in range(2)), nn.Linear(4, 2)
    )
    owner = mm.build_mutator({'type': mutator})
    owner.prepare_from_supernet(supernet)
    supernet.double()
    owner.double()
    for arch_param in owner.arch_params.values():
        nn.init.normal_(arch_param)
    return mm.BilevelSearch(
        supernet,
        owner,
        SpoiltLoss(),
        torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
        torch.optim.Adam(owner.arch_params.values(), lr=0.05),
        hypergradient,
        **kwargs,
    )


def _one_of_three() -> nn.Module:
    return mm.DifferentiableOP(
        space_id='shared',
        choices={
            'linear': nn.Linear(4, 4),
            'tanh': nn.Sequential(nn.Linear(4, 4), nn.Tanh()),
            'skip': nn.Identity(),
        },
    )


def batches(rank: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """Return two batches of eight, or the part of them that a rank sees."""
    draws = torch.Generator().manual_seed(7)
    part = slice(None) if rank is None else slice(rank, None, WORLD_SIZE)
    return [
        (
            torch.randn(8, 3, dtype=torch.float64, generator=draws)[part],
            torch.randint(2, (8,), generator=draws)[part],
        )
        for _ in range(2)
    ]


def outcome(search: Any) -> dict[str, list[Tensor]]:
    return {
        'weights': [weight.detach().clone() for weight in search.weights],
        'grads': [weight.grad for weight in search.weights],
        'alphas': [alpha.detach().clone() for alpha in search.arch_params],
        'hypergradients': [alpha.grad for alpha in search.arch_params],
    }


def job_average(rank: int) -> Any:
    tensors = [
        torch.full((2, 3), float(rank)),
        torch.arange(4.0)[:, None].expand(4, 2).contiguous().T * (rank + 1),
        torch.tensor(10.0 * rank, dtype=torch.float64),
    ]
    average_(tensors)
    average_([])
    return tensors


def job_draws(rank: int) -> Any:
    torch.manual_seed(rank)
    before = torch.rand(3)
    with same_draws(torch.device('cpu')):
        inside = torch.rand(3)
    with same_draws(torch.device('cpu')):
        inside_again = torch.rand(3)
    return {'inside': inside, 'again': inside_again, 'outside': [before, torch.rand(3)]}


def job_step(rank: int, name: str) -> Any:
    search = small_search(hypergradient=name, grad_clip=0.1)
    for _ in range(2):
        search.step(*batches(rank))
    return outcome(search)


def job_gdas(rank: int, name: str) -> Any:
    search = small_search('GDASMutator', name)
    torch.manual_seed(100 + rank)
    for _ in range(3):
        search.step(*batches(rank))
    return outcome(search)


def job_nan(rank: int, call: int) -> Any:
    """Spoil one loss on rank 0 alone."""
    search = small_search()
    search.step(*batches(rank))
    before = outcome(search)
    search.loss_fn.spoil = {2 + call: lambda loss: loss * float('nan')} if rank == 0 else {}
    error = ''
    try:
        search.step(*batches(rank))
    except NonFiniteLossError as caught:
        error = str(caught)
    return {'error': error, 'before': before, 'after': outcome(search)}


JOBS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    'average': (job_average, ()),
    'draws': (job_draws, ()),
    **{f'step {name}': (job_step, (name,)) for name in HYPERGRADIENTS},
    **{f'gdas {name}': (job_gdas, (name,)) for name in ('first_order', 'exact')},
    'nan architecture': (job_nan, (0,)),
    'nan training': (job_nan, (1,)),
}


def run_rank(rank: int, folder: str) -> None:
    """Run every job; ranks meet through a file, and talk over the loopback device."""
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=WORLD_SIZE
    )
    results = {key: job(rank, *args) for key, (job, args) in JOBS.items()}
    torch.save(results, f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank sent back."""
    folder = tmp_path_factory.mktemp('ranks')
    spawn(run_rank, (str(folder),), WORLD_SIZE)
    return [torch.load(Path(folder, f'rank{rank}.pt')) for rank in range(WORLD_SIZE)]


def test_average(ranks: list[dict[str, Any]]) -> None:
    expected = [
        torch.full((2, 3), 0.5),
        torch.arange(4.0).expand(2, 4) * 1.5,
        torch.tensor(5.0, dtype=torch.float64),
    ]
    for results in ranks:
        assert_same_state(results['average'], expected)


def test_same_draws(ranks: list[dict[str, Any]]) -> None:
    left, right = (results['draws'] for results in ranks)
    assert left['inside'].equal(right['inside'])
    assert left['again'].equal(right['again'])
    assert not left['inside'].equal(left['again'])
    # Each rank's own stream goes on; one number of it became the seed, each time.
    for rank, results in enumerate((left, right)):
        torch.manual_seed(rank)
        before = torch.rand(3)
        for _ in range(2):
            torch.randint(2**62, (1,))
        assert_same_state(results['outside'], [before, torch.rand(3)])


@pytest.mark.parametrize('name', HYPERGRADIENTS)
def test_two_halves_of_a_batch_are_a_whole_one(name: str, ranks: list[dict[str, Any]]) -> None:
    search = small_search(hypergradient=name, grad_clip=0.1)
    for _ in range(2):
        search.step(*batches())
    expected = outcome(search)
    # The check would be blind if half of the data gave the same.
    alone = small_search(hypergradient=name, grad_clip=0.1)
    alone.step(*batches(0))
    assert (alone.arch_params[0].grad - expected['hypergradients'][0]).abs().max() > 1e-3
    for results in ranks:
        # The finite difference divides rounding errors by its radius.
        assert_same_state(results[f'step {name}'], expected, rtol=1e-8, atol=1e-9)
    assert_same_state(ranks[0][f'step {name}'], ranks[1][f'step {name}'])


@pytest.mark.parametrize('name', ['first_order', 'exact'])
def test_ranks_draw_the_same_path(name: str, ranks: list[dict[str, Any]]) -> None:
    """Other seeds, other data, and yet the same candidates without a gradient."""
    left, right = (results[f'gdas {name}'] for results in ranks)
    assert_same_state(left, right)
    assert any(grad is None for grad in left['grads'])


@pytest.mark.parametrize('which', ['architecture', 'training'])
def test_all_ranks_stop_where_one_diverges(which: str, ranks: list[dict[str, Any]]) -> None:
    """Else the healthy rank steps to NaN, and waits for the other in vain."""
    for results in ranks:
        result = results[f'nan {which}']
        assert f'{which} loss' in result['error']
        assert_same_state(result['after']['weights'], result['before']['weights'])
        if which == 'architecture':
            assert_same_state(result['after']['alphas'], result['before']['alphas'])


def test_a_single_process() -> None:
    assert world_size() == 1
    tensor = torch.tensor([1.0, 2.0])
    average_([tensor])
    assert_close(tensor, torch.tensor([1.0, 2.0]))
    state = torch.get_rng_state()
    with same_draws(torch.device('cpu')):
        inside = torch.rand(3)
    torch.set_rng_state(state)
    assert_close(torch.rand(3), inside, rtol=0, atol=0)
