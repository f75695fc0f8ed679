"""Steps that fail, and what is left afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_searches import (
    HYPERGRADIENTS,
    SpoiltLoss,
    assert_same_state,
    state_of,
    toy_batches,
    toy_search,
    twin_of,
)

from mmrazor_mutators.errors import InputError, NonFiniteLossError

every_hypergradient = pytest.mark.parametrize('name', HYPERGRADIENTS)
# How often a step evaluates a loss; the architecture's is the second call of the unrolled
# methods and the first one of the others, and the weights' own is the last.
CALLS = {'first_order': 2, 'exact': 4, 'finite_difference': 5, 'neumann': 3, 'cg': 3}
ARCH_CALL = {'exact': 1, 'finite_difference': 1}
# A loss that is finite where its gradient is inf * 0.
NAN_GRADIENT: Callable[[Tensor], Tensor] = lambda loss: loss + (0 * loss).sqrt()  # noqa: E731


def count_calls(name: str) -> int:
    search = toy_search(name, loss_fn=SpoiltLoss())
    search.step(*toy_batches())
    return search.loss_fn.calls


def prepared_search(name: str = 'first_order', **kwargs: Any) -> Any:
    """Return a search with a past, in the second step of epoch 3 from 0."""
    search = toy_search(name, loss_fn=SpoiltLoss(), **kwargs)
    search.on_epoch(3, 5)
    for _ in range(2):
        search.step(*toy_batches())
    search.loss_fn.calls = 0
    return search


def without_architecture(state: dict[str, Any]) -> dict[str, Any]:
    """Leave out the logits, and all else that an architecture step changes."""
    kept = {}
    for key in ('values', 'grads', 'flags'):
        kept[key] = {name: value for name, value in state[key].items() if '.' in name}
    return {**kept, 'modes': state['modes'], 'iteration': state['iteration']}


@every_hypergradient
def test_number_of_losses_in_a_step(name: str) -> None:
    """What the tests below rely on."""
    assert count_calls(name) == CALLS.get(name, count_calls(name))


class Interrupted(Exception):
    pass


def interrupt(loss: Tensor) -> Tensor:
    raise Interrupted


@pytest.mark.parametrize(
    ('name', 'call'),
    [(name, call) for name in HYPERGRADIENTS for call in range(CALLS.get(name, 2))],
)
def test_a_loss_that_raises_leaves_everything_as_it_was(name: str, call: int) -> None:
    """Trap: weights that stay at the virtual step, statistics of passes that failed."""
    search = prepared_search(name)
    batches = toy_batches()
    expected, good = twin_of(search), state_of(search)
    search.loss_fn.spoil = {call: interrupt}
    with pytest.raises(Interrupted):
        search.step(*batches)
    if call < CALLS.get(name, 2) - 1:
        assert_same_state(state_of(search), good)
        search.loss_fn.spoil = {}
        assert_same_state(search.step(*batches), expected.step(*batches))
        assert_same_state(state_of(search), state_of(expected))
    else:
        # The architecture step was complete, and stays; the weights' half is undone.
        assert_same_state(without_architecture(state_of(search)), without_architecture(good))
        expected.step(*batches)
        for ours, theirs in zip(search.arch_params, expected.arch_params, strict=True):
            assert ours.equal(theirs)
            assert ours.grad.equal(theirs.grad)
        # Not even the statistics of its pass: buffers are as before the step.
        assert_same_state(state_of(search)['buffers'], good['buffers'])


@every_hypergradient
def test_a_layer_that_raises_leaves_everything_as_it_was(name: str) -> None:
    search = prepared_search(name)
    batches = toy_batches()
    twin, good = twin_of(search), state_of(search)
    hook = search.supernet.head.register_forward_pre_hook(lambda *args: interrupt(args))
    with pytest.raises(Interrupted):
        search.step(*batches)
    hook.remove()
    assert_same_state(state_of(search), good)
    assert_same_state(search.step(*batches), twin.step(*batches))


SPOILT = {
    'value': (lambda loss: loss * float('nan'), 'The {} loss is nan in epoch 3, step 2'),
    'value alone': (lambda loss: loss + float('nan'), 'The {} loss is nan in epoch 3, step 2'),
    'inf': (lambda loss: loss * float('inf'), 'The {} loss is inf in epoch 3, step 2'),
    'gradient': (
        NAN_GRADIENT,
        r'The gradient of the {} loss \(\d\.\d+\) is nan in epoch 3, step 2',
    ),
}


@every_hypergradient
@pytest.mark.parametrize('kind', SPOILT)
def test_an_architecture_loss_that_is_not_finite(name: str, kind: str) -> None:
    spoil, message = SPOILT[kind]
    search = prepared_search(name)
    batches = toy_batches()
    twin, good = twin_of(search), state_of(search)
    search.loss_fn.spoil = {ARCH_CALL.get(name, 0): spoil}
    with pytest.raises(NonFiniteLossError, match=message.format('architecture')):
        search.step(*batches)
    assert_same_state(state_of(search), good)
    search.loss_fn.spoil = {}
    assert_same_state(search.step(*batches), twin.step(*batches))
    assert_same_state(state_of(search), state_of(twin))


@every_hypergradient
@pytest.mark.parametrize('kind', SPOILT)
@pytest.mark.parametrize('grad_clip', [None, 1.0])
def test_a_training_loss_that_is_not_finite(
    name: str, kind: str, grad_clip: float | None
) -> None:
    spoil, message = SPOILT[kind]
    search = prepared_search(name, grad_clip=grad_clip)
    good = without_architecture(state_of(search))
    search.loss_fn.spoil = {count_calls(name) - 1: spoil}
    with pytest.raises(NonFiniteLossError, match=message.format('training')):
        search.step(*toy_batches())
    assert_same_state(without_architecture(state_of(search)), good)
    search.loss_fn.spoil = {}
    search.step(*toy_batches())
    assert all(weight.isfinite().all() for weight in search.weights)


@pytest.mark.parametrize('name', [name for name in HYPERGRADIENTS if name != 'first_order'])
def test_an_architecture_gradient_that_diverged_in_the_weights_alone(name: str) -> None:
    """Trap: NaN replaced by 0 on the way turns the second order into the first, unseen."""
    search = prepared_search(name)
    good = state_of(search)
    bias = search.supernet.head.bias
    search.loss_fn.spoil = {ARCH_CALL.get(name, 0): lambda loss: loss + (0 * bias.sum()).sqrt()}
    with pytest.raises(
        NonFiniteLossError, match=r'gradient of the architecture loss .* is nan'
    ):
        search.step(*toy_batches())
    assert_same_state(state_of(search), good)


@pytest.mark.parametrize(
    ('batch', 'came'),
    [
        ((torch.ones(1),), '1 parts'),
        ([1, 2, 3], '3 parts'),
        ({'inputs': 1, 'targets': 2}, 'dict'),
        (torch.ones(2, 2, 5, 5), 'Tensor'),
        (None, 'NoneType'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
@every_hypergradient
def test_a_batch_that_is_not_a_pair(name: str, batch: Any, came: str) -> None:
    search = prepared_search(name)
    good = state_of(search)
    message = rf'a pair \(inputs, targets\), but got {came}'
    if batch is not None:
        with pytest.raises(InputError, match=message):
            search.step(toy_batches()[0], batch)
        assert_same_state(state_of(search), good)
    with pytest.raises(InputError, match=message):
        search.step(batch, toy_batches()[0])
    assert_same_state(without_architecture(state_of(search)), without_architecture(good))


@pytest.mark.parametrize('name', ['first_order', 'exact'])
def test_an_architecture_step_without_its_batch(name: str) -> None:
    search = prepared_search(name, arch_interval=2)
    with pytest.raises(InputError, match=r'arch_batch.* None'):
        search.step(toy_batches()[0])
    search.step(*toy_batches())
    search.step(toy_batches()[0])  # The odd ones need none.


@every_hypergradient
@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda loss: loss.expand(2), r'a scalar tensor, but got shape \(2,\)'),
        (lambda loss: loss.item(), 'a scalar tensor, but got float'),
        (lambda loss: {'loss': loss}, 'a scalar tensor, but got dict'),
        (lambda loss: loss.detach(), 'depends neither on the weights nor on the architecture'),
    ],
    ids=['shape', 'float', 'dict', 'detached'],
)
def test_a_loss_of_the_wrong_form(name: str, spoil: Any, message: str) -> None:
    for call in range(count_calls(name)):
        search = prepared_search(name)
        good = state_of(search)
        search.loss_fn.spoil = {call: spoil}
        with pytest.raises(InputError, match=message):
            search.step(*toy_batches())
        assert_same_state(without_architecture(state_of(search)), without_architecture(good))
