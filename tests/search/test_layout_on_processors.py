"""Nothing in the layout of a search runs what oneDNN gets wrong on some processor.

What is wrong there may crash, hang, or change a number at random.  So what counts is which
convolutions oneDNN runs at all, which it prints.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROCESSORS = {
    'sse41': {'ONEDNN_MAX_CPU_ISA': 'SSE41', 'ATEN_CPU_CAPABILITY': 'default'},
    'avx2': {'ONEDNN_MAX_CPU_ISA': 'AVX2', 'ATEN_CPU_CAPABILITY': 'avx2'},
    'this': {},
}
STRIDED = re.compile(
    r'convolution,[^,]+,backward_weights,src:f32:[^ ]*:acdb:.*_?ic(\d+)oc.*kh1sh[23].*kw1sw[23]'
)


def run(processor: str, *arguments: str) -> list[str]:
    """Return the lines that the networks and oneDNN print."""
    script = Path(__file__).with_name('networks_alone.py')
    names = ('ONEDNN_MAX_CPU_ISA', 'ATEN_CPU_CAPABILITY')
    environment = {key: value for key, value in os.environ.items() if key not in names}
    environment.update(PROCESSORS[processor], ONEDNN_VERBOSE='1', GOMP_SPINCOUNT='0')
    environment['OMP_NUM_THREADS'] = '2'
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = done.stdout.splitlines()
    last = [line for line in lines if line.startswith('off')][-1:]
    assert done.returncode == 0, (done.returncode, last, done.stderr[-1000:])
    return lines


@pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or os.name != 'posix', reason='needs oneDNN'
)
@pytest.mark.parametrize(
    ('processor', 'threads'),
    [
        ('sse41', 1),
        ('avx2', 2),
        pytest.param('avx2', 1, marks=pytest.mark.slow),
        pytest.param('this', 1, marks=pytest.mark.slow),
    ],
)
def test_every_network_trains(processor: str, threads: int) -> None:
    lines = run(processor, str(threads))
    off = {
        line.split(' ', 2)[2]: float(line.split(' ')[1]) for line in lines if line[:3] == 'off'
    }
    assert len(off) == 105
    assert {name: error for name, error in off.items() if not error < 1e-4} == {}
    assert any('convolution' in line and 'backward_weights' in line for line in lines)
    assert [line for line in lines if STRIDED.search(line)] == []


@pytest.mark.skipif(
    not torch.backends.cpu.get_cpu_capability().startswith('AVX'), reason='needs AVX2'
)
def test_what_is_avoided_can_be_seen() -> None:
    found = [STRIDED.search(line) for line in run('avx2', '1', 'wrong too')]
    assert [match.group(1) for match in found if match] == ['8']
