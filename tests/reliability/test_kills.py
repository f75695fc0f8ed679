"""Kills, and damaged checkpoints: the run goes on bit for bit, or says why it cannot."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import arguments, assert_same, result_of, start, wait_for

from mmrazor_mutators import cli
from mmrazor_mutators.durable import remove_stale_drafts
from mmrazor_mutators.engine.checkpoints import newest_checkpoint, next_run, set_hint
from mmrazor_mutators.engine.exporting import load_weights
from mmrazor_mutators.engine.seals import Facts, check_whole, read_facts, seal
from mmrazor_mutators.errors import ConfigError

BROKEN = r'damaged|cut off|checksum'


def checkpoint(path: Path, run: int = 1, step: int = 5, epoch: int = 1) -> Path:
    state = {'weight': torch.randn(30, 10), 'bias': torch.arange(7)}
    torch.save({'state_dict': state, 'optimizer': {}, 'meta': {'iter': step}}, path)
    seal(path, Facts(run, step, epoch))
    return path


def test_a_seal_says_what_was_sealed(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / 'a.pth', 2, 30, 4)
    assert read_facts(path) == (2, 30, 4)
    check_whole(path)
    for options in ({}, {'mmap': True}):
        assert torch.load(path, weights_only=True, **options)['meta'] == {'iter': 30}
    with pytest.raises(ConfigError, match=r"'\S+a\.pth' to be a checkpoint as torch\.save"):
        seal(path, Facts(2, 30, 4))
    torch.save({'meta': 1}, path)
    assert read_facts(path) is None
    check_whole(path)


def test_a_cut_checkpoint_is_never_taken(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / 'a.pth')
    whole = path.read_bytes()
    sizes = {*range(0, len(whole), 256), *range(len(whole) - 300, len(whole))}
    for size in sizes:
        path.write_bytes(whole[:size])
        with pytest.raises(ConfigError, match=BROKEN):
            check_whole(path)
    path.write_bytes(whole + b'\0')
    with pytest.raises(ConfigError, match=BROKEN):
        check_whole(path)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / 'a.pth')
    whole = path.read_bytes()
    draw = random.Random(0)
    tail = range(len(whole) - 220, len(whole))
    for place in [*draw.sample(range(len(whole)), 300), *tail]:
        broken = bytearray(whole)
        broken[place] ^= 1 << draw.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(ConfigError, match=BROKEN):
            check_whole(path)
        if broken.startswith(b'PK'):
            with pytest.raises(ConfigError, match=r"'\S+a\.pth' cannot be read: "):
                load_weights(path)


def test_the_newest_that_is_whole_is_taken(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) == (None, Facts(0, 0, 0), [])
    assert next_run(tmp_path) == 1
    first = checkpoint(tmp_path / 'epoch_9.pth', 1, 90, 9)
    assert newest_checkpoint(tmp_path).path == first
    # Another run begins here, which has come less far than the one before it.
    assert next_run(tmp_path) == 2
    assert newest_checkpoint(tmp_path) == (None, Facts(2, 0, 0), [])
    one, two = (checkpoint(tmp_path / f'epoch_{n}.pth', 2, 10 * n, n) for n in (1, 2))
    middle = checkpoint(tmp_path / 'stopped.pth', 2, 13, 1)
    checkpoint(tmp_path / 'best_accuracy_epoch_3.pth', 2, 99, 9)
    checkpoint(tmp_path / '.epoch_4.pth.1', 2, 99, 9)
    set_hint(tmp_path, one)  # A hint, not the truth.
    (tmp_path / 'last.pth').hardlink_to(two)
    assert newest_checkpoint(tmp_path) == (two, Facts(2, 20, 2), [])
    two.write_bytes(two.read_bytes()[:-80])
    found = newest_checkpoint(tmp_path)
    assert found.path == middle
    assert found.skipped == ['epoch_2.pth: its seal is damaged or cut off']
    body = bytearray(middle.read_bytes())
    body[200] ^= 4
    middle.write_bytes(body)
    found = newest_checkpoint(tmp_path)
    assert found.path == one
    assert found.skipped[1:] == ['stopped.pth: its checksum is not that of what was written']
    one.write_bytes(b'')
    assert newest_checkpoint(tmp_path).path is None  # None of this run; not that of the other.
    (tmp_path / 'last.pth').unlink()


def test_drafts_of_ended_processes_are_removed(tmp_path: Path) -> None:
    ended = subprocess.run(['true'], check=True)
    assert ended.returncode == 0
    process = subprocess.Popen(['sleep', '60'])
    try:
        names = ['.epoch_1.pth.999999999', f'.epoch_1.pth.{process.pid}', '.hidden', '.a.b']
        for name in names:
            (tmp_path / name).write_bytes(b'half')
        assert remove_stale_drafts(tmp_path) == names[:1]
        assert {path.name for path in tmp_path.iterdir()} == {*names[1:]}
    finally:
        process.kill()
        process.wait()
    assert remove_stale_drafts(tmp_path) == names[1:2]


def damage(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if draw.random() < 0.5:
        del data[draw.randrange(len(data)) :]
    else:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def test_a_damaged_checkpoint_is_skipped(tmp_path: Path, capsys: Any) -> None:
    work_dir = tmp_path / 'run'
    assert cli.main(arguments('darts', work_dir)) == 0
    whole = result_of(work_dir)
    for seed in range(3):
        capsys.readouterr()
        damage(work_dir / 'epoch_2.pth', random.Random(seed))
        assert cli.main(arguments('darts', work_dir, '--resume')) == 0
        out = capsys.readouterr().out
        assert (
            out.count('goes on from epoch_1.pth (epoch 1, step 5); skipped epoch_2.pth: ') == 1
        )
        assert_same(result_of(work_dir), whole)
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        damage(work_dir / name, random.Random(1))
    assert cli.main(arguments('darts', work_dir, '--resume')) == 2
    line = capsys.readouterr().err
    assert 'None of the checkpoints in' in line
    assert 'start without --resume to begin anew' in line


def test_another_run_in_the_same_directory(tmp_path: Path, capsys: Any) -> None:
    """What is left of an earlier run is not gone on from."""
    work_dir, other = tmp_path / 'run', tmp_path / 'other'
    assert cli.main(arguments('darts', work_dir)) == 0
    changes = {'randomness__seed': 3}
    assert cli.main(arguments('darts', other, **changes)) == 0
    process = start(arguments('darts', work_dir, train_cfg__max_epochs=9, **changes))
    try:
        for _ in range(3000):
            if (work_dir / 'run_number').read_text() == '2\n':
                break
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    capsys.readouterr()
    assert cli.main(arguments('darts', work_dir, '--resume', **changes)) == 0
    ours, whole = result_of(work_dir), result_of(other)
    assert ours['state_dict'] == whole['state_dict']


@pytest.mark.parametrize('kind', ['gdas', 'spos by step'])
def test_a_kill(kind: str, tmp_path: Path) -> None:
    assert cli.main(arguments(kind, tmp_path / 'whole')) == 0
    whole = result_of(tmp_path / 'whole')
    work_dir = tmp_path / 'run'
    process = start(arguments(kind, work_dir))
    wait_for(process, work_dir, 'iter_*.pth')
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert cli.main(arguments(kind, work_dir, '--resume')) == 0
    assert_same(result_of(work_dir), whole)
