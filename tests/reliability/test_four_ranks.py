"""Four ranks, in every run of the tests: what they compute, and what is said when one dies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import ENVIRONMENT, arguments

from mmrazor_mutators import cli

sys.path.append(str(Path(__file__).parents[1] / 'search'))
SCRIPT = Path(__file__).with_name('four_ranks.py')
pytestmark = pytest.mark.skipif(
    not hasattr(os, 'fork') or not torch.distributed.is_available(), reason='forks over gloo'
)


def ends_of(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        env={**ENVIRONMENT, 'GLOO_SOCKET_IFNAME': 'lo'},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_they_are_worth_the_joined_batch(tmp_path: Path) -> None:
    from test_search_distributed import batches, outcome, small_search
    from toy_searches import assert_same_state

    done = ends_of('values', str(tmp_path))
    assert 'ends 0 0 0 0' in done.stdout, done.stderr
    found = [torch.load(tmp_path / f'rank{r}.pt', weights_only=False) for r in range(4)]
    for name in ('first_order', 'exact', 'scaled'):
        plain = small_search(
            hypergradient='first_order' if name == 'scaled' else name, grad_clip=0.1
        )
        for _ in range(1 if name == 'scaled' else 2):
            plain.step(*batches())
        for result in found:
            assert_same_state(result[name], outcome(plain), rtol=1e-8, atol=1e-9)
            assert_same_state(result[name], found[0][name])
    # Whichever of them it was that had a gradient which was not finite.
    assert [result['skipped'] for result in found] == [(['skipped'], 4.0, 0)] * 4


@pytest.mark.slow
def test_one_dies(tmp_path: Path, capsys: Any) -> None:
    words = arguments('darts by step', tmp_path / 'run', '--launcher', 'pytorch')
    done = ends_of('2', *words)
    assert 'ends 2 2 -9 2' in done.stdout, done.stdout + done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert re.fullmatch(
        r'error: rank 2 \(process \d+ on \S+\) has died or does not answer; the last '
        r'checkpoint is \S+/run/iter_\d\.pth \(epoch \d, step \d\), from which any number of '
        r'ranks can go on\. Go on with: mmrazor-mutators search --resume .*',
        said,
    )
    assert 'Traceback' not in done.stderr
    assert cli.main(arguments('darts by step', tmp_path / 'run', '--resume')) == 0
    assert 'goes on from iter_' in capsys.readouterr().out
