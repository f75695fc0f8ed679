"""A test that crashes its process ends the run, which names it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CRASHING = """
import os, signal, pytest

@pytest.mark.parametrize('number', range(2000))
def test_one(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='there are no signals')
def test_a_crash_ends_the_run(tmp_path: Path) -> None:
    pytest.importorskip('xdist')
    shutil.copy(ROOT / 'conftest.py', tmp_path)
    (tmp_path / 'pytest.ini').write_text('[pytest]\n')
    (tmp_path / 'test_crashing.py').write_text(CRASHING)
    command = [sys.executable, '-m', 'pytest', '-n', '1', '-p', 'no:cacheprovider']
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert "crashed while running 'test_crashing.py::test_one[1]'" in run.stdout
    assert 'worker restarting disabled' in run.stdout
    assert '1 failed, 1 passed' in run.stdout
    # By faulthandler, which tells where.
    assert 'Fatal Python error: Segmentation fault' in run.stdout + run.stderr
