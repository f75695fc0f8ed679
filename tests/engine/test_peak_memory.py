"""The most memory that a step or a run has held."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny_runs import search
from torch import nn

from mmrazor_mutators.engine.hooks import PeakMemoryHook
from mmrazor_mutators.search.memory import PeakMemory, peak_bytes, peak_of_process


def held_in_steps() -> None:
    first = torch.zeros(1000)
    second = torch.zeros(500)
    del first
    third = torch.zeros(400)
    del second, third


def test_peak_of_a_call() -> None:
    assert peak_bytes(held_in_steps) == 4 * 1500
    kept = torch.zeros(1000)  # What is there already does not count.
    assert peak_bytes(lambda: torch.zeros_like(kept)) == 4 * 1000
    assert peak_bytes(lambda: None) == 0


@pytest.mark.cuda
def test_peak_of_a_call_on_cuda() -> None:
    kept = torch.zeros(2**20, device='cuda')
    assert peak_bytes(lambda: torch.zeros_like(kept), 'cuda') == 4 * 2**20


def test_peak_of_a_process() -> None:
    code = (
        'import torch\n'
        'from mmrazor_mutators.search.memory import peak_of_process\n'
        'before = peak_of_process()\n'
        'torch.ones(2**26)\n'
        'after = peak_of_process()\n'
        'print(after.num_bytes - before.num_bytes, after.what, sep="|")\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=True
    )
    grown, what = done.stdout.strip().split('|')
    assert 0.9 * 2**28 < int(grown) < 1.2 * 2**28  # 256 MiB, given back at once.
    assert what == 'resident set of the process'


def without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_text(path: Path, **_: Any) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, 'read_text', read_text)


def test_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proc(monkeypatch)
    monkeypatch.setitem(sys.modules, 'resource', None)
    assert peak_of_process() is None
    hook, text = hook_and_text()
    hook.after_train(runner_on('cpu', []))
    assert text() == ''


def test_linux_tells_of_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    status = 'VmPeak:\t 9 kB\nVmHWM:\t    12 kB\nVmRSS:\t 11 kB\n'
    monkeypatch.setattr(Path, 'read_text', lambda path, **_: status)
    assert peak_of_process() == PeakMemory(12 * 1024, 'resident set of the process')


@pytest.mark.parametrize('absent', [True, False])
def test_units_where_others_tell(monkeypatch: pytest.MonkeyPatch, absent: bool) -> None:
    if absent:
        without_proc(monkeypatch)
    else:
        monkeypatch.setattr(Path, 'read_text', lambda path, **_: 'VmRSS:\t 11 kB\n')
    told = SimpleNamespace(
        RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=3 * 2**20)
    )
    monkeypatch.setitem(sys.modules, 'resource', told)
    for platform, num_bytes in (('linux', 3 * 2**30), ('darwin', 3 * 2**20)):
        monkeypatch.setattr(sys, 'platform', platform)
        assert peak_of_process() == PeakMemory(num_bytes, 'resident set of the process')
    assert str(PeakMemory(3 * 2**20, 'this')) == '3 MiB (this)'


def hook_and_text() -> tuple[PeakMemoryHook, Any]:
    out = io.StringIO()
    return PeakMemoryHook(Console(file=out, width=30)), out.getvalue


def runner_on(device: str, lines: list[str]) -> Any:
    model = nn.Linear(1, 1)
    if device != 'cpu':
        model = SimpleNamespace(  # type: ignore[assignment]
            parameters=lambda: iter([SimpleNamespace(device=torch.device(device))])
        )
    return SimpleNamespace(model=model, logger=SimpleNamespace(info=lines.append))


def test_cuda_counts_from_the_beginning_of_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', calls.append)
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda device: 7 * 2**20)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: f'Card {device}')
    hook, text = hook_and_text()
    lines: list[str] = []
    hook.before_train(runner_on('cuda:1', lines))
    assert calls == [torch.device('cuda:1')]
    hook.after_train(runner_on('cuda:1', lines))
    assert text().splitlines() == ['peak memory 7 MiB (tensors on Card cuda:1)']
    assert lines == ['peak memory 7 MiB (tensors on Card cuda:1)']


def test_other_ranks_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    name = 'mmrazor_mutators.engine.hooks.peak_memory.is_main_process'
    monkeypatch.setattr(name, lambda: False)
    hook, text = hook_and_text()
    lines: list[str] = []
    hook.after_train(runner_on('cpu', lines))
    assert not lines
    assert text() == ''


def test_a_search_tells(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(tmp_path) == 0
    pattern = r'peak memory (\d+) MiB \(resident set of the process\)'
    (shown,) = re.findall(pattern, capsys.readouterr().out)
    assert 100 < int(shown) < 100_000
    logs = [path.read_text(encoding='utf-8') for path in tmp_path.rglob('*.log')]
    assert [re.findall(pattern, log) for log in logs] == [[shown]]
