"""What a step of the search changes, by how much, and what it leaves alone."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from naive_hypergradients import NAIVE, Problem
from torch import Tensor, nn
from torch.testing import assert_close
from toy_searches import (
    HYPERGRADIENTS,
    Batch,
    SpoiltLoss,
    ToySupernet,
    assert_same_state,
    state_of,
    toy_batches,
    toy_search,
    twin_of,
)

import mmrazor_mutators as mm

every_hypergradient = pytest.mark.parametrize('name', HYPERGRADIENTS)

# Of the five, this one alone looks at the architecture batch at the network's own weights
# in a way that counts; the others put the running statistics back.
PASSES_OF_THE_ARCHITECTURE = {'first_order': 1}


def plain_training_step(search: Any, batch: Batch) -> Tensor:
    """Take a step of the weights as any training loop does."""
    search.weight_optimizer.zero_grad()
    loss = search.loss_fn(search.supernet(batch[0]), batch[1])
    loss.backward()
    if search.grad_clip is not None:
        nn.utils.clip_grad_norm_(search.supernet.parameters(), search.grad_clip)
    search.weight_optimizer.step()
    return loss.detach()


def published_step(search: Any, train_batch: Batch, arch_batch: Batch) -> dict[str, Tensor]:
    """Take a step of the first order as the authors of DARTS write it."""
    search.arch_optimizer.zero_grad()
    arch_loss = search.loss_fn(search.supernet(arch_batch[0]), arch_batch[1])
    arch_loss.backward()
    search.arch_optimizer.step()
    loss = plain_training_step(search, train_batch)
    return {'arch_loss': arch_loss.detach(), 'loss': loss}


@pytest.mark.parametrize('mutator', ['DartsMutator', 'SNASMutator', 'GDASMutator'])
def test_first_order_is_the_published_loop(mutator: str) -> None:
    """Traps: gradients of one loss left in the other's parameters, one draw too many."""
    search = toy_search(mutator=mutator, supernet=ToySupernet(dropout=0.3), grad_clip=0.1)
    twin = twin_of(search)
    for _ in range(4):
        batches = toy_batches()
        draws = torch.get_rng_state()
        logs = search.step(*batches)
        torch.set_rng_state(draws)
        expected = published_step(twin, *batches)
        assert_same_state(logs, expected, 'logs', rtol=1e-12, atol=1e-12)
        # The loop leaves the training gradient of the last step in the logits.
        left, right = state_of(search), state_of(twin)
        for state in (left, right):
            state['grads'] = {k: g for k, g in state['grads'].items() if '.' in k}
            del state['iteration']
        assert_same_state(left, right, rtol=1e-12, atol=1e-12)


@every_hypergradient
@pytest.mark.parametrize('grad_clip', [None, 0.05])
def test_step_is_an_architecture_step_and_then_a_plain_one(
    name: str, grad_clip: float | None
) -> None:
    """Traps: a virtual step that stays, polluted statistics, gradients that mix."""
    search = toy_search(name, grad_clip=grad_clip)
    train_batch, arch_batch, other = toy_batches(3)
    for _ in range(2):  # So that there are momentum buffers and leftover gradients.
        search.step(other, train_batch)
    twin = twin_of(search)
    logs = search.step(train_batch, arch_batch)

    for key, arch_param in twin.mutator.arch_params.items():
        arch_param.grad = search.mutator.arch_params[key].grad.clone()
    if name in NAIVE:
        expected = NAIVE[name](Problem(twin, train_batch, arch_batch))
        # A difference of differences cannot be closer than this.
        tolerance = {'rtol': 1e-4, 'atol': 1e-7} if name in ('cg', 'neumann') else {}
        for arch_param, grad in zip(twin.mutator.arch_params.values(), expected, strict=True):
            assert_close(arch_param.grad, grad, **tolerance)
    for _ in range(PASSES_OF_THE_ARCHITECTURE.get(name, 0)):
        twin.supernet(arch_batch[0])
    twin.arch_optimizer.step()
    kept = {key: p.grad.clone() for key, p in twin.mutator.arch_params.items()}
    loss = plain_training_step(twin, train_batch)
    for key, grad in kept.items():
        twin.mutator.arch_params[key].grad = grad
    twin.iteration += 1

    assert_same_state(state_of(search), state_of(twin), rtol=1e-12, atol=1e-12)
    assert_close(logs['loss'], loss)
    assert set(logs) == {'loss', 'arch_loss'}
    assert not any(value.requires_grad for value in logs.values())


@every_hypergradient
def test_gradients_from_before_do_not_count(name: str) -> None:
    search = toy_search(name)
    twin = twin_of(search)
    for param in [*search.weights, *search.arch_params]:
        param.grad = torch.full_like(param, 1e3)
    batches = toy_batches()
    search.step(*batches)
    twin.step(*batches)
    assert_same_state(state_of(search), state_of(twin))


@every_hypergradient
def test_parameters_stay_the_same_objects_with_the_same_flags(name: str) -> None:
    search = toy_search(name)
    supernet, mutator = search.supernet, search.mutator
    supernet.stem[0].weight.requires_grad_(False)
    trained = [p for p in supernet.parameters() if p.requires_grad]
    search = mm.BilevelSearch(
        supernet,
        mutator,
        search.loss_fn,
        torch.optim.SGD(trained, lr=0.1),
        search.arch_optimizer,
        name,
    )
    params = [*supernet.parameters(), *mutator.arch_params.values()]
    places = [param.data_ptr() for param in params]
    flags = [param.requires_grad for param in params]
    frozen = supernet.stem[0].weight.detach().clone()
    search.step(*toy_batches())
    after = [*supernet.parameters(), *mutator.arch_params.values()]
    assert all(a is b for a, b in zip(after, params, strict=True))
    assert [param.data_ptr() for param in after] == places
    assert [param.requires_grad for param in after] == flags
    assert_close(supernet.stem[0].weight.detach(), frozen, rtol=0, atol=0)


def test_no_graph_reaches_what_is_not_stepped() -> None:
    """Half of the time of the published loop goes into gradients that nobody uses."""
    seen = []

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        groups = (list(search.supernet.parameters()), search.arch_params)
        seen.append([{p.requires_grad for p in ps} for ps in groups])
        return nn.functional.cross_entropy(outputs, targets)

    search = toy_search(loss_fn=loss_fn)
    search.step(*toy_batches())
    assert seen == [[{False}, {True}], [{True}, {False}]]


@every_hypergradient
def test_python_looks_for_no_cycles_within_a_step(name: str) -> None:
    """A step makes many objects and no cycles; to look through them takes long."""
    seen: list[bool] = []

    def loss_fn(scores: Tensor, targets: Tensor) -> Tensor:
        seen.append(gc.isenabled())
        return nn.functional.cross_entropy(scores, targets)

    search = toy_search(hypergradient=name, loss_fn=loss_fn)
    search.step(*toy_batches())
    search.step_weights(*toy_batches())
    assert seen
    assert not any(seen)
    assert gc.isenabled()


@every_hypergradient
def test_a_frozen_weight_inside_of_the_optimizer_stays(name: str) -> None:
    """As in a plain loop, where ``backward`` passes it by."""
    search = toy_search(name)
    frozen = search.supernet.stem[0].weight.requires_grad_(False)
    twin, before = twin_of(search), frozen.detach().clone()
    train_batch, arch_batch = toy_batches()
    search.step(train_batch, arch_batch)
    assert_close(frozen, before, rtol=0, atol=0)
    assert frozen.grad is None
    assert not frozen.requires_grad
    for key, arch_param in twin.mutator.arch_params.items():
        arch_param.data.copy_(search.mutator.arch_params[key].detach())
    plain_training_step(twin, train_batch)
    pairs = zip(search.supernet.parameters(), twin.supernet.parameters(), strict=True)
    for weight, expected in pairs:
        assert_close(weight, expected, rtol=1e-12, atol=1e-12)


def test_candidates_that_were_not_drawn_neither_decay_nor_coast() -> None:
    search = toy_search(mutator='GDASMutator')
    batches = toy_batches()
    for _ in range(3):
        before = {n: p.detach().clone() for n, p in search.supernet.named_parameters()}
        search.step(*batches)
        idle = [n for n, p in search.supernet.named_parameters() if p.grad is None]
        assert idle
        for name in idle:
            param = search.supernet.get_parameter(name)
            assert_close(param.detach(), before[name], rtol=0, atol=0)


class Summed(nn.Module):
    """A layer whose kernel is the sum of two parameters, as in re-parametrised networks."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.randn(4, 4))
        self.delta = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, (self.base + self.delta)[..., None, None])


def test_each_gradient_is_clipped_once() -> None:
    """Trap: the gradients of both summands are one tensor, which is then scaled twice."""
    supernet = ToySupernet()
    supernet.same.append(Summed())
    search = toy_search(supernet=supernet, grad_clip=0.01)
    twin = twin_of(search)
    train_batch, arch_batch = toy_batches()
    search.step(train_batch, arch_batch)
    norm = torch.stack([weight.grad.norm() for weight in search.weights]).norm()
    assert_close(norm, torch.tensor(0.01).double(), rtol=1e-4, atol=0)
    published_step(twin, train_batch, arch_batch)
    for weight, expected in zip(search.weights, twin.weights, strict=True):
        assert_close(weight.grad, expected.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ('start', 'interval', 'expected'),
    [
        (0, 1, [1, 1, 1, 1, 1, 1]),
        (0, 2, [1, 0, 1, 0, 1, 0]),
        (0, 4, [1, 0, 0, 0, 1, 0]),
        (1, 1, [0, 0, 1, 1, 1, 1]),
        (2, 3, [0, 0, 0, 0, 0, 0]),
        (1, 3, [0, 0, 0, 1, 0, 0]),
    ],
)
def test_when_the_architecture_moves(start: int, interval: int, expected: list[int]) -> None:
    search = toy_search(arch_start_epoch=start, arch_interval=interval)
    train_batch, arch_batch = toy_batches()
    moved = []
    for epoch in range(3):
        search.on_epoch(epoch, 3)
        for _ in range(2):
            before = [alpha.detach().clone() for alpha in search.arch_params]
            due = search.takes_arch_step
            logs = search.step(train_batch, arch_batch if due else None)
            assert ('arch_loss' in logs) == due
            same = [
                a.detach().equal(b) for a, b in zip(search.arch_params, before, strict=True)
            ]
            assert all(same) != due
            moved.append(int(due))
    assert moved == expected


def test_on_epoch_moves_the_mutator_along() -> None:
    search = toy_search(mutator='GDASMutator')
    search.on_epoch(2, 5)
    assert (search.epoch, search.mutator.epoch, search.mutator.max_epochs) == (2, 2, 5)
    assert search.mutator.tau == pytest.approx(10 + (0.1 - 10) * 2 / 4)


def test_regularization_moves_the_architecture_alone() -> None:
    class Shrinking(mm.DartsMutator):
        def regularization(self) -> Tensor:
            return 0.5 * sum((alpha**2).sum() for alpha in self.arch_params.values())

    search, twin = toy_search(mutator=Shrinking()), toy_search()
    batches = toy_batches()
    before = [alpha.detach().clone() for alpha in search.arch_params]
    logs, plain = search.step(*batches), twin.step(*batches)
    for alpha, ours, theirs in zip(before, search.arch_params, twin.arch_params, strict=True):
        assert_close(ours.grad, theirs.grad + alpha)
    penalty = 0.5 * sum((alpha**2).sum() for alpha in before)
    assert_close(logs['arch_loss'], plain['arch_loss'] + penalty)


def test_batches_and_losses_of_other_forms() -> None:
    """Lists, as a loader may collate them, a loss of shape (1,), and an override."""
    search, twin = toy_search(), toy_search(loss_fn=lambda *args: SpoiltLoss()(*args)[None])
    batches = toy_batches()
    expected = search.step(*batches)
    assert_same_state(twin.step(*map(list, batches)), expected)

    class DictSearch(mm.BilevelSearch):
        def compute_loss(self, batch: Any) -> Tensor:
            return super().compute_loss((batch['images'], batch['labels']))

    other = toy_search()
    other.__class__ = DictSearch
    batch, arch_batch = ({'images': x, 'labels': y} for x, y in batches)
    assert_same_state(other.step(batch, arch_batch), expected)
