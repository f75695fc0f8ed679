"""What cannot be done is refused in one line, and leaves things as they were."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
from mmengine.config import Config
from tiny_runs import complaint

from mmrazor_mutators import cli
from mmrazor_mutators.engine.lock import locked
from mmrazor_mutators.engine.resuming import check_same_run, config_text
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.mutables import load_subnet

ROOT = Path(__file__).parents[2]

HOLD = """
import os, sys, time
from pathlib import Path
from mmrazor_mutators.engine.lock import locked
with locked(Path(sys.argv[1])):
    child = os.fork() if sys.argv[2] == 'fork' else -1
    if child == 0:
        time.sleep(30)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""


def holder(work_dir: Path, how: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(work_dir), how],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_second_run_is_refused_until_the_first_has_died(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work_dir = tmp_path / 'run'
    process, child = holder(work_dir, 'fork')
    try:
        assert tiny_runs.search(work_dir) == 2
        said = complaint(capsys)
        assert f'The process {process.pid} is at work in {str(work_dir)!r}' in said
        assert [path.name for path in work_dir.iterdir()] == ['.lock']
        process.kill()
        process.wait()
        with locked(work_dir):  # Though a worker that it has forked lives on.
            os.kill(child, 0)
    finally:
        for number in (process.pid, child):
            if process.poll() is None or number == child:
                os.kill(number, signal.SIGKILL)
        process.communicate()


def test_a_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    new = tmp_path / 'a' / 'b'
    with locked(new):
        assert (new / '.lock').read_text() == f'{os.getpid()}\n'
        with pytest.raises(ConfigError, match=f'process {os.getpid()} is at work'), locked(new):
            pass
        with locked(tmp_path / 'other'):
            pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / 'kept').mkdir()
    with locked(tmp_path / 'kept'):
        (tmp_path / 'kept' / 'result').touch()
    assert [path.name for path in (tmp_path / 'kept').iterdir()] == ['result']
    (tmp_path / 'kept' / '.lock').write_text('1\n')  # Of a process that was killed.
    with locked(tmp_path / 'kept'):
        pass
    with (
        pytest.raises(ConfigError, match=r'Cannot write into .*result'),
        locked(tmp_path / 'kept' / 'result' / 'x'),
    ):
        pass


OTHERWISE: dict[str, Any] = {
    'space': (
        {'model.architecture.num_cells': 2},
        'model.architecture.num_cells was 1 and is 2',
    ),
    'mutator': (
        {'model.mutator.type': 'GDASMutator'},
        "model.mutator.type was 'DartsMutator' and is 'GDASMutator'",
    ),
    'optimizer': (
        {'optim_wrapper.mutator.optimizer.lr': 0.5},
        'optim_wrapper.mutator.optimizer.lr was .* and is 0.5',
    ),
    'seed': ({'randomness.seed': 5}, 'randomness.seed was 0 and is 5'),
    'batch size': (
        {'train_dataloader.batch_size': 16},
        'train_dataloader.batch_size was 32 and is 16',
    ),
    'batch size of the other half': (
        {'train_cfg.arch_dataloader.batch_size': 16},
        'train_cfg.arch_dataloader.batch_size was 32 and is 16',
    ),
    'hypergradient': (
        {'model.hypergradient': 'exact'},
        r"model.hypergradient was .* and is 'exact'",
    ),
}


@pytest.mark.parametrize('name', [*OTHERWISE])
def test_a_run_goes_on_as_it_was_begun(
    stopped: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, message = OTHERWISE[name]
    if name == 'space':
        before = Config.fromfile(stopped / 'config.py').model.architecture.num_cells
        changes = {'model.architecture.num_cells': before + 1}
        message = f'num_cells was {before} and is {before + 1}'
    config = (stopped / 'config.py').read_bytes()
    names = sorted(path.name for path in stopped.iterdir())
    settings = {'train_cfg.max_epochs': 2, **changes}
    assert tiny_runs.search(stopped, '--resume', **settings) == 2
    said = complaint(capsys)
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(said)
    assert '--resume-changed' in said
    assert (stopped / 'config.py').read_bytes() == config
    assert sorted(path.name for path in stopped.iterdir()) == names


def test_what_does_not_decide_may_change(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (stopped / 'config.py').read_text()
    (tmp_path / 'config.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'config.py')
    cfg.merge_from_dict(
        {
            'train_cfg.max_epochs': 7,
            'train_dataloader.num_workers': 2,
            'train_dataloader.dataset.root': 'elsewhere',
            'default_hooks.checkpoint.interval': 2,
        }
    )
    check_same_run(tmp_path, cfg)
    for changes in ({'model.mutator': {'init': float('nan')}}, {'model.new': (1, -2.5)}):
        both = Config.fromfile(tmp_path / 'config.py')
        both.merge_from_dict(changes)
        with pytest.raises(ConfigError, match=r'model.*(init|new) was nothing and is'):
            check_same_run(tmp_path, both)
        (tmp_path / 'same').mkdir(exist_ok=True)
        (tmp_path / 'same' / 'config.py').write_text(config_text(both))
        check_same_run(tmp_path / 'same', both)


def test_the_config_of_a_run_is_not_run_to_compare_it(tmp_path: Path, stopped: Path) -> None:
    cfg = Config.fromfile(stopped / 'config.py')
    mark = tmp_path / 'mark'
    for text in (
        f"__import__('pathlib').Path({str(mark)!r}).touch()\n",
        f"model = dict(a=open({str(mark)!r}, 'w'))\n",
        'model = ' + '[' * 100 + '\n',
    ):
        (tmp_path / 'config.py').write_text(text)
        with pytest.raises(ConfigError, match=r'resume-changed'):
            check_same_run(tmp_path, cfg)
    assert not mark.exists()


def test_a_run_goes_on_otherwise_where_asked_to(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / 'run'
    shutil.copytree(stopped, copy)
    changes = {'train_cfg.max_epochs': 2, 'optim_wrapper.mutator.optimizer.lr': 0.5}
    assert tiny_runs.search(copy, '--resume-changed', **changes) == 0
    assert Config.fromfile(copy / 'config.py').optim_wrapper.mutator.optimizer.lr == 0.5
    assert (copy / 'epoch_2.pth').exists()


@pytest.mark.parametrize(
    'changes',
    [
        {'optim_wrapper.architecture.optimizer.type': 'NoSuchOptimizer'},
        {'train_dataloader.dataset.images_per_class': 10**6},
        {'load_from': 'nowhere.pth'},
        {'val_evaluator.type': 'NoSuchMetric', 'val_dataloader.batch_size': 2},
    ],
)
def test_a_run_that_does_not_begin_leaves_the_config(
    stopped: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = (stopped / 'config.py').read_bytes()
    assert tiny_runs.search(stopped, **changes) == 2
    complaint(capsys)
    assert (stopped / 'config.py').read_bytes() == config


def exported(stopped: Path, out: Path) -> int:
    subnet, checkpoint = str(stopped / 'subnet.yaml'), str(stopped / 'last.pth')
    arguments = ['--subnet', subnet, '--checkpoint', checkpoint, '--out', str(out)]
    return cli.main(['export', str(stopped / 'config.py'), *arguments])


@pytest.mark.parametrize('suffix', ['.pt', '.pth', '.pt2'])
@pytest.mark.parametrize('there', [False, True])
def test_export_to_a_disk_that_is_full(
    stopped: Path, tmp_path: Path, suffix: str, there: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f'net{suffix}'
    if there:
        out.write_text('of an earlier export')
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (4096, kept[1])
    )  # Writes end there with an error.
    try:
        assert exported(stopped, out) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert re.search(
        rf"error: Cannot write '.*net\{suffix}': File too large", complaint(capsys)
    )
    assert [path.name for path in tmp_path.iterdir()] == ([out.name] if there else [])
    assert not there or out.read_text() == 'of an earlier export'
    assert exported(stopped, out) == 0
    assert out.stat().st_size > 4096


CALLS = {'mkdir': (Path, 'mkdir'), 'replace': (os, 'replace')}


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize('call', CALLS)
def test_export_where_nothing_can_be_written(
    stopped: Path,
    tmp_path: Path,
    number: int,
    call: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    owner, name = CALLS[call]
    monkeypatch.setattr(owner, name, refuse)
    assert exported(stopped, tmp_path / 'net.pt') == 2
    assert complaint(capsys).endswith(f"net.pt': {os.strerror(number)}")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_both_ways_to_resume_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(['search', '--help'])
    said = capsys.readouterr().out
    assert '--resume-changed' in said


def test_a_retraining_writes_nothing_before_it_is_checked(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work_dir, subnet = tmp_path / 'run', stopped / 'subnet.yaml'
    wrong = {'retrain.optim_wrapper.optimizer.type': 'Nothing'}
    assert tiny_runs.retrain(work_dir, subnet, **wrong) == 2
    assert 'Nothing' in complaint(capsys)
    assert not (work_dir / 'subnet.yaml').exists()
    assert not (work_dir / 'config.py').exists()
    assert tiny_runs.retrain(work_dir, subnet) == 0
    assert load_subnet(work_dir / 'subnet.yaml') == load_subnet(subnet)
