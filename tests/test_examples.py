"""The worked examples at small size: their scripts, and their configs on the command line."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from examples import comparing
from examples.models import Characters, MobileNet, ResNet, Series, UNet
from mmrazor_mutators import cli
from mmrazor_mutators.costs import time_in_turns
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.extensions import clocked

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = {
    'resnet': ResNet,
    'mobilenet': MobileNet,
    'characters': Characters,
    'series': Series,
    'unet': UNet,
}
every = pytest.mark.parametrize('name', EXAMPLES)
# The budget of one of them is of milliseconds, which have to be measured again and again.
run_all = pytest.mark.parametrize(
    'name',
    [pytest.param(name, marks=[pytest.mark.slow] * (name == 'mobilenet')) for name in EXAMPLES],
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def briefly(nets: Any, arguments: Any, seconds: float) -> list[list[float]]:
        return time_in_turns(nets, arguments, seconds / 20)

    for module in (clocked, comparing):
        monkeypatch.setattr(module, 'time_in_turns', briefly)
    return tmp_path


@run_all
def test_the_script_compares_three_networks_of_which_one_was_found(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = [name, '--epochs', '1', '--samples', '96', '--out', 'runs.jsonl']
    if name == 'mobilenet':
        argv += ['--budget', '0.9']  # On a busy machine calls take more than what is in them.
    monkeypatch.setattr('sys.argv', argv)
    runpy.run_module(f'examples.{name}', run_name='__main__')
    (line,) = (folder / 'runs.jsonl').read_text().splitlines()
    run = json.loads(line)
    full, uniform, found = (run[k] for k in ('full network', 'uniform scaling', 'found'))
    extensions = load_config(ROOT / f'configs/examples/{name}.py').model.mutator.extensions
    budget = next(each for each in extensions if each['type'] == 'Budget')
    for metric in ('params', 'macs'):
        if metric in budget:
            limit = budget[metric] * full[metric]
            assert 0.97 * limit <= found[metric] <= limit
            assert uniform[metric] <= limit
            assert found[f'{metric} of budget'] == pytest.approx(found[metric] / limit)
    assert found['params'] < full['params']
    assert all(0 <= one['accuracy'] <= 100 for one in (full, uniform, found))


@every
def test_scripts_and_models_are_short(name: str) -> None:
    assert len((ROOT / f'examples/{name}.py').read_text().splitlines()) <= 60
    assert len((ROOT / f'configs/examples/{name}.py').read_text().splitlines()) <= 60
    network: nn.Module = EXAMPLES[name](width=0.3)
    assert sum(p.numel() for p in network.parameters()) < sum(
        p.numel() for p in EXAMPLES[name]().parameters()
    )


@run_all
def test_the_config_searches_and_retrains(name: str, folder: Path) -> None:
    config = str(ROOT / f'configs/examples/{name}.py')
    limits = [
        f'{part}.dataset.limit=64'
        for part in ('train_dataloader', 'train_cfg.arch_dataloader', 'test_dataloader')
    ]
    options = ['--cfg-options', *limits, 'train_cfg.max_epochs=1']
    options.append('retrain.train_cfg.max_epochs=1')
    if name == 'mobilenet':
        profile = ['profile', config, '--out', 'work_dirs/latency.json', '--threads', '1']
        assert cli.main(profile) == 0
        options.append('model.mutator.extensions.0.latency_ms=0.9')
    assert cli.main(['search', config, '--work-dir', 'run', *options]) == 0
    subnet = ['--subnet', 'run/subnet.yaml']
    assert cli.main(['retrain', config, '--work-dir', 'again', *subnet, *options]) == 0
    results = json.loads((folder / 'again' / 'results.json').read_text())
    full = sum(p.numel() for p in EXAMPLES[name]().parameters())
    assert results['found']['parameters'] < full
