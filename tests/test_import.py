"""Importing the package is quiet, lean and quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HOST = 'import torch, mmengine.model, mmcv.cnn'

# Imported when first used, not before.
LATE = [
    'matplotlib',
    'mmrazor_mutators.__main__',
    'mmrazor_mutators.cli',
    'mmrazor_mutators.datasets',
    'mmrazor_mutators.engine',
    'scipy',
    'sklearn',
    'torch._dynamo',
    'torch.onnx',
]

WARNINGS = f"""
import json, os, warnings

seen = []
warnings.showwarning = lambda message, category, filename, *_: seen.append(
    (category.__name__, filename, str(message))
)
warnings.simplefilter('always')
{HOST}
seen.clear()
import mmrazor_mutators
mmrazor_mutators.DartsMutator
json.dump(seen, open(os.environ['REPORT'], 'w'))
"""

MODULES = """
import json, os, sys
import mmrazor_mutators
before = sorted(sys.modules)
mmrazor_mutators.DartsMutator
json.dump([before, sorted(sys.modules)], open(os.environ['REPORT'], 'w'))
"""

# The host's own time is the yardstick, in the same process under the same load;
# what the package imports beyond it comes on top. The first run may also have to
# compile bytecode.
TIMES = f"""
import json, os, time

start = time.process_time()
{HOST}
middle = time.process_time()
import mmrazor_mutators
mmrazor_mutators.DartsMutator
json.dump([middle - start, time.process_time() - middle], open(os.environ['REPORT'], 'w'))
"""


@pytest.fixture
def run_python(tmp_path):
    """Return a function that runs a script and returns its output and its report."""

    def run(script, *options):
        report = tmp_path / 'report.json'
        done = subprocess.run(
            [sys.executable, *options, '-c', script],
            cwd=tmp_path,
            env={**os.environ, 'REPORT': str(report)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout, json.loads(report.read_text())

    return run


def test_import_prints_nothing_and_loads_only_what_it_needs(run_python):
    output, (before, modules) = run_python(MODULES)
    assert output == ''
    # Nothing but its own name, until something of it is asked for.
    assert [name for name in before if name.startswith('mmrazor_mutators.')] == [
        'mmrazor_mutators.version'
    ]
    assert 'torch' not in before
    assert 'mmrazor_mutators.mutators' in modules
    assert [name for name in LATE if name in modules] == []


def test_import_warns_of_nothing_beyond_its_host(run_python):
    _, seen = run_python(WARNINGS)
    assert seen == []


def test_import_takes_at_most_a_quarter_longer_than_its_host(run_python):
    for _ in range(5):
        host, own = run_python(TIMES)[1]
        if own <= 0.25 * host:
            return
    pytest.fail(f'{own:.2f} s on top of {host:.2f} s, of processor time, in the last of 5 runs')
