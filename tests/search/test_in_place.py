"""Weights that are moved in place for a while, and copies that are made once only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from toy_searches import SpoiltLoss, toy_batches, toy_search, twin_of

from mmrazor_mutators.copies import SavedBuffers, copied, copy_into, laid_out_as
from mmrazor_mutators.search import virtual_step
from mmrazor_mutators.search.guards import buffers_kept, lent, values_kept
from mmrazor_mutators.search.moves import move
from mmrazor_mutators.search.virtual_step import pull_back


def bits_of(tensors: Any) -> list[bytes]:
    return [tensor.detach().numpy().tobytes() for tensor in tensors]


@pytest.mark.parametrize('call', range(5))
@pytest.mark.parametrize('kind', [ValueError, KeyboardInterrupt])
def test_finite_differences_leave_every_bit(call: int, kind: type[BaseException]) -> None:
    """Trap: ``w + d - 2 d + d`` is not ``w``; an interrupt in between leaves it half done."""

    def interrupt(loss: Tensor) -> Tensor:
        raise kind('stop')

    search = toy_search('finite_difference', loss_fn=SpoiltLoss())
    bits = bits_of(search.weights)
    search.loss_fn.spoil = {call: interrupt}
    with pytest.raises(kind, match='stop'):
        search.step(*toy_batches())
    assert bits_of(search.weights) == bits
    search.loss_fn.spoil = {}
    search.hypergradient(search, *toy_batches())
    assert bits_of(search.weights) == bits


@pytest.mark.parametrize('name', ['finite_difference', 'exact', 'neumann', 'cg'])
def test_a_step_copies_buffers_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    search = toy_search(name)
    twin, batches = twin_of(search), toy_batches()
    made: list[SavedBuffers] = []
    original = SavedBuffers.__init__

    def counting(self: SavedBuffers, module: nn.Module) -> None:
        made.append(self)
        original(self, module)

    monkeypatch.setattr(SavedBuffers, '__init__', counting)
    search.step(*batches)
    assert len(made) == 1
    assert not hasattr(search, 'saved_buffers')
    search.hypergradient(search, *batches)  # By itself, it has to look after them.
    assert len(made) == 2
    twin.step(*batches)
    for mine, theirs in zip(search.supernet.buffers(), twin.supernet.buffers(), strict=True):
        assert_close(mine, theirs, rtol=0, atol=0)


def test_buffers_saved_by_somebody_else_are_put_back() -> None:
    net = nn.BatchNorm1d(3)
    saved = SavedBuffers(net)
    with buffers_kept(net, saved):
        net(torch.randn(4, 3))
    assert net.num_batches_tracked == 0
    assert_close(net.running_mean, torch.zeros(3))


def test_values_are_put_back_at_once_and_again() -> None:
    params = [
        nn.Parameter(torch.randn(3)),
        nn.Parameter(torch.randn(2, 2, dtype=torch.float64)),
    ]
    bits = bits_of(params)

    def moved() -> None:
        with values_kept(params) as put_back:
            for _ in range(2):
                copy_into(params, [torch.zeros_like(param) for param in params])
                assert not any(param.any() for param in params)
                put_back()
                assert bits_of(params) == bits
            copy_into(params, [torch.ones_like(param) for param in params])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moved()
    assert bits_of(params) == bits


def test_lent_attributes_are_taken_away() -> None:
    class Borrower:
        name: int

    borrower = Borrower()
    with lent(borrower, 'name', 3):
        assert borrower.name == 3
    assert not hasattr(borrower, 'name')

    def failing() -> None:
        with lent(borrower, 'name', 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing()
    assert not hasattr(borrower, 'name')


def test_copies() -> None:
    last = torch.randn(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    tensors = [last.requires_grad_(), torch.tensor(3), torch.randn(2, dtype=torch.float64)]
    copies = copied(tensors)
    for copy, tensor in zip(copies, tensors, strict=True):
        assert_close(copy, tensor.detach(), rtol=0, atol=0)
        assert (copy.data_ptr(), copy.requires_grad) != (tensor.data_ptr(), True)
        assert copy.stride() == tensor.stride()
    assert copied([]) == []
    with pytest.raises(RuntimeError):
        copy_into([torch.zeros(3)], [torch.zeros(4)])


def test_a_layout() -> None:
    like = torch.zeros(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    value = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    laid = laid_out_as(like, value)
    assert (laid.stride(), laid.dtype) == (like.stride(), value.dtype)
    assert_close(laid, value, rtol=0, atol=0)
    assert laid_out_as(like, laid) is laid


@pytest.mark.parametrize('kind', [torch.optim.SGD, torch.optim.Adam])
def test_a_fused_optimizer_gets_gradients_that_it_can_read(kind: Any) -> None:
    """Trap: on a CPU such a kernel goes by the memory, not by the strides."""
    value, grad = torch.randn(4, 3, 3, 3), torch.randn(4, 3, 3, 3)
    stepped = []
    for fused in (False, True):
        weight = nn.Parameter(value.contiguous(memory_format=torch.channels_last))
        other = nn.Parameter(torch.ones(2))
        move(kind([weight, other], lr=0.1, fused=fused), [weight, other], [grad, None])
        assert other.grad is None
        stepped.append(weight.detach())
    assert_close(*stepped)


OPTIONS: list[dict[str, Any]] = [
    {},
    {'momentum': 0.9},
    {'momentum': 0.9, 'weight_decay': 0.1, 'dampening': 0.2},
    {'momentum': 0.9, 'weight_decay': 0.1, 'nesterov': True},
    {'momentum': 0.5, 'maximize': True},
]


@pytest.mark.parametrize('options', OPTIONS, ids=lambda options: '-'.join(options) or 'plain')
def test_a_virtual_step_of_weights_with_and_without_a_past(options: dict[str, Any]) -> None:
    """In two groups, with weights that have no gradient, or had none before."""
    params = [nn.Parameter(torch.randn(3, dtype=torch.float64)) for _ in range(5)]
    groups = [{'params': params[:3]}, {'params': params[3:], 'lr': 0.03}]
    optimizer = torch.optim.SGD(groups, lr=0.1, **options)
    for param in (params[0], params[3]):
        param.grad = torch.randn_like(param)
    optimizer.step()
    grads: list[Any] = [torch.randn_like(p).requires_grad_() for p in params]
    grads[2] = None
    stepped = virtual_step(optimizer, params, grads)
    vector = [torch.randn_like(param) for param in params]
    pulled = pull_back(stepped, grads, vector)

    def really(i: int, change: Tensor) -> Tensor:
        twin = twin_of(optimizer)
        ours = [p for group in twin.param_groups for p in group['params']]
        for j, (param, grad) in enumerate(zip(ours, grads, strict=True)):
            param.grad = None if grad is None else grad.detach().clone()
            if j == i:
                param.grad += change
        twin.step()
        return torch.stack([p.detach() for p in ours])

    assert_close(torch.stack([s.detach() for s in stepped]), really(-1, torch.zeros(())))
    for i, product in enumerate(pulled):
        if grads[i] is None:
            assert not product.any()
            continue
        # The step is linear in the gradient, so a difference is its derivative.
        of_ones = (really(i, torch.ones(())) - really(i, torch.zeros(())))[i]
        assert_close(product, of_ones * vector[i])
