"""Copies that others make: averages, files, other processes, other norms; with their values."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from processes import python
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.testing import assert_close

import mmrazor_mutators as mm

DECAY = 0.75


class Both(nn.Module):
    """A supernet with its mutator, which are copied together."""

    def __init__(self, name: str = 'DartsMutator') -> None:
        super().__init__()
        self.supernet, self.mutator = toys.prepared(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.supernet(x)


def moved(module: nn.Module) -> None:
    with torch.no_grad():
        for param in module.parameters():
            param.add_(torch.randn_like(param))


def chosen_in(subnet: Any) -> dict[str, Any]:
    return {space_id: entry['chosen'] for space_id, entry in subnet.items()}


def averaged(module: nn.Module, of: nn.Module) -> tuple[Any, dict[str, Tensor]]:
    """Return a moving average over four states, by torch and by hand."""
    ema = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    expected: dict[str, Tensor] = {}
    for number in range(4):
        moved(of)
        ema.update_parameters(module)
        for name, param in module.named_parameters():
            before = expected.get(name, param.detach())
            new = before if number == 0 else DECAY * before + (1 - DECAY) * param.detach()
            expected[name] = new.clone()
    return ema, expected


@pytest.mark.parametrize('name', ['DartsMutator', 'GDASMutator', 'FairDartsMutator'])
def test_average_of_the_pair(name: str) -> None:
    both = Both(name)
    ema, expected = averaged(both, both)
    found = {key.removeprefix('module.'): p for key, p in ema.named_parameters()}
    assert {*found} == {*expected}
    assert 'mutator.arch_params.widen' in found
    assert_close({key: value.detach() for key, value in found.items()}, expected)
    # It runs with the averages, of the logits too.
    twin = copy.deepcopy(both)
    with torch.no_grad():
        for key, param in twin.named_parameters():
            param.copy_(expected[key])
    x = torch.randn(6, 3, dtype=torch.float64)
    assert_close(toys.run(ema, x), toys.run(twin, x))
    assert not torch.allclose(toys.run(ema, x), toys.run(both, x))
    subnet = ema.module.mutator.search_subnet()
    assert chosen_in(subnet) == chosen_in(twin.mutator.search_subnet())
    exported = ema.module.mutator.export_subnet(ema.module.supernet, subnet)
    assert_close(exported(x), twin.mutator.export_subnet(twin.supernet, subnet)(x))


def test_average_of_the_supernet_alone() -> None:
    """The weights are averaged; the logits stay as they were when it was copied."""
    supernet, mutator = toys.prepared('DartsMutator')
    first = {key: logits.detach().clone() for key, logits in mutator.arch_params.items()}
    ema, expected = averaged(supernet, nn.ModuleList([supernet, mutator]))
    twin, its_mutator = copy.deepcopy((supernet, mutator))
    with torch.no_grad():
        for key, param in twin.named_parameters():
            param.copy_(expected[key])
        for key, logits in its_mutator.arch_params.items():
            assert not logits.equal(first[key])
            logits.copy_(first[key])
    x = torch.randn(6, 3, dtype=torch.float64)
    assert_close(toys.run(ema, x), toys.run(twin, x))


def built(name: str = 'DartsMutator') -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    space = {'type': 'NasBench201Supernet', 'in_channels': 3, 'num_classes': 4}
    supernet = mm.build_architecture({**space, 'base_channels': 4, 'num_cells': 1})
    mutator = mm.build_mutator({'type': name})
    mutator.prepare_from_supernet(supernet)
    toys.spread_logits(mutator)
    return supernet, mutator


def batches() -> list[tuple[Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(5)
    return [
        (torch.randn(4, 3, 8, 8, generator=draws), torch.randint(4, (4,), generator=draws))
        for _ in range(2)
    ]


def search_of(supernet: nn.Module, mutator: Any) -> Any:
    return mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.05),
    )


def state_of(search: Any) -> dict[str, Any]:
    state = search.state_dict()
    return {key: value for key, value in state.items() if key != 'rng'}


# Takes a step from what another process has left, and says what it has come to.
OTHER = """
import sys, torch
import mmrazor_mutators as mm

folder, how, name = sys.argv[1:]
torch.set_num_threads(1)
batches = torch.load(folder + '/batches.pt')
if how == 'state':
    space = {'type': 'NasBench201Supernet', 'in_channels': 3, 'num_classes': 4}
    supernet = mm.build_architecture({**space, 'base_channels': 4, 'num_cells': 1})
    mutator = mm.build_mutator({'type': name})
    mutator.prepare_from_supernet(supernet)
else:
    supernet, mutator = torch.load(folder + '/module.pt', weights_only=False)
search = mm.BilevelSearch(
    supernet,
    mutator,
    torch.nn.functional.cross_entropy,
    torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9),
    torch.optim.Adam(mutator.arch_params.values(), lr=0.05),
)
state = torch.load(folder + '/state.pt', weights_only=True)
if how == 'module':
    for part in ('supernet', 'mutator'):  # They came with the file.
        for key, value in getattr(search, part).state_dict().items():
            assert torch.equal(value, state[part][key]), key
search.load_state_dict(state)
search.step(*batches)
torch.save(search.state_dict(), folder + '/result.pt')
"""


@pytest.mark.parametrize('how', ['state', 'module'])
def test_another_process_goes_on(how: str, tmp_path: Path) -> None:
    search = search_of(*built('GDASMutator'))
    search.step(*batches())
    torch.save(batches(), tmp_path / 'batches.pt')
    torch.save(search.state_dict(), tmp_path / 'state.pt')
    torch.save((search.supernet, search.mutator), tmp_path / 'module.pt')
    search.step(*batches())
    done = python('-c', OTHER, str(tmp_path), how, 'GDASMutator')
    assert done.returncode == 0, done.stderr
    result = torch.load(tmp_path / 'result.pt', weights_only=True)
    assert_close(result, search.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize('name', ['DartsMutator', 'GDASMutator', 'PCDartsMutator'])
def test_a_search_is_copied_with_all_that_it_holds(name: str, duplicate: Any) -> None:
    search = search_of(*built(name))
    search.step(*batches())
    before = state_of(search)
    twin = duplicate(search)
    draws = torch.get_rng_state()
    twin.step(*batches())
    assert_close(state_of(search), before, rtol=0, atol=0)
    torch.set_rng_state(draws)
    search.step(*batches())
    assert_close(state_of(search), state_of(twin), rtol=0, atol=0)
    assert search.iteration == twin.iteration == 2


@pytest.mark.parametrize('name', ['DartsMutator', 'GDASMutator'])
@pytest.mark.parametrize('used_before', [False, True])
def test_conversion_to_synchronised_norms(name: str, used_before: bool) -> None:
    """Nothing remembers the norms that were there."""
    plain, other = (search_of(*built(name)) for _ in range(2))
    if used_before:
        for search in (plain, other):
            torch.manual_seed(2)
            search.step(*batches())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(other.supernet)
    assert converted is other.supernet
    norms = [m for m in converted.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 10
    assert all(type(norm) is nn.SyncBatchNorm for norm in norms)
    for search in (plain, other):
        torch.manual_seed(3)
        for _ in range(2):
            search.step(*batches())
    # Fused norms of one process round otherwise.
    ours, expected = (search.supernet.state_dict() for search in (other, plain))
    assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for norm in norms:
            norm.running_mean.add_(1.0)
    x = batches()[0][0]
    outputs = [toys.run(search.supernet.eval(), x) for search in (plain, other)]
    assert not torch.allclose(*outputs)
    for search in (plain, other):
        for norm in search.supernet.modules():
            if type(norm) is nn.BatchNorm2d:
                with torch.no_grad():
                    norm.running_mean.add_(1.0)
    assert_close(toys.run(plain.supernet.eval(), x), outputs[1], rtol=1e-4, atol=1e-4)
    subnet = other.mutator.search_subnet()
    assert chosen_in(subnet) == chosen_in(plain.mutator.search_subnet())
    exported = other.mutator.export_subnet(other.supernet, subnet).eval()
    plainly = plain.mutator.export_subnet(plain.supernet, subnet).eval()
    assert_close(exported(x), plainly(x), rtol=1e-4, atol=1e-4)
