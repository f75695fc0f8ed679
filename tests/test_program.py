"""The program as a process: how quick it is, where it prints to, how it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / 'configs' / 'darts' / 'digits.py')

MEASURED = """
import json, os, resource, sys
from mmrazor_mutators import cli
try:
    cli.main(sys.argv[1:])
except SystemExit:
    pass
used = resource.getrusage(resource.RUSAGE_SELF)
report = {'cpu': used.ru_utime + used.ru_stime, 'modules': sorted(sys.modules)}
json.dump(report, open(os.environ['REPORT'], 'w'))
"""


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), **changes}


@pytest.mark.parametrize('arguments', [['--help'], ['search', '--help'], ['list']])
def test_help_and_lists_are_quick_and_need_no_torch(
    arguments: list[str], tmp_path: Path
) -> None:
    report = tmp_path / 'report.json'
    measured: dict[str, Any] = {}
    for _ in range(3):  # The first may have to compile bytecode.
        subprocess.run(
            [sys.executable, '-c', MEASURED, *arguments],
            env=environment(REPORT=str(report)),
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )
        measured = json.loads(report.read_text())
        if measured['cpu'] < 0.5:
            break
    assert {'torch', 'numpy', 'mmengine', 'mmcv'}.isdisjoint(measured['modules'])
    assert measured['cpu'] < 0.5, f'{measured["cpu"]:.2f} s of processor time'


def listed(*arguments: str, **changes: str) -> list[str]:
    program = [sys.executable, '-m', 'mmrazor_mutators', 'list', *arguments]
    done = subprocess.run(
        program,
        env=environment(**changes),
        capture_output=True,
        encoding='utf-8',
        check=True,
        timeout=60,
    )
    assert done.stderr == ''
    return done.stdout.splitlines()


def test_a_list_in_a_pipe_has_whole_lines_and_no_padding() -> None:
    from mmrazor_mutators.views.catalogue import read_parts
    from mmrazor_mutators.views.listing import plain

    lines = listed(COLUMNS='80', PYTHONIOENCODING='utf-8')
    parts = [part for parts in read_parts().values() for part in parts.values()]
    assert len(lines) == len(parts) + 2
    for part in parts:
        row = next(line for line in lines if part.name in line.split())
        assert row.endswith(plain(part.summary))
    assert [line for line in lines if line != line.rstrip()] == []
    (row,) = [line for line in listed('mutators') if 'GDASMutator' in line.split()]
    assert row.endswith('Dong & Yang, CVPR 2019')


def test_output_that_nobody_reads_on_is_no_error() -> None:
    script = f'{sys.executable} -m mmrazor_mutators list | head -1'
    done = subprocess.run(
        ['/bin/sh', '-c', script], env=environment(), capture_output=True, timeout=60
    )
    assert done.stderr == b''


@pytest.mark.parametrize('seconds', [0.2, 0.5, 1, 2])
def test_interrupts_of_the_first_seconds_are_one_line(seconds: float, tmp_path: Path) -> None:
    program = [sys.executable, '-m', 'mmrazor_mutators', 'search', CONFIG]
    with subprocess.Popen(
        [*program, '--work-dir', str(tmp_path)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As it is in a terminal; a test run in the background ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = err.splitlines()
    assert line.startswith(('interrupted', 'ended by SIGINT'))


STRINGS = """
import runpy, signal, sys
from mmrazor_mutators import __main__, cli

def main():
    try:
        exec('import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)')
    except KeyboardInterrupt:
        print('caught', flush=True)
    return 130

cli.main = main
import atexit
atexit.register(print, 'cleaned up')
__main__.run()
"""


def test_an_interrupt_of_code_in_strings_ends_with_130() -> None:
    done = subprocess.run(
        [sys.executable, '-c', STRINGS],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, 'caught\ncleaned up\n', '')
