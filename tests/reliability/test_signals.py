"""Signals end a run in order, it says how to go on, and goes on bit for bit."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import ranks
from runs import ENVIRONMENT, arguments, assert_same, result_of, start, wait_for

from mmrazor_mutators import cli
from mmrazor_mutators.engine import signals
from mmrazor_mutators.engine.hooks import StopHook
from mmrazor_mutators.search import Evolution

pytestmark = pytest.mark.skipif(os.name == 'nt', reason='signals are others there')


def whole_run(kind: str, folder: Path) -> dict[str, Any]:
    assert cli.main(arguments(kind, folder / 'whole')) == 0
    return result_of(folder / 'whole')


def after_steps(monkeypatch: pytest.MonkeyPatch, steps: int, number: int) -> None:
    """Send this process a signal within a step."""
    taken: list[int] = []
    before = StopHook.after_train_iter

    def hooked(self: Any, runner: Any, *args: Any, **kwargs: Any) -> None:
        taken.append(1)
        if len(taken) == steps:
            os.kill(os.getpid(), number)
        before(self, runner, *args, **kwargs)

    monkeypatch.setattr(StopHook, 'after_train_iter', hooked)


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        ('darts', 'SIGTERM'),
        ('gdas', 'SIGHUP'),
        ('oles', 'SIGINT'),
        pytest.param('spos', 'SIGTERM', marks=pytest.mark.slow),
        ('retrain', 'SIGTERM'),
    ],
)
def test_a_signal_saves_at_the_step(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    whole = whole_run(kind, tmp_path)
    number, work_dir = getattr(signal, name), tmp_path / 'run'
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    capsys.readouterr()
    with monkeypatch.context() as patch:
        after_steps(patch, 3, number)
        assert cli.main(arguments(kind, work_dir)) == 128 + number
    line = capsys.readouterr().err
    assert line.count('\n') == 1
    assert re.match(
        rf'ended by {name}; \S+/run/stopped\.pth holds the state after step 3\. Go on with: '
        r'mmrazor-mutators (search|retrain) --resume ',
        line,
    )
    assert handlers == [
        signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ]
    stopped = torch.load(work_dir / 'stopped.pth', weights_only=True)
    assert stopped['meta']['iter'] == 3
    assert cli.main(arguments(kind, work_dir, '--resume')) == 0
    assert 'goes on from stopped.pth (epoch 0, step 3)' in capsys.readouterr().out
    assert_same(result_of(work_dir), whole)


def test_a_signal_at_the_step_of_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    whole = whole_run('gdas', tmp_path)
    steps = whole['place'][1]
    with monkeypatch.context() as patch:
        after_steps(patch, steps, signal.SIGTERM)
        assert cli.main(arguments('gdas', tmp_path / 'run')) == 143
    assert f'iter_{steps}.pth holds the state' in capsys.readouterr().err
    assert not (tmp_path / 'run/stopped.pth').exists()
    # As a run leaves it that was killed before it removed what its last checkpoint replaces.
    shutil.copy(tmp_path / f'run/iter_{steps - 2}.pth', tmp_path / 'run/stopped.pth')
    assert cli.main(arguments('gdas', tmp_path / 'run', '--resume')) == 0
    assert_same(result_of(tmp_path / 'run'), whole)


def test_a_signal_within_the_evolution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    whole = whole_run('spos', tmp_path)
    told: list[Any] = []
    tell = Evolution.tell

    def telling(self: Any, *args: Any) -> None:
        tell(self, *args)
        told.append(args)
        if len(told) == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    work_dir = tmp_path / 'run'
    monkeypatch.setattr(Evolution, 'tell', telling)
    assert cli.main(arguments('spos', work_dir)) == 143
    assert 'evolution.json holds what was evaluated. Go on' in capsys.readouterr().err
    told.clear()
    told.extend([None] * 6)
    assert cli.main(arguments('spos', work_dir, '--resume')) == 0
    assert len(told) == 8  # Each of 2 generations of 4 paths was scored once.
    assert_same(result_of(work_dir), whole)


def test_a_second_one_ends_it_at_once() -> None:
    with signals.listening() as asked:
        asked.in_steps = True
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.number == signal.SIGINT
        with pytest.raises(signals.Interrupted, match='SIGTERM'):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signals.requests is not asked


def test_between_steps_it_ends_at_once() -> None:
    with signals.listening(), pytest.raises(signals.Interrupted, match='SIGHUP') as caught:
        os.kill(os.getpid(), signal.SIGHUP)
    assert (caught.value.number, caught.value.saved) == (signal.SIGHUP, '')


def test_what_has_caught_it_does_not_hide_it() -> None:
    @signals.listening()
    def catches() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:
            raise SyntaxError('cannot be formatted') from None

    with pytest.raises(signals.Interrupted, match='SIGTERM') as caught:
        catches()
    assert isinstance(caught.value.__cause__, SyntaxError)
    with pytest.raises(SyntaxError), signals.listening():
        raise SyntaxError


def test_torchrun_passes_on_what_the_terminal_has_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'x')
    with signals.listening() as asked:
        asked.in_steps = True
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(signals, '_TOGETHER', 0.0)
        with pytest.raises(signals.Interrupted, match='SIGINT'):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_is_ignored_stays_ignored() -> None:
    """As ``nohup`` wants it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.listening() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert asked.number is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_worker_waits_for_its_owner() -> None:
    asked = signals.Requests()
    asked._owner = -1
    asked.handle(signal.SIGTERM)
    assert asked.number == signal.SIGTERM


def test_a_process_of_its_own(tmp_path: Path) -> None:
    """With workers that load data, all of which get what a terminal sends."""
    changes = {'train_dataloader__num_workers': 2, 'train_cfg__max_epochs': 200}
    process = start(arguments('darts', tmp_path / 'run', **changes), start_new_session=True)
    try:
        wait_for(process, tmp_path / 'run', 'epoch_1.pth')
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert re.fullmatch(r'ended by SIGINT; \S+stopped.pth holds .*--resume.*\n', err)
    assert (tmp_path / 'run' / 'stopped.pth').is_file()


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason='needs gloo',
)
def test_ranks_stop_at_the_same_step(tmp_path: Path) -> None:
    """Only the second rank is told; the file says what both have done."""
    done: dict[str, Any] = {}
    for name, more in (('whole', ()), ('cut', ()), ('cut', ('--resume',))):
        words = arguments('darts', tmp_path / name, '--launcher', 'pytorch', *more)
        stop = 3 if name == 'cut' and not more else 0
        ended = ranks(2, '-c', RANK, str(stop), *words, env=ENVIRONMENT)
        said = ''.join(rank.stderr for rank in ended)
        done[name + str(len(more))] = [rank.returncode for rank in ended], said
    assert done['whole0'][0] == [0, 0], done['whole0']
    assert done['cut0'][0] == [143, 143], done['cut0']
    assert done['cut0'][1].count('Go on with: ') == 1
    assert done['cut1'][0] == [0, 0], done['cut1']
    assert_same(result_of(tmp_path / 'cut'), result_of(tmp_path / 'whole'))


RANK = """
import os, signal, sys
from mmrazor_mutators import cli
from mmrazor_mutators.engine.hooks import StopHook

steps, rank = int(sys.argv[1]), os.environ['RANK']
before, taken = StopHook.after_train_iter, []

def hooked(self, *args, **kwargs):
    taken.append(1)
    if rank == '1' and len(taken) == steps:
        os.kill(os.getpid(), signal.SIGTERM)
    before(self, *args, **kwargs)

StopHook.after_train_iter = hooked
sys.exit(cli.main(sys.argv[2:]))
"""
