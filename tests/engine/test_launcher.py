"""Two processes, under torchrun too: they end with the same, and report what they end with."""

from __future__ import annotations

import json
import os
import re

import pytest
import torch
from processes import python, ranks
from tiny_runs import NB201, TINY

from mmrazor_mutators.builder import build_algorithm
from mmrazor_mutators.datasets import Digits
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.exporting import load_weights
from mmrazor_mutators.mutables import dump_subnet, load_subnet

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
code = cli.main(sys.argv[2:])
# A group that is left to Python's end may abort the process there.
assert not torch.distributed.is_initialized()
sys.exit(code)
"""


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason='needs gloo',
)
def test_ranks_end_with_the_same(tmp_path):
    script, work_dir = tmp_path / 'rank.py', tmp_path / 'run'
    script.write_text(RANK)
    settings = [f'{key}={value}' for key, value in {**TINY, 'train_cfg.max_epochs': 2}.items()]
    search = ['search', NB201, '--work-dir', str(work_dir), '--launcher', 'pytorch']
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2']
    done = python(
        *[*torchrun, str(script), str(tmp_path), *search, '--cfg-options', *settings],
        env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Traceback' not in done.stderr
    (first, steps), (second, other_steps) = (
        torch.load(tmp_path / f'rank{rank}.pth', weights_only=False) for rank in range(2)
    )
    assert first.keys() == second.keys()
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
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
    assert len(re.findall(r'search +2/2', done.stdout)) == 1


def test_retraining_reports_the_accuracy_of_its_checkpoint(tmp_path):
    subnet = {f'n{i}_p{j}': {'chosen': ['nor_conv_3x3']} for i in range(1, 4) for j in range(i)}
    dump_subnet(subnet, tmp_path / 'subnet.yaml')
    settings = ['model.architecture.base_channels=4', 'retrain.train_cfg.max_epochs=2']
    words = ['-m', 'mmrazor_mutators', 'retrain', NB201, '--subnet', 'subnet.yaml']
    words += ['--work-dir', 'run', '--launcher', 'pytorch', '--cfg-options', *settings]
    env = {**os.environ, 'CUDA_VISIBLE_DEVICES': ''}
    ended = ranks(2, *words, env=env, cwd=tmp_path)
    assert [rank.returncode for rank in ended] == [0, 0], [rank.stderr for rank in ended]
    assert {path.name for path in tmp_path.iterdir()} == {'run', 'subnet.yaml'}
    cfg = load_config(tmp_path / 'run' / 'config.py')
    model = build_algorithm({**cfg.model, 'retraining': True, 'mutable_cfg': subnet})
    model.load_state_dict(load_weights(tmp_path / 'run' / 'last.pth'))
    images, labels = zip(*Digits('test', transform=[{'type': 'Normalize'}]), strict=True)
    with torch.no_grad():
        right = model.eval()(torch.stack(images)).argmax(1) == torch.tensor(labels)
    result = json.loads((tmp_path / 'run' / 'results.json').read_text())['found']
    assert result['accuracy'] == pytest.approx(100 * float(right.double().mean()), abs=1e-9)
