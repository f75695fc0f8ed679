"""A step lets the host wait for the device once, and what it did on trust it can take back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import toys
from looks import counted
from torch import Tensor, nn
from torch.testing import assert_close
from toy_searches import SpoiltLoss, assert_same_state, state_of, toy_batches, toy_search

import mmrazor_mutators as mm
from mmrazor_mutators.errors import NonFiniteLossError
from mmrazor_mutators.search.moves import Verdicts, clip_, undo_of

learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')
NAN = float('nan')


class MeanSquares(SpoiltLoss):
    """The same for outputs and targets of real numbers."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Any:
        loss = nn.functional.mse_loss(outputs, targets)
        spoil = self.spoil.get(self.calls, lambda loss: loss)
        self.calls += 1
        return spoil(loss)


def search_of(name: str, options: Any = (), **kwargs: Any) -> Any:
    """Return a search with the optimizer that the mutator needs, after one step."""
    supernet, mutator = toys.prepared(name, **dict(options))
    (build,) = getattr(mutator, 'arch_optimizer_types', (torch.optim.Adam,))
    search = mm.BilevelSearch(
        supernet,
        mutator,
        MeanSquares(),
        torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9),
        build(mutator.arch_params.values(), lr=0.05),
        **kwargs,
    )
    search.step(*batches())
    search.loss_fn.calls = 0
    return search


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(6, 3).double(), torch.randn(6, 2).double()) for _ in range(2)]


def looks_of_mutator(mutator: Any) -> int:
    """Return how often a mutator looks in a forward pass: which paths run is the host's."""
    # The toys have nothing that NasMutator would draw.
    nothing_drawn = mutator.cost.startswith(('all paths', 'what its mutables say'))
    return 0 if nothing_drawn else 1


@pytest.mark.parametrize('grad_clip', [None, 0.05])
def test_a_step_looks_once(
    learning: str, grad_clip: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = search_of(learning, grad_clip=grad_clip)
    pair = batches()
    with counted(monkeypatch) as seen:
        search.step(*pair)
    assert seen == ['tolist'] * (1 + 2 * looks_of_mutator(search.mutator))
    search.arch_interval = 100  # No architecture step is due.
    with counted(monkeypatch) as seen:
        search.step(pair[0])
    assert seen == ['tolist'] * (1 + looks_of_mutator(search.mutator))


def test_a_single_level_step_looks_once(learning: str, monkeypatch: pytest.MonkeyPatch) -> None:
    search = search_of(learning, single_level=True, grad_clip=1.0)
    with counted(monkeypatch) as seen:
        search.step(batches()[0])
    assert seen == ['tolist'] * (1 + looks_of_mutator(search.mutator))


@pytest.mark.parametrize('name', ['finite_difference', 'exact', 'neumann'])
def test_second_order_looks_no_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    search = search_of('DartsMutator', hypergradient=name, grad_clip=1.0)
    with counted(monkeypatch) as seen:
        search.step(*batches())
    assert seen == ['tolist']


COSTS = {'none': 1, 'linear': 2, 'norm': 3, 'deep': 4}
EXTENSIONS = [
    {'type': 'BetaDecay'},
    {'type': 'L2Regularizer', 'weight': 0.1},
    {'type': 'EntropyRegularizer'},
    {'type': 'ExpectedCost', 'costs': COSTS, 'ref': 5.0},
    {'type': 'RandomPerturbation'},
    {'type': 'AdversarialPerturbation', 'steps': 2},
    {'type': 'OperationFreezing'},
]


@pytest.mark.parametrize('extension', EXTENSIONS, ids=lambda cfg: cfg['type'])
def test_extensions_look_no_more(
    extension: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = search_of('DartsMutator', {'extensions': [extension]})
    pair = batches()
    with counted(monkeypatch) as seen:
        search.step(*pair)
    assert seen == ['tolist']


def test_what_counts_as_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter sees each kind, once, and is gone afterwards."""
    x = torch.tensor([1.0, 0.0])
    kinds: dict[str, Any] = {
        '_local_scalar_dense': lambda: (bool(x[0]), float(x[1]), int(x[0]), x[0].item()),
        'tolist': lambda: (x.tolist(), x[0].tolist()),
        'equal': lambda: x.equal(x),
        'nonzero': lambda: x.nonzero(),
        'index': lambda: x[x > 0],
        'masked_select': lambda: x.masked_select(x > 0),
        'tensor': lambda: torch.tensor([1.0]),
        'cpu': lambda: x.cpu(),
    }
    expected = {'_local_scalar_dense': 4, 'tolist': 2}
    for name, look in kinds.items():
        with counted(monkeypatch) as seen:
            look()
        assert seen == [name] * expected.get(name, 1)
    with counted(monkeypatch) as seen:
        assert x[torch.arange(2)].add(1).sum().shape == ()
    x.tolist()
    assert seen == []


def state_with_mutator(search: Any) -> dict[str, Any]:
    extra = copy.deepcopy(search.mutator.get_extra_state())
    return {**state_of(search), 'mutator': dict(search.mutator.named_parameters()), **extra}


def test_an_architecture_step_that_was_not_finite_is_taken_back(learning: str) -> None:
    """It was taken already, with whatever the mutator does to its parameters after it."""
    search = search_of(learning)
    good = copy.deepcopy(state_with_mutator(search))
    search.loss_fn.spoil = {0: lambda loss: loss * NAN}
    with pytest.raises(NonFiniteLossError, match='The architecture loss is nan in epoch 0, st'):
        search.step(*batches())
    assert search.loss_fn.calls == 2
    assert_same_state(state_with_mutator(search), good)
    search.loss_fn.spoil = {}
    search.step(*batches())
    for value in (*search.weights, *search.arch_params):
        assert value.isfinite().all()


class Mending(mm.DartsMutator):
    """Keeps a buffer and a plain attribute of its own after each step."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer('sum', torch.zeros(()))
        self.steps = 0

    def after_arch_step(self) -> None:
        self.steps += 1
        self.sum += 1
        self.arch_params['down'].data.sub_(1.0)


@pytest.mark.parametrize('fails', ['loss', 'mending'])
def test_what_a_mutator_mends_is_taken_back(
    fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = toy_search(mutator=Mending(), loss_fn=SpoiltLoss())
    search.step(*toy_batches())
    good = state_of(search)
    kept = search.arch_optimizer.state[search.arch_params[0]]['exp_avg']
    if fails == 'loss':
        search.loss_fn.spoil = {2: lambda loss: loss * NAN}
    else:
        after = Mending.after_arch_step

        def failing(mutator: Mending) -> None:
            after(mutator)
            raise KeyboardInterrupt

        monkeypatch.setattr(Mending, 'after_arch_step', failing)
    with pytest.raises(NonFiniteLossError if fails == 'loss' else KeyboardInterrupt):
        search.step(*toy_batches())
    assert (search.mutator.steps, float(search.mutator.sum)) == (1, 1.0)
    assert_same_state(state_of(search), good)
    assert search.arch_optimizer.state[search.arch_params[0]]['exp_avg'] is kept


class Interrupted(Exception):
    pass


@pytest.mark.parametrize('interrupt', [Interrupted, KeyboardInterrupt])
@pytest.mark.parametrize('finite', [True, False])
def test_weights_whose_pass_raises_after_an_unread_step(
    interrupt: type[BaseException], finite: bool
) -> None:
    """What raised may have come of NaN in the architecture, which then is the error."""

    def fail(loss: Tensor) -> Tensor:
        raise interrupt('second')

    search = toy_search(loss_fn=SpoiltLoss())
    good, before = state_of(search), [p.detach().clone() for p in search.arch_params]
    search.loss_fn.spoil = {0: lambda loss: loss * (1 if finite else NAN), 1: fail}
    if finite or interrupt is KeyboardInterrupt:
        with pytest.raises(interrupt, match='second'):
            search.step(*toy_batches())
    else:
        with pytest.raises(NonFiniteLossError, match='architecture loss is nan') as caught:
            search.step(*toy_batches())
        assert isinstance(caught.value.__cause__, interrupt)
    moved = [not p.equal(value) for p, value in zip(search.arch_params, before, strict=True)]
    assert moved == [finite] * len(before)
    if not finite:
        assert_same_state(state_of(search), good)


def test_verdicts() -> None:
    done: list[str] = []
    verdicts = Verdicts('epoch 1, step 2')
    verdicts.look()  # Nothing is claimed.
    one, grads = torch.tensor(1.5), [torch.tensor([3.0]), None, torch.tensor([-4.0])]
    size = verdicts.claim('first', one, grads, lambda: done.append('first'))
    assert_close(size, torch.tensor(5.0))
    # Each is as large as its own dtype lets it be.
    large = torch.tensor(1e300, dtype=torch.float64)
    assert_close(verdicts.claim('empty', large, [None]), torch.zeros((), dtype=torch.float64))
    verdicts.look()
    assert done == []
    verdicts.claim('first', one, grads, lambda: done.append('first'))
    verdicts.claim('other', one, [torch.tensor([NAN])], lambda: done.append('other'))
    verdicts.claim('third', one, grads, lambda: done.append('third'))
    with pytest.raises(
        NonFiniteLossError, match=r'of the other loss \(1\.5\) is nan in epoch 1, step 2; no'
    ):
        verdicts.look()
    assert done == ['third', 'other']
    verdicts.look()  # Nothing is read twice.


@pytest.mark.parametrize('limit', [None, 2.5, 100.0])
def test_clipping(limit: float | None) -> None:
    params = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2)), nn.Parameter()]
    grads = [torch.tensor([1.0, 2.0, -2.0]), torch.tensor([4.0, 0.0]), None]
    for param, grad in zip(params, grads, strict=True):
        param.grad = None if grad is None else grad.clone()
    if limit is not None:
        nn.utils.clip_grad_norm_(params, limit)
    clip_(grads, torch.tensor(5.0), limit)
    for param, grad in zip(params, grads, strict=True):
        assert grad is None if param.grad is None else torch.equal(grad, param.grad)


@pytest.mark.parametrize('past', [0, 2])
@pytest.mark.parametrize('build', [torch.optim.Adam, torch.optim.SGD])
def test_undo_of_a_step(build: Any, past: int) -> None:
    """Also of the first one, before which there is no state."""
    owner = nn.Linear(3, 2)
    params = list(owner.parameters())
    options = {'momentum': 0.9} if build is torch.optim.SGD else {'amsgrad': True}
    optimizer = build(params, lr=0.1, **options)
    for _ in range(past):
        optimizer.zero_grad()
        owner(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    expected = copy.deepcopy([params, optimizer.state_dict()])
    old = [param.grad for param in params]
    undo = undo_of(optimizer, params, owner)
    for param in params:
        param.grad = torch.full_like(param, NAN)
    optimizer.param_groups[0]['lr'] = 0.3
    optimizer.step()
    undo()
    assert_same_state([params, optimizer.state_dict()], expected)
    assert all(param.grad is grad for param, grad in zip(params, old, strict=True))
