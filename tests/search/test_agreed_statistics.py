"""What a validation chooses is chosen from agreed statistics, by all ranks alike."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ranks import results_of
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.distributed import agree_on_buffers
from mmrazor_mutators.engine.hooks.agreed_buffers import AgreedBuffersHook
from mmrazor_mutators.search.norm_statistics import recalibrated

WORLDS = [2, pytest.param(4, marks=pytest.mark.slow)]


class Counting(nn.Module):
    """Has buffers that are seen differently by each rank, and some that no rank may touch."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        with torch.no_grad():
            self.norm.running_mean.copy_(torch.tensor([rank, 2.0 * rank]))
            self.norm.running_var.fill_(1.0 + rank)
        self.register_buffer('mask', torch.tensor([True, False]))
        self.register_buffer('wide', torch.full((), rank, dtype=torch.float64))


def job_buffers(rank: int, world_size: int) -> Any:
    results = []
    hook = AgreedBuffersHook()
    for agree in (
        agree_on_buffers,
        lambda m: hook.before_val_epoch(SimpleNamespace(model=m)),
        lambda m: hook.before_test_epoch(SimpleNamespace(model=m)),
    ):
        module = Counting(rank)
        agree(module)
        results.append(dict(module.named_buffers()))
    return results


@pytest.mark.parametrize('world_size', WORLDS)
def test_buffers_are_averaged(world_size: int, tmp_path: Path) -> None:
    mean = (world_size - 1) / 2
    expected = {
        'norm.running_mean': torch.tensor([mean, 2 * mean]),
        'norm.running_var': torch.full((2,), 1 + mean),
        'norm.num_batches_tracked': torch.tensor(0),
        'mask': torch.tensor([True, False]),
        'wide': torch.tensor(mean, dtype=torch.float64),
    }
    for found in results_of(job_buffers, world_size, tmp_path):
        for buffers in found:
            assert {*buffers} == {*expected}
            for name, value in expected.items():
                assert_close(buffers[name], value, rtol=0, atol=0)


def test_a_single_process_changes_nothing() -> None:
    module = Counting(3)
    before = {name: value.clone() for name, value in module.named_buffers()}
    agree_on_buffers(module)
    assert_close(dict(module.named_buffers()), before, rtol=0, atol=0)


def _candidate() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


def job_selection(rank: int, world_size: int) -> Any:
    """Select by perturbation, on data of which each rank alone would choose otherwise."""
    torch.manual_seed(0)
    supernet = nn.Sequential(
        nn.Linear(3, 4),
        *(
            mm.DifferentiableOP(
                space_id=f's{i}', choices={name: _candidate() for name in 'abc'}
            )
            for i in range(3)
        ),
        nn.Linear(4, 2),
    )
    mutator = mm.build_mutator(
        {
            'type': 'DartsMutator',
            'extensions': [{'type': 'PerturbationSelection', 'tune_epochs': 1}],
        }
    )
    mutator.prepare_from_supernet(supernet)
    search = mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.05),
    )
    torch.manual_seed(10 + rank)
    train, arch = (
        [(rank + torch.randn(8, 3), torch.randint(2, (8,))) for _ in range(3)] for _ in range(2)
    )
    search.step(train[0], arch[0])
    before = next(b.clone() for name, b in supernet.named_buffers() if 'mean' in name)
    search.finish(train, arch)
    return {
        'before': before,
        'state': supernet.state_dict(),
        'subnet': mutator.search_subnet(),
    }


@pytest.mark.parametrize('world_size', WORLDS)
def test_selection_by_perturbation(world_size: int, tmp_path: Path) -> None:
    first, *others = results_of(job_selection, world_size, tmp_path)
    for other in others:
        assert not first['before'].equal(other['before'])  # Else nothing had to be agreed on.
        assert other['subnet'] == first['subnet']
        assert {*other['state']} == {*first['state']}
        for key, value in first['state'].items():
            if isinstance(value, Tensor):
                assert_close(other['state'][key], value, rtol=0, atol=0, msg=key)


def _data(rank: int) -> list[Tensor]:
    draws = torch.Generator().manual_seed(rank)
    return [rank + torch.randn(8, 2, generator=draws) for _ in range(2)]


def job_recalibration(rank: int, world_size: int) -> Any:
    norm = nn.BatchNorm1d(2)
    with recalibrated(norm, norm, _data(rank)):
        return [norm.running_mean.clone(), norm.running_var.clone()]


@pytest.mark.parametrize('world_size', WORLDS)
def test_recalibration(world_size: int, tmp_path: Path) -> None:
    batches = [batch for rank in range(world_size) for batch in _data(rank)]
    mean = torch.stack([batch.mean(0) for batch in batches]).mean(0)
    var = torch.stack([batch.var(0) for batch in batches]).mean(0)
    results = results_of(job_recalibration, world_size, tmp_path)
    for found in results:
        assert_close(found, [mean, var])
        assert_close(found, results[0], rtol=0, atol=0)
