"""A loop with one optimizer in lower precision, and a search by optimizers in wrappers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import toys
from test_search_distributed import batches, outcome, small_search
from torch import Tensor, nn
from torch.testing import assert_close
from toy_searches import HYPERGRADIENTS, assert_same_state

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.search.wrapped_optimizers import bare

learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')


def prepared(name: str) -> tuple[Any, Any, list[Tensor]]:
    torch.manual_seed(0)
    supernet, mutator = toys.prepared(name)
    supernet.float(), mutator.float()
    return supernet, mutator, [*supernet.parameters(), *mutator.arch_params.values()]


def loss_of(supernet: nn.Module, mutator: Any) -> Tensor:
    draws = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 3, generator=draws), torch.randn(8, 2, generator=draws)
    torch.manual_seed(2)
    return nn.functional.mse_loss(supernet(x).float(), y) + mutator.regularization()


def size_of(grads: list[Tensor]) -> Tensor:
    return torch.cat([grad.flatten() for grad in grads]).norm()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_lower_precision(learning: str, dtype: torch.dtype) -> None:
    """The gradients are those of float32, up to the rounding of the precision."""
    supernet, mutator, params = prepared(learning)
    expected = [
        torch.zeros_like(param) if grad is None else grad
        for param, grad in zip(
            params,
            torch.autograd.grad(loss_of(supernet, mutator), params, allow_unused=True),
            strict=True,
        )
    ]
    scaler = torch.amp.GradScaler('cpu', enabled=dtype == torch.float16, init_scale=2.0**10)
    optimizer = torch.optim.SGD(params, lr=0.1)
    with torch.autocast('cpu', dtype):
        loss = loss_of(supernet, mutator)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
    assert all(grad.dtype == torch.float32 for grad in found)
    error = size_of([a - b for a, b in zip(found, expected, strict=True)]) / size_of(expected)
    # Roundings to 8 and to 11 significant bits, which norms and a division make larger.
    assert error < (0.16 if dtype == torch.bfloat16 else 0.02)
    before = [param.detach().clone() for param in params]
    scaler.step(optimizer)
    scaler.update()
    assert_close(
        [param.detach() for param in params],
        [b - 0.1 * g for b, g in zip(before, found, strict=True)],
    )


def test_a_scaler_skips_what_overflows() -> None:
    supernet, mutator, params = prepared('DartsMutator')
    optimizer = torch.optim.SGD(params, lr=0.1)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**60)
    with torch.autocast('cpu', torch.float16):
        loss = loss_of(supernet, mutator)
    before = [param.detach().clone() for param in params]
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**59
    assert_close([param.detach() for param in params], before, rtol=0, atol=0)


def wrap(optimizer: torch.optim.Optimizer) -> Any:
    accelerate = pytest.importorskip('accelerate')
    return accelerate.Accelerator(cpu=True).prepare_optimizer(optimizer)


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning')
@pytest.mark.parametrize('name', HYPERGRADIENTS)
@pytest.mark.parametrize('kind', [torch.optim.SGD, torch.optim.Adam])
def test_each_hypergradient_with_a_wrapper(name: str, kind: Any) -> None:
    outcomes = []
    for wrapper in (lambda optimizer: optimizer, wrap):
        plain = small_search()
        optimizers = (
            kind(plain.supernet.parameters(), lr=0.05),
            torch.optim.Adam(plain.mutator.arch_params.values(), lr=0.05),
        )
        both = [wrapper(optimizer) for optimizer in optimizers]
        assert [*map(bare, both)] == [*optimizers]
        search = mm.BilevelSearch(plain.supernet, plain.mutator, plain.loss_fn, *both, name)
        search.step(*batches())
        state = search.state_dict()
        search.step(*batches())
        search.load_state_dict(state)
        search.step(*batches())
        outcomes.append(outcome(search))
    assert_same_state(outcomes[1], outcomes[0])


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning')
def test_what_is_in_a_wrapper_is_looked_at() -> None:
    plain = small_search()
    rest = (torch.optim.Adam(plain.arch_params, lr=0.1),)
    lbfgs = wrap(torch.optim.LBFGS(plain.supernet.parameters()))
    with pytest.raises(ConfigError, match='SGD or Adam, but got LBFGS'):
        mm.BilevelSearch(plain.supernet, plain.mutator, plain.loss_fn, lbfgs, *rest)
    supernet, mutator = toys.prepared('GAEAMutator')
    weights = torch.optim.SGD(supernet.parameters(), lr=0.1)
    adam = wrap(torch.optim.Adam(mutator.arch_params.values()))
    with pytest.raises(ConfigError, match=r'ExponentiatedGradient.* but got Adam$'):
        mm.BilevelSearch(supernet, mutator, nn.functional.mse_loss, weights, adam)
