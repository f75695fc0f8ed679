"""Search by SPOS on the command line: a supernet, an evolution, and a stop in either."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
import torch
from processes import ranks
from tiny_runs import CONFIGS, complaint

import mmrazor_mutators as mm
from mmrazor_mutators import cli
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.evolution import OneShotTrainLoop
from mmrazor_mutators.engine.jobs import build_model

CONFIG = CONFIGS / 'spos' / 'digits.py'
SMALL = {
    'config': CONFIG,
    'train_cfg__evolution__candidate_pool_size': 6,
    'train_cfg__evolution__candidate_top_k': 3,
    'train_cfg__evolution__num_mutation': 3,
    'train_cfg__evolution__num_crossover': 2,
    'train_cfg__evolution__max_epoch': 3,
    'train_cfg__evolution__max_draws': 50,
    'train_cfg__max_epochs': 2,
}


@pytest.fixture(scope='module')
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search, which no test may change."""
    work_dir = tmp_path_factory.mktemp('found')
    with redirect_stdout(io.StringIO()) as out:
        assert tiny_runs.search(work_dir, **SMALL) == 0
    (work_dir / 'out.txt').write_text(out.getvalue())
    return work_dir


def evolved(work_dir: Path) -> Any:
    return json.loads((work_dir / 'evolution.json').read_text())


def test_the_subnet_is_the_best_that_was_evaluated(found: Path) -> None:
    state = evolved(found)
    assert [entry['epoch'] for entry in state['evaluated']] == sorted([0, 1, 2] * 6)
    best = max(state['evaluated'], key=lambda entry: entry['score'])
    subnet = mm.load_subnet(found / 'subnet.yaml')
    assert subnet == best['candidate']
    assert 0 < best['score'] <= 100
    cfg = load_config(CONFIG, tiny_runs.options()[1:])
    model = build_model(cfg, cfg.model)
    model.load_state_dict(tiny_runs.weights_of(found))
    net = model.mutator.export_subnet(model.architecture, subnet)
    assert best['costs']['params'] == sum(p.numel() for p in net.parameters())
    assert best['costs'] == model.get_subnet_costs(subnet)


@pytest.mark.parametrize('stop', ['supernet', pytest.param(8, marks=pytest.mark.slow)])
def test_a_stopped_search_goes_on_bit_for_bit(
    stop: Any, found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'evolution.json').write_text('{"left": "by another run"}')
    with monkeypatch.context() as patch:
        score, calls = mm.SPOS.score, []

        def scoring(self: Any, *args: Any) -> float:
            calls.append(args)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return score(self, *args)

        epoch, epochs = OneShotTrainLoop.run_epoch, []

        def running(self: Any) -> None:
            epochs.append(self)
            if stop == 'supernet' and len(epochs) == 2:
                raise KeyboardInterrupt
            epoch(self)

        patch.setattr(mm.SPOS, 'score', scoring)
        patch.setattr(OneShotTrainLoop, 'run_epoch', running)
        assert tiny_runs.search(tmp_path, **SMALL) == 130
    done = evolved(tmp_path)['evaluated'] if (tmp_path / 'evolution.json').exists() else []
    assert len(done) == {'supernet': 0, 8: 6}[stop]
    assert not (tmp_path / 'subnet.yaml').exists()
    asked = []
    monkeypatch.setattr(
        mm.SPOS, 'score', lambda self, *args: asked.append(args) or score(self, *args)
    )
    assert tiny_runs.search(tmp_path, '--resume', **SMALL) == 0
    assert len(asked) == 18 - len(done)
    assert evolved(tmp_path) == evolved(found)
    for name in ('subnet.yaml', 'evolution.json'):
        assert (tmp_path / name).read_bytes() == (found / name).read_bytes()
    ours, whole = (tiny_runs.weights_of(folder) for folder in (tmp_path, found))
    assert all(torch.equal(ours[key], whole[key]) for key in whole)
    # A run that is done already has nothing left to do.
    asked.clear()
    assert tiny_runs.search(tmp_path, '--resume', **SMALL) == 0
    assert asked == []


def test_retrain_and_export(found: Path, tmp_path: Path) -> None:
    subnet = found / 'subnet.yaml'
    assert tiny_runs.retrain(tmp_path / 'run', subnet, config=CONFIG) == 0
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    assert results['found']['parameters'] > 0
    for checkpoint in (tmp_path / 'run' / 'last.pth', found / 'last.pth'):
        out = tmp_path / f'{checkpoint.parent.name}.pt'
        arguments = [
            '--subnet',
            str(subnet),
            '--checkpoint',
            str(checkpoint),
            '--out',
            str(out),
        ]
        options = tiny_runs.options()
        assert cli.main(['export', str(CONFIG), *arguments, *options]) == 0
        net = torch.load(out, weights_only=False)
        weights = tiny_runs.weights_of(checkpoint.parent)
        key = next(k for k in weights if k.endswith('stem.0.weight'))
        assert torch.equal(net.stem[0].weight, weights[key])


def test_each_generation_is_told(found: Path) -> None:
    out = (found / 'out.txt').read_text()
    lines = re.findall(
        r'^evolution (\d)/3  6 paths  median ([\d.]+)%  best ([\d.]+)%  flops \S+'
        r'(?:  params \S+)?  \S+s$',
        out,
        re.M,
    )
    assert [line[0] for line in lines] == ['1', '2', '3']
    best = max(entry['score'] for entry in evolved(found)['evaluated'])
    assert lines[-1][2] == f'{best:.1f}'


BAD_SETTINGS = {
    'train_cfg.evolution.constraints': (
        '{"flops":1}',
        r'None of the \d+ .* flops from 0 to 1 are',
    ),
    'train_cfg.evolution.nope': (1, "argument 'nope'"),
    'train_cfg.evolution.max_epoch': (0, '`max_epoch` to be .* got 0'),
    'train_cfg.calibration_batches': (-1, '`calibration_batches` to be .* got -1'),
    'train_cfg.arch_dataloader': (None, '`arch_dataloader` .* got None'),
    'train_cfg.arch_dataloader.drop_last': ('true', '`arch_dataloader` has no batch.*has 80'),
    'model.mutator.type': ('DartsMutator', 'an OneShotMutator, but got DartsMutator'),
    'model.input_shape': ('(3,8,8)', r'shape \(3, 8, 8\) do not pass'),
}


@pytest.mark.parametrize('key', BAD_SETTINGS)
def test_bad_setting_before_anything_is_trained(
    key: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_epoch(self: Any) -> None:
        raise AssertionError('nothing may be trained')

    monkeypatch.setattr(OneShotTrainLoop, 'run_epoch', run_epoch)
    value, message = BAD_SETTINGS[key]
    changes = {**SMALL, key.replace('.', '__'): value}
    if key.endswith('drop_last'):
        changes['train_cfg__arch_dataloader__batch_size'] = 256
    kept = dict(tiny_runs.TINY)
    if value is None:
        kept = {k: v for k, v in kept.items() if 'arch_dataloader' not in k}
    monkeypatch.setattr(tiny_runs, 'TINY', kept)
    assert tiny_runs.search(tmp_path, **changes) == 2
    assert re.search(message, complaint(capsys))


def test_another_model(tmp_path: Path, capsys: Any) -> None:
    changes = {'train_cfg__type': 'OneShotTrainLoop'}
    assert tiny_runs.search(tmp_path, **changes) == 2
    assert 'to be SPOS, but got Darts' in complaint(capsys)


def test_an_evolution_of_other_options(found: Path, tmp_path: Path, capsys: Any) -> None:
    work_dir = shutil.copytree(found, tmp_path / 'run')
    changes = {**SMALL, 'train_cfg__evolution__num_mutation': 2}
    assert tiny_runs.search(work_dir, '--resume', **changes) == 2
    assert 'num_mutation was 3 and is 2' in complaint(capsys)
    assert tiny_runs.search(work_dir, '--resume-changed', **changes) == 2
    assert 'num_mutation=2, as here, but got one with 3' in complaint(capsys)
    work_dir = shutil.copytree(found, tmp_path / 'broken')
    (work_dir / 'evolution.json').write_text('{')
    assert tiny_runs.search(work_dir, '--resume', **SMALL) == 2
    assert "evolution.json' cannot be read" in complaint(capsys)


# Each rank keeps its weights and what it evaluated.
RANK = """
import os, sys
import torch
from mmrazor_mutators import cli
from mmrazor_mutators.engine import jobs

train = jobs.train

def keep(runner, progress):
    train(runner, progress)
    evaluated = runner.train_loop.evolution.evaluated
    state = runner.model.state_dict(), [entry._asdict() for entry in evaluated]
    torch.save(state, f'{sys.argv[1]}/rank{os.environ["RANK"]}.pth')

jobs.train = keep
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason='needs gloo',
)
def test_ranks_train_and_find_the_same(tmp_path: Path) -> None:
    changes = {k: v for k, v in SMALL.items() if k != 'config'}
    changes.update(train_cfg__max_epochs=1, train_cfg__evolution__max_epoch=2)
    words = [RANK, str(tmp_path), 'search', str(CONFIG)]
    words += ['--work-dir', str(tmp_path / 'run'), '--launcher', 'pytorch']
    words += tiny_runs.options(**changes)
    env = {**os.environ, 'CUDA_VISIBLE_DEVICES': ''}
    ended = ranks(2, '-c', *words, env=env)
    assert [rank.returncode for rank in ended] == [0, 0], [rank.stderr for rank in ended]
    (first, ours), (second, theirs) = (
        torch.load(tmp_path / f'rank{rank}.pth', weights_only=False) for rank in range(2)
    )
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    assert ours == theirs == evolved(tmp_path / 'run')['evaluated']
    assert len({entry['score'] for entry in ours}) > 1
    said = ''.join(rank.stdout for rank in ended)
    assert len(re.findall(r'evolution +2/2', said)) == 1
