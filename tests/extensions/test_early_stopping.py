"""RobustDARTS and DARTS+: when a search ends, and what it goes back to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.functional import has_risen, local_averages
from mmrazor_mutators.search.guards import buffers_kept


def make_search(extension: dict[str, Any], seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    supernet, mutator = toys.prepared(
        kwargs.pop('mutator', 'DartsMutator'), extensions=[extension]
    )
    return mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.cross_entropy,
        torch.optim.SGD(supernet.parameters(), lr=0.1),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.05, weight_decay=0.01),
        **kwargs,
    )


def one_batch(size: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(size, 3, dtype=torch.float64), torch.randint(2, (size,))


def alphas(search: Any) -> dict[str, Tensor]:
    return {k: p.detach().clone() for k, p in search.mutator.arch_params.items()}


def run(search: Any, epochs: int, values: Any = None, start: int = 0, steps: int = 2) -> Any:
    """Search as a train loop does; return the logits at the end of each epoch."""
    extension = search.mutator.extensions[0]
    if values is not None:
        extension.evaluate = lambda *_: float(values[len(extension.eigenvalues)])
    kept = []
    train, arch = one_batch(), one_batch()
    for epoch in range(start, epochs):
        search.on_epoch(epoch, epochs)
        for _ in range(steps):
            if not search.stopped:
                search.step(train, arch)
        if search.stopped:
            break
        kept.append(alphas(search))
    search.finish([train], [arch])
    return kept


class LocalAverageByHand:
    """The bookkeeping of the authors' code, with evaluations every ``freq`` epochs."""

    def __init__(self, epochs: int, window: int, freq: int) -> None:
        self.epochs, self.window, self.freq = epochs, window, freq
        self.values: list[float] = []
        self.averages: list[float] = []
        self.left = 0

    def update(self, epoch: int, value: float) -> int:
        self.values.append(value)
        if len(self.values) < -(-self.window // 2):
            return -1
        if len(self.values) < self.window:
            self.averages.append(float(np.mean(self.values)))
        else:
            self.averages.append(
                float(np.mean(self.values[self.left : self.left + self.window]))
            )
            self.left += 1
        return epoch - self.freq * (self.window // 2)

    def stop(self, middle: int, start: int, delta: int, factor: float) -> int | None:
        back = middle - self.freq * delta
        if back < start or self.averages[-1] / self.averages[-1 - delta] <= factor:
            return None
        return back


def expected_stop(values: Any, epochs: int, freq: int, **kw: Any) -> tuple[int, int] | None:
    tracker = LocalAverageByHand(epochs, kw['window'], freq)
    number = 0
    for epoch in range(epochs):
        if epoch % freq and epoch != epochs - 1:
            continue
        middle = tracker.update(epoch, float(values[number]))
        number += 1
        if epoch != epochs - 1:
            back = tracker.stop(middle, kw['start_epoch'], kw['delta'], kw['factor'])
            if back is not None:
                return epoch, back
    return None


def test_local_averages() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert local_averages(values, 5) == [7 / 3, 15 / 4, 31 / 5, 62 / 5]
    assert local_averages(values[:2], 5) == []
    assert local_averages(values, 1) == values


def test_what_has_risen() -> None:
    assert has_risen([1, 1, 1.31], 1, 2, 1.3)
    assert not has_risen([1, 1, 1.3], 1, 2, 1.3)
    assert not has_risen([1, 2], 1, 2, 1.3)  # Nothing to compare with.
    assert not has_risen([-1.0, 5.0], 1, 1, 1.3)
    assert not has_risen([-1.0, -5.0], 1, 1, 1.3)  # Their ratio is 5.
    assert not has_risen([0.0, 5.0], 1, 1, 1.3)
    assert not has_risen([1.0, float('nan')], 1, 1, 1.3)


@pytest.mark.parametrize('freq', [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ('window', 'delta', 'start_epoch', 'factor'),
    [(5, 4, 10, 1.3), (5, 4, 0, 1.3), (3, 2, 4, 1.5), (1, 1, 0, 1.2), (5, 2, 3, 1.05)],
)
def test_the_criterion_is_that_of_the_authors(
    freq: int, window: int, delta: int, start_epoch: int, factor: float
) -> None:
    options: dict[str, Any] = {'window': window, 'delta': delta}
    options.update(start_epoch=start_epoch, factor=factor)
    stops = set()
    epochs = 30
    for seed in range(5):
        rng = np.random.default_rng(seed)
        values = np.exp(
            0.04 * (seed - 2) * np.arange(epochs) + 0.2 * rng.standard_normal(epochs)
        )
        extension = {'type': 'HessianEarlyStopping', 'interval': freq, **options}
        search = make_search(extension)
        kept = run(search, epochs, values, steps=1)
        expected = expected_stop(values, epochs, freq, **options)
        stops.add(expected)
        if expected is None:
            assert not search.stopped
            assert len(kept) == epochs
            continue
        ended, back = expected
        assert search.stopped
        assert len(kept) == ended + 1  # The epoch after it is cut short.
        assert_close(alphas(search), kept[back], rtol=0, atol=0)
        assert search.mutator.extensions[0].epochs[-1] == ended
    assert len(stops) > 1


def test_no_architecture_step_after_the_end() -> None:
    extension = {'type': 'HessianEarlyStopping', 'start_epoch': 0, 'window': 1, 'delta': 1}
    search = make_search(extension)
    params = list(search.mutator.arch_params.values())
    arch, train = one_batch(), one_batch()
    search.mutator.extensions[0].evaluate = lambda *_: float(2**search.epoch)
    for epoch in range(2):
        search.on_epoch(epoch, 5)
        search.step(train, arch)
        if not epoch:
            after_first = alphas(search)
    search.on_epoch(2, 5)
    weights = [p.detach().clone() for p in search.supernet.parameters()]
    logs = search.step(train, arch)
    assert search.stopped
    assert 'arch_loss' not in logs
    assert_close(alphas(search), after_first, rtol=0, atol=0)
    assert [p is q for p, q in zip(params, search.mutator.arch_params.values(), strict=True)]
    assert not torch.equal(weights[0], next(search.supernet.parameters()))
    for _ in range(2):
        search.step(train, arch)
    search.finish([train], [arch])
    assert_close(alphas(search), after_first, rtol=0, atol=0)
    assert len(search.mutator.extensions[0].eigenvalues) == 2


def full_hessian(search: Any, batch: Any, decay: float) -> Tensor:
    values = tuple(p.detach() for p in search.mutator.arch_params.values())

    def loss_of(*logits: Tensor) -> Tensor:
        given = {
            space_id: value.softmax(0)
            for space_id, value in zip(search.mutator.arch_params, logits, strict=True)
        }
        with search.mutator.mixing(given):
            loss = search.compute_loss(batch)
        return loss + decay / 2 * sum(value.square().sum() for value in logits)

    with buffers_kept(search.supernet):
        blocks: Any = torch.autograd.functional.hessian(loss_of, values)
    return torch.cat([torch.cat(row, 1) for row in blocks])


def test_the_eigenvalue() -> None:
    search = make_search({'type': 'HessianEarlyStopping', 'max_products': 200})
    batch = one_batch(16)
    torch.manual_seed(4)
    state = torch.get_rng_state()
    before = {k: v.clone() for k, v in search.supernet.state_dict().items()}
    found = search.mutator.extensions[0].evaluate(search, batch)
    assert_close(search.supernet.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in search.mutator.parameters())
    assert all(p.requires_grad and p.grad is None for p in search.weights)
    eigenvalues = torch.linalg.eigvalsh(full_hessian(search, batch, 0.01))
    assert found == pytest.approx(float(eigenvalues.max()), rel=1e-5)
    assert found == pytest.approx(
        float(torch.linalg.eigvalsh(full_hessian(search, batch, 0.0)).max()) + 0.01, rel=1e-5
    )
    # The one of largest magnitude is another.
    search.arch_optimizer.param_groups[0]['weight_decay'] = 0.0
    found = search.mutator.extensions[0].evaluate(search, batch)
    eigenvalues = torch.linalg.eigvalsh(full_hessian(search, batch, 0.0))
    assert abs(eigenvalues.min()) > eigenvalues.max()
    assert found == pytest.approx(float(eigenvalues.max()), rel=1e-5)


def test_when_the_eigenvalue_is_evaluated() -> None:
    search = make_search({'type': 'HessianEarlyStopping', 'start_epoch': 1000})
    extension = search.mutator.extensions[0]
    seen = []
    evaluate = extension.evaluate
    batches = [(one_batch(), one_batch()) for _ in range(6)]

    def spy(search: Any, batch: Any) -> float:
        seen.append((search.iteration, search.epoch, batch))
        return evaluate(search, batch)

    extension.evaluate = spy
    for number, (train, arch) in enumerate(batches):
        if number % 2 == 0:
            search.on_epoch(number // 2, 3)
        search.step(train, arch)
    search.finish([train], [arch])
    assert [s[:2] for s in seen] == [(2, 1), (4, 2), (6, 2)]
    assert seen[0][2] is batches[2][1]
    assert seen[1][2] is batches[4][1]
    assert extension.epochs == [0, 1, 2]
    assert len(extension.eigenvalues) == 3
    search.finish([train], [arch])
    assert len(extension.eigenvalues) == 3


def test_batches() -> None:
    train, arch = one_batch(), one_batch()
    seen = []
    for single_level in (False, True):
        search = make_search({'type': 'HessianEarlyStopping'}, single_level=single_level)
        search.mutator.extensions[0].evaluate = lambda _, batch: seen.append(batch) or 1.0
        for epoch in range(2):
            search.on_epoch(epoch, 3)
            search.step(train, None if single_level else arch)
        search.finish([train], None)
    assert seen[0] is arch
    assert seen[1] is train
    assert seen[2] is train
    assert len(seen) == 3
    # Epochs without architecture steps need no batch for them, and are not looked at.
    search = make_search({'type': 'HessianEarlyStopping'}, arch_start_epoch=2)
    for epoch in range(3):
        search.on_epoch(epoch, 9)
        search.step(train, arch if epoch == 2 else None)
    assert search.mutator.extensions[0].epochs == [1]


@pytest.mark.parametrize('cut', [3, 7, 9])
def test_going_on_from_a_state(cut: int) -> None:
    extension = {
        'type': 'HessianEarlyStopping',
        'start_epoch': 2,
        'window': 3,
        'delta': 2,
        'factor': 1.1,
    }
    values = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    whole = make_search(extension)
    torch.manual_seed(7)
    kept = run(whole, 12, values)
    assert whole.stopped
    assert len(kept) == 8
    first = make_search(extension)
    torch.manual_seed(7)
    train, arch = one_batch(), one_batch()
    part = first.mutator.extensions[0]
    part.evaluate = lambda *_: values[len(part.eigenvalues)]
    for epoch in range(min(cut, 12)):
        first.on_epoch(epoch, 12)
        for _ in range(2):
            if not first.stopped:
                first.step(train, arch)
    again = make_search(extension, seed=9)
    again.load_state_dict(first.state_dict())
    assert again.stopped == first.stopped
    other = again.mutator.extensions[0]
    other.evaluate = lambda *_: values[len(other.eigenvalues)]
    for epoch in range(cut, 12):
        again.on_epoch(epoch, 12)
        for _ in range(2):
            if not again.stopped:
                again.step(train, arch)
    assert again.stopped
    assert_close(alphas(again), alphas(whole), rtol=0, atol=0)
    assert other.eigenvalues == whole.mutator.extensions[0].eigenvalues


def test_only_what_may_be_needed_is_kept() -> None:
    search = make_search({'type': 'HessianEarlyStopping', 'start_epoch': 1000})
    run(search, 12, [1.0] * 12, steps=1)
    assert sorted(search.mutator.extensions[0]._snapshots) == list(range(5, 12))


def test_mutators_that_draw() -> None:
    for mutator, draws in [('GDASMutator', 'one choice'), ('SNASMutator', 'Gumbel noise')]:
        with pytest.raises(ConfigError, match=rf'{mutator} draws {draws}'):
            make_search({'type': 'HessianEarlyStopping'}, mutator=mutator)


def test_errors() -> None:
    for name, value, message in [
        ('window', 0, 'an int of at least 1, but got 0'),
        ('window', 4, 'odd, but got 4'),
        ('delta', 0, 'an int of at least 1, but got 0'),
        ('factor', 0.0, r'above 0, but got 0\.0'),
        ('start_epoch', -1, 'an int of at least 0, but got -1'),
        ('interval', 0, 'an int of at least 1, but got 0'),
        ('max_products', 2.5, r'an int of at least 1, but got 2\.5'),
    ]:
        with pytest.raises(ConfigError, match=f'`{name}` to be {message}'):
            mm.build_extension({'type': 'HessianEarlyStopping', name: value})
    for name, value, message in [
        ('max_skips', 0, 'an int of at least 1, but got 0'),
        ('names', 'skip', "a list of choice names, but got 'skip'"),
    ]:
        with pytest.raises(ConfigError, match=f'`{name}` to be {message}'):
            mm.build_extension({'type': 'SkipEarlyStopping', name: value})


SKIPS = {'type': 'SkipEarlyStopping', 'names': ['linear'], 'prefix': 'node_p'}


def lead(search: Any, choice: str, *numbers: int) -> None:
    """Let a choice lead on some edges, and 'norm' on the others."""
    with torch.no_grad():
        for number in range(3):
            logits = search.mutator.arch_params[f'node_p{number}']
            name = choice if number in numbers else 'norm'
            index = search.mutator.search_spaces[f'node_p{number}']['choice_names'].index(name)
            logits.zero_()
            logits[index] = 5.0 - 0.1 * number


def run_led(search: Any, leaders: list[tuple[int, ...]], max_epochs: int = 20) -> list[Any]:
    """Search with given leaders at the end of each epoch."""
    kept = []
    train, arch = one_batch(), one_batch()
    search.arch_start_epoch = 1000
    for epoch, numbers in enumerate(leaders):
        search.on_epoch(epoch, max_epochs)
        search.step(train, arch)
        if search.stopped:
            break
        lead(search, 'linear', *numbers)
        kept.append(alphas(search))
    return kept


def test_two_skips_end_the_search() -> None:
    search = make_search(SKIPS)
    # Of edge 2 the node takes nothing, so what leads there does not count.
    kept = run_led(search, [(), (0,), (1, 2), (0, 1), (0,)])
    assert len(kept) == 4
    assert search.stopped
    assert_close(alphas(search), kept[2], rtol=0, atol=0)
    search = make_search({**SKIPS, 'max_skips': 1})
    kept = run_led(search, [(), (2,), (1,), (), ()])
    assert len(kept) == 3
    assert_close(alphas(search), kept[1], rtol=0, atol=0)
    search = make_search({**SKIPS, 'max_skips': 3, 'prefix': ''})
    assert len(run_led(search, [(), (0, 1), (0, 1)])) == 3
    assert not search.stopped


def test_there_has_to_be_something_to_go_back_to() -> None:
    search = make_search(SKIPS)
    kept = run_led(search, [(0, 1), (0, 1), (0,), (0, 1), ()])
    assert len(kept) == 4
    assert_close(alphas(search), kept[2], rtol=0, atol=0)


def test_the_last_epoch_counts_as_well() -> None:
    search = make_search(SKIPS)
    kept = run_led(search, [(), (0,), (0, 1)], max_epochs=3)
    assert not search.stopped
    search.finish([one_batch()], [one_batch()])
    assert search.stopped
    assert_close(alphas(search), kept[1], rtol=0, atol=0)


def test_counts_go_on_from_a_state() -> None:
    search = make_search(SKIPS)
    kept = run_led(search, [(), (0,)])
    search.on_epoch(2, 20)
    search.step(one_batch(), one_batch())
    lead(search, 'linear', 0, 1)
    again = make_search(SKIPS, seed=4)
    again.load_state_dict(search.state_dict())
    again.on_epoch(3, 20)
    again.step(one_batch(), one_batch())
    assert again.stopped
    assert_close(alphas(again), kept[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({}, "`prefix` to begin the id of a space, but got 'normal'; Known: widen, shared, "),
        ({'prefix': ''}, r"name of a choice, but got \('skip_connect',\); Known: "),
    ],
)
def test_nothing_to_count(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_search({'type': 'SkipEarlyStopping', **options})
