"""What is NaN or infinite never reaches logits or weights."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from runs import arguments, assert_same, result_of
from torch import Tensor, nn

import mmrazor_mutators as mm
from mmrazor_mutators import cli
from mmrazor_mutators.algorithms import Darts
from mmrazor_mutators.errors import ConfigError, NonFiniteLossError

NAN, INF = float('nan'), float('inf')


class Square(torch.autograd.Function):
    """The square of numbers, whose gradient can be spoilt though the value is right."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, spoil: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.spoil = spoil
        return (x**2).mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * 2 * x / x.numel() * ctx.spoil, None


class Loss:
    """A loss of which the calls in ``spoil`` are spoilt: ``{call: (part, by what)}``."""

    def __init__(self) -> None:
        self.calls = 0
        self.spoil: dict[int, tuple[str, float]] = {}

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        part, by = self.spoil.get(self.calls, ('loss', 1.0))
        self.calls += 1
        loss: Any = Square.apply(outputs - targets, by if part == 'gradient' else 1.0)
        return loss * by if part == 'loss' else loss


def search_of(**options: Any) -> mm.BilevelSearch:
    torch.manual_seed(0)
    norm = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    supernet = mm.DifferentiableOP(space_id='a', choices={'x': nn.Linear(3, 2), 'y': norm})
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    return mm.BilevelSearch(
        supernet,
        mutator,
        Loss(),
        torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.01),
        **options,
    )


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)


def steps(search: mm.BilevelSearch, numbers: Any) -> list[dict[str, Tensor]]:
    return [search.step(batch(n), batch(n + 100)) for n in numbers]


def values_of(search: mm.BilevelSearch) -> dict[str, Any]:
    state = search.state_dict()
    kept = ('supernet', 'mutator', 'weight_optimizer', 'arch_optimizer')
    return {name: copy.deepcopy(state[name]) for name in kept}


def assert_equal(first: Any, other: Any) -> None:
    if isinstance(first, dict):
        assert first.keys() == other.keys()
        for key in first:
            assert_equal(first[key], other[key])
    elif isinstance(first, Tensor):
        assert torch.equal(first, other)
    else:
        assert first == other


# In each step the first loss is the architecture's and the second the weights'.
SPOILT = [('loss', NAN), ('loss', -INF), ('gradient', INF), ('gradient', NAN)]


@pytest.mark.parametrize('grad_clip', [None, 1.0])
@pytest.mark.parametrize('single_level', [False, True])
@pytest.mark.parametrize('spoilt', SPOILT)
def test_a_skipped_step_is_as_if_its_batch_were_left_out(
    spoilt: tuple[str, float], single_level: bool, grad_clip: float | None
) -> None:
    options = {'skip_non_finite': 1, 'grad_clip': grad_clip, 'single_level': single_level}
    search, plain = search_of(**options), search_of(**options)
    search.loss_fn.spoil = {2 if single_level else 4: spoilt}
    logs = steps(search, range(5))
    steps(plain, [0, 1, 3, 4])
    assert_equal(values_of(search), values_of(plain))
    assert [sorted(entry) for entry in logs].count(['skipped']) == 1
    assert list(logs[2]) == ['skipped']
    assert (search.skips.total, search.skips.in_a_row, search.iteration) == (1, 0, 5)


@pytest.mark.parametrize('spoilt', SPOILT)
def test_an_architecture_step_stays_if_that_of_the_weights_is_skipped(
    spoilt: tuple[str, float],
) -> None:
    search = search_of(skip_non_finite=1)
    steps(search, range(2))
    before = values_of(search)
    search.loss_fn.spoil = {5: spoilt}
    assert list(steps(search, [2])[0]) == ['skipped']
    after = values_of(search)
    for name, value in after['supernet'].items():
        if 'arch_param' not in name:
            assert torch.equal(value, before['supernet'][name]), name
    assert_equal(after['weight_optimizer'], before['weight_optimizer'])
    logits = search.arch_params[0]
    assert logits.isfinite().all()
    assert not torch.equal(logits, before['mutator']['arch_params.a'])
    steps(search, [3])
    assert search.skips.in_a_row == 0


@pytest.mark.parametrize('hypergradient', ['finite_difference', 'exact', 'neumann', 'cg'])
def test_other_hypergradients_that_are_not_finite(hypergradient: str) -> None:
    search = search_of(hypergradient=hypergradient, skip_non_finite=9)
    steps(search, range(2))
    good = values_of(search)
    calls = search.loss_fn.calls
    search.loss_fn.spoil = dict.fromkeys(range(calls, calls + 60), ('loss', NAN))
    steps(search, range(3))
    assert_equal(values_of(search), good)
    assert search.skips.total == 3


def test_too_many_in_a_row() -> None:
    search = search_of(skip_non_finite=2)
    search.loss_fn.spoil = dict.fromkeys(range(2, 5), ('gradient', NAN))
    steps(search, range(3))  # The last of them is a training loss alone.
    search.loss_fn.spoil = dict.fromkeys(range(search.loss_fn.calls, 99), ('loss', INF))
    good = values_of(search)
    with pytest.raises(
        NonFiniteLossError,
        match=r'^3 steps in a row .* skip_non_finite=2 may be skipped\. The .* loss is inf in '
        r'epoch 0, step \d; no step was taken',
    ):
        steps(search, range(9))
    assert_equal(values_of(search), good)


def test_counts_are_part_of_the_state() -> None:
    search, other = search_of(skip_non_finite=3), search_of(skip_non_finite=3)
    search.loss_fn.spoil = dict.fromkeys([2, 4], ('loss', NAN))
    steps(search, range(3))
    assert search.skips.in_a_row == 2
    state = search.state_dict()
    other.load_state_dict(state)
    assert (other.skips.total, other.skips.in_a_row) == (2, 2)
    del state['skips']  # As in an earlier version.
    other.load_state_dict(state)
    assert (other.skips.total, other.skips.in_a_row) == (0, 0)


def test_by_default_the_first_is_an_error() -> None:
    search = search_of()
    search.loss_fn.spoil = {0: ('gradient', INF)}
    with pytest.raises(NonFiniteLossError, match=r'^The gradient of the architecture loss'):
        steps(search, [0])
    with pytest.raises(ConfigError, match=r'`skip_non_finite` to be .* got -1'):
        search_of(skip_non_finite=-1)


def test_an_optimizer_that_wants_a_closure() -> None:
    search = search_of()
    for name in ('weight_optimizer', 'arch_optimizer'):
        optimizers = {n: getattr(search, n) for n in ('weight_optimizer', 'arch_optimizer')}
        optimizers[name] = torch.optim.LBFGS(optimizers[name].param_groups[0]['params'])
        with pytest.raises(ConfigError, match='but got LBFGS, which evaluates the loss again'):
            mm.BilevelSearch(search.supernet, search.mutator, Loss(), **optimizers)


def retraining(spoil: dict[int, tuple[str, float]], kind: Any = torch.optim.SGD) -> Any:
    torch.manual_seed(0)
    loss = Loss()
    loss.spoil = spoil
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    model = Darts(network, loss=loss, retraining=True)
    return model, OptimWrapper(kind(model.parameters(), lr=0.1))


@pytest.mark.parametrize(('part', 'by'), [('loss', NAN), ('gradient', INF), ('gradient', NAN)])
def test_a_retraining(part: str, by: float) -> None:
    model, wrapper = retraining({1: (part, by)})
    model.train_step(batch(0), wrapper)
    good = copy.deepcopy(model.state_dict())
    shown = f'The training loss is {by:g}' if part == 'loss' else r'of the loss \(\S+\) is \w+'
    with pytest.raises(NonFiniteLossError, match=f'{shown}; no step was taken'):
        model.train_step(batch(1), wrapper)
    assert_equal(dict(model.state_dict()), dict(good))
    assert all(param.grad is None for param in model.parameters())
    model.train_step(batch(1), wrapper)
    assert all(math.isfinite(float(p.detach().sum())) for p in model.parameters())


def test_a_retraining_by_lbfgs() -> None:
    model, wrapper = retraining({}, torch.optim.LBFGS)
    with pytest.raises(ConfigError, match='but got LBFGS'):
        model.train_step(batch(0), wrapper)


def spoil_steps(monkeypatch: pytest.MonkeyPatch, spoilt: set[int]) -> None:
    """Let the losses of some steps of a search on the command line be NaN."""
    original, search_loss = Darts._search_step, Darts._search_loss

    def step(self: Any, *args: Any) -> Any:
        self.spoilt = self.iteration in spoilt
        return original(self, *args)

    def loss(self: Any, *args: Any) -> Any:
        return search_loss(self, *args) * (NAN if self.spoilt else 1.0)

    monkeypatch.setattr(Darts, '_search_step', step)
    monkeypatch.setattr(Darts, '_search_loss', loss)


def test_a_search_by_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    work_dir = tmp_path / 'run'
    assert cli.main(arguments('darts', tmp_path / 'whole')) == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        spoil_steps(patch, {2, 7, 8})
        # The second in a row is one too many.
        words = arguments('darts', work_dir, model__skip_non_finite=1)
        assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert 'skipped 1 ' in captured.out
    assert 'nan' not in captured.out
    line = captured.err
    assert line.startswith('error: 2 steps in a row were not finite')
    assert 'in epoch 1, step 8; no step was taken' in line
    assert f'{work_dir}/stopped.pth holds the state before it' in line
    stopped = torch.load(work_dir / 'stopped.pth', weights_only=True)
    assert [stopped['meta'][key] for key in ('epoch', 'iter')] == [1, 8]
    for value in stopped['state_dict'].values():
        assert value.isfinite().all()
    # Without the fault it goes on from there.
    assert cli.main(arguments('darts', work_dir, '--resume')) == 0
    assert 'goes on from stopped.pth (epoch 1, step 8)' in capsys.readouterr().out
    ours, whole = (result_of(tmp_path / name) for name in ('run', 'whole'))
    assert ours['place'] == whole['place']
    assert_same({'files': ours['files']}, {'files': whole['files']})


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, capsys: Any) -> None:
    changes = {'optim_wrapper__architecture__optimizer__lr': 1e39}
    assert cli.main(arguments('darts', tmp_path / 'run', **changes)) == 2
    line = capsys.readouterr().err
    assert 'The weights are not finite by now, so that they were not saved' in line
    assert not (tmp_path / 'run' / 'stopped.pth').exists()
