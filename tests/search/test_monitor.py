"""What a monitor notes: the right numbers, of every mutator, without a trace in the search."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, ConfigError, HostError, InputError
from mmrazor_mutators.views.history import read_history

every = pytest.fixture(toys.mutator_of, params=toys.EVERY_MUTATOR, name='every')
learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def softmax(logits: list[float]) -> list[float]:
    exps = [math.exp(x) for x in logits]
    return [x / sum(exps) for x in exps]


def sparsemax(logits: list[float]) -> list[float]:
    """Project on the simplex by bisection of the threshold."""
    low, high = min(logits) - 1, max(logits)
    for _ in range(100):
        middle = (low + high) / 2
        above = sum(max(x - middle, 0) for x in logits) > 1
        low, high = (middle, high) if above else (low, middle)
    return [max(x - low, 0) for x in logits]


NAIVE: dict[str, Any] = {
    'FairDartsMutator': lambda logits: [1 / (1 + math.exp(-x)) for x in logits],
    'SparsemaxMutator': sparsemax,
    'GAEAMutator': lambda probabilities: [p / sum(probabilities) for p in probabilities],
}
"""Those whose scores are no softmax."""


def test_what_is_written_is_what_the_logits_say(learning: str, tmp_path: Path) -> None:
    supernet, mutator = toys.prepared(learning)
    row = mm.SearchMonitor(supernet, mutator, tmp_path).record(3, loss=torch.tensor(2.5))
    written: dict[str, dict[str, tuple[str, float]]] = {}
    for line in rows_of(tmp_path / 'spaces.csv'):
        assert line['epoch'] == '3'
        of_space = written.setdefault(line['space_id'], {})
        of_space[line['choice']] = line['logit'], float(line['probability'])
    assert list(written) == list(mutator.search_spaces)
    subnet = mutator.search_subnet()
    entropies, margins = [], []
    for space_id, space in mutator.search_spaces.items():
        of_space = written[space_id]
        assert list(of_space) == list(space['choice_names'])
        told = [p for _, p in of_space.values()]
        if space_id not in mutator.arch_params:
            chosen = subnet.get(space_id, {}).get('chosen', [])
            assert of_space == {n: ('', float(n in chosen)) for n in space['choice_names']}
            continue
        logits = mutator.arch_params[space_id].tolist()
        assert [float(x) for x, _ in of_space.values()] == pytest.approx(logits, rel=1e-8)
        expected = NAIVE.get(learning, softmax)(logits)
        assert told == pytest.approx(expected, rel=1e-6, abs=1e-6)  # A hint of softmax.
        shares = [p / sum(expected) for p in expected]
        entropies.append(-sum(p * math.log(p) for p in shares if p) / math.log(len(shares)))
        first, second, *_ = sorted(expected, reverse=True)
        margins.append(first - second)
    (line,) = rows_of(tmp_path / 'epochs.csv')
    skips = sum('skip' in name for entry in subnet.values() for name in entry['chosen'])
    assert {name: float(x) for name, x in line.items()} == pytest.approx(
        {
            'epoch': 3,
            'loss': 2.5,
            'entropy': sum(entropies) / len(entropies),
            'margin': sum(margins) / len(margins),
            'skips': skips,
            **({'temperature': mutator.tau} if hasattr(mutator, 'tau') else {}),
        },
        rel=1e-6,
    )
    assert row == pytest.approx({k: float(x) for k, x in line.items() if k != 'epoch'})


def state_of(*modules: nn.Module) -> Any:
    """Return copies of all that a search goes on with."""
    return (
        [{name: torch.clone(x) for name, x in m.state_dict().items()} for m in modules],
        [part.training for m in modules for part in m.modules()],
        [len(part._forward_hooks) for m in modules for part in m.modules()],
        torch.get_rng_state(),
        np.random.get_state()[1],
        random.getstate(),
    )


def assert_same_state(first: Any, other: Any) -> None:
    for mine, theirs in zip(first, other, strict=True):
        if isinstance(mine, (Tensor, np.ndarray)):
            assert (torch.as_tensor(mine) == torch.as_tensor(theirs)).all()
        elif mine and isinstance(mine[0], dict):
            assert_close(mine, theirs, rtol=0, atol=0)
        else:
            assert mine == theirs


def test_measuring_leaves_no_trace(every: str) -> None:
    supernet, mutator = toys.prepared(every)
    x, y = torch.randn(12, 3).double(), torch.randint(2, (12,))
    data = torch.utils.data.TensorDataset(x, y)
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    if hasattr(mutator, 'set_subnet'):
        mutator.set_subnet(mutator.sample_subnet())
    supernet.train()
    if hasattr(mutator, 'arch_params') or hasattr(mutator, 'set_subnet'):
        toys.run(supernet, x)
    mixtures = dict(getattr(mutator, 'mixtures', {}))
    before = state_of(supernet, mutator)
    row = mm.SearchMonitor(supernet, mutator, loader=loader, calibration=loader).record(0)
    assert_same_state(state_of(supernet, mutator), before)
    assert getattr(mutator, 'mixtures', {}) == mixtures
    # Whoever learns has a relaxed supernet, and whoever has found a network can say how it is.
    assert ('supernet_accuracy' in row) == hasattr(mutator, 'arch_params')
    assert ('network_accuracy' in row) == (every not in ('OneShotMutator', 'BaseMutator'))


def test_accuracies_are_those_of_supernet_and_network() -> None:
    supernet, mutator = toys.prepared()
    x, y = torch.randn(40, 3).double(), torch.randint(2, (40,))
    batches = [(x[:20], y[:20]), (x[20:], y[20:])]
    toys.run(supernet.train(), 3 * x)
    net = mutator.export_subnet(supernet, mutator.search_subnet())

    def share(network: nn.Module, count: int) -> float:
        right = [float(p.argmax()) == float(t) for p, t in zip(network(x), y, strict=True)]
        return sum(right[:count]) / count

    expected = {'supernet': share(supernet.eval(), 40), 'network': share(net.eval(), 40)}
    supernet.train()
    row = mm.SearchMonitor(supernet, mutator, loader=batches).record(0)
    assert {k: row[f'{k}_accuracy'] for k in expected} == expected
    row = mm.SearchMonitor(supernet, mutator, loader=batches, batches=1).record(0)
    assert row['supernet_accuracy'] == share(supernet.eval(), 20)
    mm.calibrate_batch_norm(net, batches)
    monitor = mm.SearchMonitor(supernet, mutator, loader=batches, calibration=batches)
    assert monitor.record(0)['network_accuracy'] == share(net, 40)


def test_accuracies_are_given_or_measured_now_and_then() -> None:
    supernet, mutator = toys.prepared()
    seen: list[bool] = []

    def evaluate(network: nn.Module) -> float:
        assert not network.training
        assert not torch.is_grad_enabled()
        seen.append(network is supernet)
        return 0.25

    monitor = mm.SearchMonitor(supernet, mutator, evaluate=evaluate, interval=3)
    rows = [monitor.record(epoch, supernet_accuracy=0.5) for epoch in range(5)]
    assert seen == [True, False] * 2
    assert [row['supernet_accuracy'] for row in rows] == [0.5] * 5
    assert [row.get('network_accuracy') for row in rows] == [0.25, None, None, 0.25, None]


def test_an_evaluation_that_raises_leaves_no_trace() -> None:
    supernet, mutator = toys.prepared()
    before = state_of(supernet.train(), mutator)

    def evaluate(network: nn.Module) -> float:
        torch.rand(3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mm.SearchMonitor(supernet, mutator, evaluate=evaluate).record(0)
    assert_same_state(state_of(supernet, mutator), before)


def test_choices_that_leave_the_search_have_no_rows(tmp_path: Path) -> None:
    supernet, mutator = toys.prepared()
    monitor = mm.SearchMonitor(supernet, mutator, tmp_path)
    monitor.record(1)
    mutator.drop_choices('widen', ['norm'])
    monitor.record(2)
    rows = [row for row in rows_of(tmp_path / 'spaces.csv') if row['space_id'] == 'widen']
    assert [row['choice'] for row in rows if row['epoch'] == '2'] == ['none', 'linear', 'deep']
    logits = mutator.arch_params['widen'].tolist()
    expected = softmax([logits[0], logits[1], logits[3]])
    told = [float(row['probability']) for row in rows if row['epoch'] == '2']
    assert told == pytest.approx(expected, rel=1e-6)
    space = read_history(tmp_path).spaces['widen']
    assert space.choices == ('none', 'linear', 'norm', 'deep')
    assert np.isnan(space.probabilities).tolist() == [[False] * 4, [False, False, True, False]]
    assert space.probabilities[1, [0, 1, 3]] == pytest.approx(expected, rel=1e-6)
    shares = -sum(p * math.log(p) for p in expected) / math.log(3)
    assert space.entropies[1] == pytest.approx(shares, rel=1e-6)


def test_a_search_that_diverged_is_noted_as_well(tmp_path: Path) -> None:
    supernet, mutator = toys.prepared()
    with torch.no_grad():
        mutator.arch_params['widen'][1] = math.nan
    row = mm.SearchMonitor(supernet, mutator, tmp_path).record(0, loss=math.inf)
    assert math.isnan(row['entropy'])
    assert 'skips' not in row
    history = read_history(tmp_path)
    assert history.epochs['loss'][0] == math.inf
    assert np.isnan(history.spaces['widen'].logits[0]).tolist() == [False, True, False, False]
    assert history.spaces['widen'].leader is None


def test_skips_are_those_by_name_and_those_that_pass_on() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for index, name in enumerate(['Skip_a', 'plain', 'pass']):
                passes: nn.Module = nn.Identity() if name == 'pass' else nn.Tanh()
                choices = {name: passes, 'other': nn.Tanh()}
                self.add_module(str(index), mm.DifferentiableOP(space_id=name, choices=choices))

        def forward(self, x: Tensor) -> Tensor:
            return sum(op(x) for op in self.children())  # type: ignore[return-value]

    supernet, mutator = toys.prepared('DartsMutator', Net())
    for logits in mutator.arch_params.values():
        logits.data = torch.tensor([1.0, 0.0]).double()
    assert mm.SearchMonitor(supernet, mutator).record(0)['skips'] == 2


def test_budgets_and_costs_are_noted() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    supernet = mm.make_searchable(net, [{'match': '0', 'width': [2, 4, 8]}], torch.zeros(1, 3))
    mutator = mm.DartsMutator(extensions=[{'type': 'Budget', 'params': 30}])
    mutator.prepare_from_supernet(supernet)
    row = mm.SearchMonitor(supernet, mutator).record(0)
    sizes = {w: 3 * w + w + 2 * w + 2 for w in (2, 4, 8)}
    weights = softmax(mutator.arch_params['0'].tolist())
    expected = sum(p * size for p, size in zip(weights, sizes.values(), strict=True))
    assert row['cost_params'] == pytest.approx(expected, rel=1e-5)
    assert (row['found_params'], row['budget_params']) == (sizes[4], 30)


def test_expected_costs_are_noted() -> None:
    costs = {'none': 0.0, 'linear': 1.0, 'norm': 2.0, 'deep': 3.0}
    cost = mm.ExpectedCost(costs, ref=2.0)
    supernet, mutator = toys.prepared(extensions=[cost])
    row = mm.SearchMonitor(supernet, mutator).record(0)
    times = {'shared': 2}
    expected = sum(
        times.get(sid, 1) * sum(np.array(softmax(p.tolist())) * np.array([*costs.values()]))
        for sid, p in mutator.arch_params.items()
    )
    assert (row['cost'], row['budget']) == (pytest.approx(expected, rel=1e-6), 2.0)
    # What was drawn is known after a pass.
    drawn = mm.ExpectedCost(costs, ref=2.0, expectation='drawn')
    supernet, mutator = toys.prepared(extensions=[drawn])
    monitor = mm.SearchMonitor(supernet, mutator)
    assert 'cost' not in monitor.record(0)
    toys.run(supernet, torch.randn(6, 3).double())
    assert 'cost' in monitor.record(1)


def test_a_mutator_without_a_supernet() -> None:
    with pytest.raises(BindingError, match='This DartsMutator has no supernet yet'):
        mm.SearchMonitor(nn.Identity(), mm.DartsMutator()).record(0)


def test_what_cannot_be_noted(tmp_path: Path) -> None:
    supernet, mutator = toys.prepared()
    monitor = mm.SearchMonitor(supernet, mutator, tmp_path)
    for epoch in (-1, 1.0, True):
        with pytest.raises(InputError, match=f'int of at least 0, but got {epoch!r}'):
            monitor.record(epoch)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=f'int of at least 0, but got {epoch!r}'):
            monitor.rewind(epoch)  # type: ignore[arg-type]
    for value in ('0.5', [1.0], torch.zeros(2)):
        with pytest.raises(InputError, match='`loss` to be a number, but got'):
            monitor.record(0, loss=value)
    with pytest.raises(InputError, match="other names than 'entropy' for the values"):
        monitor.record(0, entropy=0.5)
    assert not [*tmp_path.iterdir()]
    with pytest.raises(ConfigError, match='`out_dir` with tensorboard=True, but got None'):
        mm.SearchMonitor(supernet, mutator, tensorboard=True)
    with pytest.raises(ConfigError, match='`evaluate` or `loader`, but got both'):
        mm.SearchMonitor(supernet, mutator, loader=[], evaluate=lambda _: 0.0)
    with pytest.raises(ConfigError, match='`interval` to be an int of at least 1, but got 0'):
        mm.SearchMonitor(supernet, mutator, interval=0)
    with pytest.raises(ConfigError, match='`batches` to be an int of at least 1, but got 0'):
        mm.SearchMonitor(supernet, mutator, batches=0)
    with pytest.raises(InputError, match='at least one batch to measure'):
        mm.SearchMonitor(supernet, mutator, loader=[]).record(0)
    wrong = [(torch.randn(4, 3).double(), torch.randn(4, 2))]
    with pytest.raises(InputError, match=r'targets of shape .* but got \(4, 2\) and \(4, 2\)'):
        mm.SearchMonitor(supernet, mutator, loader=wrong).record(0)
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match=r'Cannot make the folder .*file'):
        mm.SearchMonitor(supernet, mutator, tmp_path / 'file')


def test_tensorboard_is_told_the_same(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    supernet, mutator = toys.prepared()
    monitor = mm.SearchMonitor(supernet, mutator, tmp_path, tensorboard=True)
    for epoch in range(3):
        monitor.record(epoch, loss=float(epoch))
    monitor.close()
    # A run that was ended and goes on from epoch 2.
    monitor = mm.SearchMonitor(supernet, mutator, tmp_path, tensorboard=True)
    monitor.record(2, loss=7.0)
    monitor.close()
    events = EventAccumulator(str(tmp_path / 'tensorboard')).Reload()
    told = {(event.step, event.value) for event in events.Scalars('search/loss')}
    assert told == {(0, 0.0), (1, 1.0), (2, 7.0)}
    history = read_history(tmp_path)
    for tag, values in {
        'probability/widen/deep': history.spaces['widen'].probabilities[:, 3],
        'logit/widen/deep': history.spaces['widen'].logits[:, 3],
        'entropy/shared': history.spaces['shared'].entropies,
        'margin/shared': history.spaces['shared'].margins,
    }.items():
        seen = [event.value for event in events.Scalars(tag)]
        assert seen == pytest.approx(values.tolist(), rel=1e-6)


def test_tensorboard_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'torch.utils.tensorboard', None)
    supernet, mutator = toys.prepared()
    with pytest.raises(HostError, match=r'needs TensorBoard.*mmrazor-mutators\[tensorboard\]'):
        mm.SearchMonitor(supernet, mutator, tmp_path, tensorboard=True)
    mm.SearchMonitor(supernet, mutator, tmp_path).record(0)
