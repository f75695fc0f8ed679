"""A supernet that is sharded by FSDP2, in a loop with one backward: its gradients are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import results_of
from test_search_distributed import batches, small_search
from torch import Tensor, nn
from toy_searches import assert_same_state

import mmrazor_mutators as mm
from mmrazor_mutators.distributed import average_
from mmrazor_mutators.errors import ConfigError

fsdp = pytest.importorskip('torch.distributed.fsdp')
pytestmark = pytest.mark.skipif(not hasattr(fsdp, 'fully_shard'), reason='needs FSDP2')
MUTATORS = ['DartsMutator', 'GDASMutator']


def step_of(search: Any, batch: Any) -> dict[str, Any]:
    """Take steps of weights and architecture by one optimizer; return what they come to."""

    def whole(tensors: list[Any]) -> list[Tensor | None]:
        return [t.full_tensor() if hasattr(t, 'full_tensor') else t for t in tensors]

    arch_params = [*search.mutator.arch_params.values()]
    weights = [*search.supernet.parameters()]
    optimizers = [torch.optim.SGD(params, lr=0.1) for params in (weights, arch_params)]
    for number in range(2):
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.manual_seed(number)
        loss = nn.functional.cross_entropy(search.supernet(batch[0]), batch[1])
        loss.backward()
        alike = arch_params if hasattr(weights[0], 'full_tensor') else [*weights, *arch_params]
        average_([param.grad for param in alike if param.grad is not None])
        grads = whole([p.grad for p in (*weights, *arch_params)])
        for optimizer in optimizers:
            optimizer.step()
    return {
        # A path that is not drawn has none, or zeros.
        'grads': [grad for grad in grads if grad is not None and grad.any()],
        'values': [p.detach() for p in whole([*weights, *arch_params])],
    }


def shard(supernet: nn.Module, world_size: int) -> None:
    mesh = torch.distributed.device_mesh.init_device_mesh('cpu', (world_size,))
    for part in supernet:
        fsdp.fully_shard(part, mesh=mesh)
    fsdp.fully_shard(supernet, mesh=mesh)


def job(rank: int, world_size: int) -> Any:
    results = {}
    for name in MUTATORS:
        search = small_search(name)
        shard(search.supernet, world_size)
        part = [tensor[rank::world_size] for tensor in batches()[0]]
        results[name] = step_of(search, part)
        results[f'{name} whole'] = step_of(small_search(name), part)
        results['shares'] = [p.to_local().numel() for p in search.supernet.parameters()]
        rest = (search.weight_optimizer, search.arch_optimizer)
        with pytest.raises(ConfigError, match='sharded by FSDP') as caught:
            mm.BilevelSearch(search.supernet, search.mutator, search.loss_fn, *rest)
        results['error'] = str(caught.value)
    return results


def test_two_ranks_have_half_of_it_each(tmp_path: Path) -> None:
    results = results_of(job, 2, tmp_path)
    search = small_search()
    sizes = [param.numel() for param in search.supernet.parameters()]
    expected = step_of(search, batches()[0])
    close = {'rtol': 1e-9, 'atol': 1e-10}
    for found in results:
        for key in ('grads', 'values'):
            assert_same_state(found['DartsMutator'][key], expected[key], **close)
            for name in MUTATORS:  # Ranks draw other paths than a single process.
                assert_same_state(found[name][key], found[f'{name} whole'][key], **close)
    assert len(results[0]['GDASMutator']['grads']) < len(expected['grads'])
    assert [sum(both) for both in zip(*(r['shares'] for r in results), strict=True)] == sizes
    assert all(0 < sum(found['shares']) < sum(sizes) for found in results)
    assert 'docs/distributed.md' in results[0]['error']
