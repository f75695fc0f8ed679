"""A search in two processes under torchrun: both end with the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from tiny_runs import NB201, TINY

from mmrazor_mutators.mutables import load_subnet

# Each rank keeps what it ended with; the command line is the one that users call.
RANK = """
import os, sys
import torch
from mmrazor_mutators import cli
from mmrazor_mutators.engine import jobs

train = jobs.train

def keep(runner, progress):
    train(runner, progress)
    optimizer = runner.optim_wrapper.state_dict()
    torch.save(
        (runner.model.state_dict(), optimizer), f'{sys.argv[1]}/rank{os.environ["RANK"]}.pth'
    )

jobs.train = keep
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason='needs gloo',
)
def test_ranks_end_with_the_same(tmp_path):
    script, work_dir = tmp_path / 'rank.py', tmp_path / 'run'
    script.write_text(RANK)
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    settings = [f'{key}={value}' for key, value in {**TINY, 'train_cfg.max_epochs': 2}.items()]
    search = ['search', NB201, '--work-dir', str(work_dir), '--launcher', 'pytorch']
    done = subprocess.run(
        [*torchrun, '--nproc_per_node', '2', str(script), str(tmp_path), *search]
        + ['--cfg-options', *settings],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Traceback' not in done.stderr
    (first, steps), (second, other_steps) = (
        torch.load(tmp_path / f'rank{rank}.pth', weights_only=False) for rank in range(2)
    )
    assert first.keys() == second.keys()
    for key, value in first.items():
        # Batch norm counts each rank's own images.
        if isinstance(value, torch.Tensor) and 'running_' not in key:
            torch.testing.assert_close(value, second[key], rtol=0, atol=0, msg=key)
    torch.testing.assert_close(steps, other_steps, rtol=0, atol=0)
    checkpoint = work_dir / 'last.pth'
    saved = torch.load(checkpoint, weights_only=False)['state_dict']
    for key, value in saved.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, first[key], rtol=0, atol=0, msg=key)
    subnet = load_subnet(work_dir / 'subnet.yaml')
    assert len(subnet) == 6
    assert len(list(tmp_path.rglob('subnet.yaml'))) == 1
    assert done.stdout.count('Found: ') == 1
    assert done.stdout.count('search   2/2') == 1
