"""A rank that dies ends the others with one line, and any number of ranks goes on."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import python
from runs import ENVIRONMENT, arguments

from mmrazor_mutators import cli
from mmrazor_mutators.engine import lost_ranks
from mmrazor_mutators.engine.runner import _seconds
from mmrazor_mutators.errors import ConfigError, InputError, RankLostError

pytestmark = pytest.mark.skipif(
    os.name == 'nt' or not torch.distributed.is_available(), reason='needs gloo and signals'
)

# One rank sends itself a signal after its fourth step.
RANK = """
import os, sys
from mmrazor_mutators import cli
from mmrazor_mutators.engine.hooks import StopHook

after = StopHook.after_train_iter

def hooked(self, runner, *args, **kwargs):
    if runner.iter == 3 and os.environ['RANK'] == sys.argv[1]:
        os.kill(os.getpid(), int(sys.argv[2]))
    after(self, runner, *args, **kwargs)

StopHook.after_train_iter = hooked
sys.exit(cli.main(sys.argv[3:]))
"""


def end_of(folder: Path, world_size: int, victim: int, number: int = 9, **changes: Any) -> Any:
    """Return how a run ends in which a rank is sent a signal."""
    script = folder / 'rank.py'
    script.write_text(RANK)
    words = arguments('darts by step', folder / 'run', '--launcher', 'pytorch', **changes)
    torchrun = ['-m', 'torch.distributed.run', '--standalone']
    torchrun += ['--nproc_per_node', str(world_size)]
    return python(*torchrun, str(script), str(victim), str(number), *words, env=ENVIRONMENT)


@pytest.mark.parametrize(
    ('world_size', 'victim'),
    [
        (2, 1),
        pytest.param(2, 0, marks=pytest.mark.slow),
        pytest.param(3, 1, marks=pytest.mark.slow),
        pytest.param(4, 0, marks=pytest.mark.slow),
    ],
)
def test_a_rank_dies(world_size: int, victim: int, tmp_path: Path, capsys: Any) -> None:
    done = end_of(tmp_path, world_size, victim)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(said) == 1, done.stderr
    match = re.fullmatch(
        rf'error: rank {victim} \(process \d+ on \S+\) has died or does not answer; the last '
        r'checkpoint is \S+/run/iter_4\.pth \(epoch 1, step 4\), from which any number of '
        r'ranks can go on\. Go on with: mmrazor-mutators search --resume .*',
        said[0],
    )
    assert match, said[0]
    assert 'Traceback' not in done.stderr.split('torch/distributed/elastic')[0]
    assert cli.main(arguments('darts by step', tmp_path / 'run', '--resume')) == 0
    assert 'goes on from iter_4.pth (epoch 1, step 4)' in capsys.readouterr().out
    assert (tmp_path / 'run' / 'subnet.yaml').exists()


@pytest.mark.slow
def test_a_rank_stands_still(tmp_path: Path) -> None:
    done = end_of(tmp_path, 2, 1, 19, env_cfg__dist_cfg__timeout=5)
    said = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(said) == 1, done.stderr
    assert said[0].startswith('error: rank 1 (process')


def test_what_counts_as_a_lost_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = RuntimeError('[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]')
    outer = ConfigError('cannot be built')
    outer.__cause__ = closed
    assert not lost_ranks.is_of_lost_rank(closed)  # There are no others.
    monkeypatch.setattr(lost_ranks, 'world_size', lambda: 2)
    assert lost_ranks.is_of_lost_rank(closed)
    assert lost_ranks.is_of_lost_rank(outer)
    assert not lost_ranks.is_of_lost_rank(RuntimeError('shapes do not fit'))
    assert not lost_ranks.is_of_lost_rank(InputError('gloo'))
    assert not lost_ranks.is_of_lost_rank(RankLostError('gloo'))


@pytest.mark.parametrize('wrong', [0, -1, True, 'long', float('nan')])
def test_a_timeout_that_is_none(wrong: Any) -> None:
    assert _seconds(2.5) == 2.5
    with pytest.raises(ConfigError, match=f'seconds above 0, but got {wrong!r}'):
        _seconds(wrong)
