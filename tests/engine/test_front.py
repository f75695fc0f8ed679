"""The verbs profile and front, on settings that take seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_runs

from mmrazor_mutators import cli
from mmrazor_mutators.engine.costing import parse_budgets
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.extensions import clocked
from mmrazor_mutators.mutables import load_subnet

CONFIG = tiny_runs.CONFIGS / 'searchable' / 'digits_convnet.py'


def front(work_dir: Path, *arguments: str, budget: str = 'params=0.4,0.8') -> int:
    return tiny_runs.run('front', CONFIG, work_dir, '--budget', budget, *arguments)


def test_front_writes_subnets_table_and_picture(tmp_path: Path, capsys: Any) -> None:
    assert front(tmp_path) == 0
    out = capsys.readouterr().out
    assert 'Accuracy against parameters' in out
    content = json.loads((tmp_path / 'front.json').read_text())
    assert content['metric'] == 'params'
    for point, share in zip(content['points'], (0.4, 0.8), strict=True):
        assert point['budget'] == share
        assert 0.85 * point['limit'] <= point['cost'] <= point['limit']
        folder = Path(point['folder'])
        results = json.loads((folder / 'retrain' / 'results.json').read_text())
        assert results['found']['parameters'] == point['cost']
        assert results['found']['accuracy'] == point['accuracy']
        assert load_subnet(folder / 'subnet.yaml')
    assert (tmp_path / 'front.png').read_bytes().startswith(b'\x89PNG')
    # What is finished is kept, and what is new is added.
    before = (tmp_path / 'params_0.4' / 'subnet.yaml').stat().st_mtime_ns
    assert front(tmp_path, '--resume', budget='params=0.4,0.6') == 0
    assert (tmp_path / 'params_0.4' / 'subnet.yaml').stat().st_mtime_ns == before
    points = json.loads((tmp_path / 'front.json').read_text())['points']
    assert [point['budget'] for point in points] == [0.4, 0.6]


def test_impossible_budgets_end_before_the_first_search(tmp_path: Path, capsys: Any) -> None:
    assert front(tmp_path, budget='params=0.5,0.0001') == 2
    assert 'No network of this space' in capsys.readouterr().err
    assert not (tmp_path / 'params_0.5').exists()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('mac=0.5', "such as macs=0.3,0.5,0.7, but got 'mac=0.5'; did you mean 'macs'"),
        ('macs=0.5,x', 'Expected numbers after macs='),
        ('macs', 'Expected numbers after macs='),
    ],
)
def test_budgets_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_budgets(text)


def test_profile_writes_a_file_and_adds_to_it(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / 'latency.json'
    command = ['profile', str(CONFIG), '--out', str(out), '--threads', '1']
    assert cli.main(command) == 0
    first = json.loads(out.read_text())
    assert first['where']['threads'] == 1
    assert cli.main(command) == 0
    assert '0 layers were measured' in capsys.readouterr().out
    assert json.loads(out.read_text()) == first
    assert cli.main([*command, '--device', 'nowhere']) == 2
    assert "There is no device 'nowhere' here" in capsys.readouterr().err


def layers(nets: list[Any], arguments: Any, seconds: float) -> list[list[float]]:
    """What a clock would say, if each parameter took a microsecond."""
    return [[1e-6 * sum(p.numel() for p in net.parameters())] for net in nets]


def test_milliseconds_are_those_of_the_clock(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / 'latency.json'
    assert cli.main(['profile', str(CONFIG), '--out', str(profile), '--threads', '1']) == 0
    monkeypatch.setattr(clocked, 'time_in_turns', layers)
    extensions = f'[{{"type":"Budget","latency_ms":0.7,"profile":"{profile}"}}]'
    budgets = ('--budget', 'latency_ms=0.7')
    work_dir = tmp_path / 'front'
    changed = {'model__mutator__extensions': extensions}
    assert tiny_runs.run('front', CONFIG, work_dir, *budgets, **changed) == 0
    assert 'ms by the clock, of' in capsys.readouterr().out
    (point,) = json.loads((work_dir / 'front.json').read_text())['points']
    folder = Path(point['folder'])
    said = json.loads((folder / 'clock.json').read_text())
    assert (said['limit'], said['takes']) == (point['limit'], point['cost'])
    results = json.loads((folder / 'retrain' / 'results.json').read_text())
    assert point['cost'] == pytest.approx(1e-3 * results['found']['parameters'])
    assert point['cost'] <= point['limit']
    # Where no clock can be asked, the network by the profile is kept.
    profile.write_text(profile.read_text().replace('"torch": "', '"torch": "0.'))
    work_dir = tmp_path / 'elsewhere'
    assert tiny_runs.run('search', CONFIG, work_dir, **changed) == 0
    assert 'By the profile alone: The profile' in capsys.readouterr().out
    assert load_subnet(work_dir / 'subnet.yaml')
    assert not (work_dir / 'clock.json').exists()
    # Nor is what a clock once said of another network.
    shutil.copy(folder / 'clock.json', work_dir)
    assert tiny_runs.run('search', CONFIG, work_dir, '--resume', **changed) == 0
    assert not (work_dir / 'clock.json').exists()
