"""A model of the user's own is searched, retrained and exported by its config."""

from __future__ import annotations

import re

import pytest
import tiny_runs
import torch
from tiny_runs import CONFIGS, complaint, options
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators import cli

CONFIG = CONFIGS / 'searchable' / 'digits_convnet.py'


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """A finished search, which no test may change."""
    work_dir = tmp_path_factory.mktemp('found')
    assert tiny_runs.search(work_dir, config=CONFIG) == 0
    return work_dir


def parameters_of(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize('suffix', ['pt', 'pt2'])
@pytest.mark.parametrize('of', ['search', 'retraining'])
def test_search_retrain_export(of, suffix, found, tmp_path, capsys):
    subnet = {
        '0': {'chosen': ['w4']},
        '0:kernel_size': {'chosen': ['k3']},
        '3': {'chosen': ['w24']},
        'activation': {'chosen': ['silu']},
    }
    assert set(mm.load_subnet(found / 'subnet.yaml')) == set(subnet)
    mm.dump_subnet(subnet, tmp_path / 'subnet.yaml')
    work_dir = found
    if of == 'retraining':
        work_dir = tmp_path / 'run'
        assert tiny_runs.retrain(work_dir, tmp_path / 'subnet.yaml', config=CONFIG) == 0
        assert (work_dir / 'results.json').is_file()
    out = tmp_path / f'net.{suffix}'
    arguments = ['--subnet', str(tmp_path / 'subnet.yaml'), '--out', str(out)]
    arguments += ['--checkpoint', str(work_dir / 'last.pth'), *options(CONFIG)]
    assert cli.main(['export', str(CONFIG), *arguments]) == 0, capsys.readouterr().err
    if suffix == 'pt2':
        net = torch.export.load(out).module()
    else:
        net = torch.load(out, weights_only=False)
        assert [type(m) for m in net][:4] == [nn.Conv2d, nn.BatchNorm2d, nn.SiLU, nn.Conv2d]
        assert net[0].kernel_size == (3, 3)
    counts = [9 * 4 + 4, 2 * 4, 9 * 4 * 24 + 24, 2 * 24, 4 * 24 * 10 + 10]
    assert parameters_of(net) == sum(counts)
    weights = tiny_runs.weights_of(work_dir)
    first, head = (weights[f'architecture.{key}.weight'] for key in (0, 8))
    mine = dict(net.state_dict())
    if of == 'search':
        assert mine['0.weight'].equal(first[:4, :, 1:4, 1:4])
        assert mine['8.weight'].equal(head[:, : 4 * 24])
    else:
        assert mine['0.weight'].equal(first)
        assert mine['8.weight'].equal(head)


def test_a_search_of_what_is_suggested(tmp_path):
    config = CONFIGS / 'searchable' / 'digits_suggested.py'
    assert tiny_runs.search(tmp_path, config=config) == 0
    subnet = mm.load_subnet(tmp_path / 'subnet.yaml')
    assert {'0', '2', '0:kernel_size', '3/linear_conv/conv'} <= {*subnet}
    assert tiny_runs.retrain(tmp_path / 'run', tmp_path / 'subnet.yaml', config=config) == 0


@pytest.mark.parametrize(
    ('key', 'value', 'expected'),
    [
        ('rules', 'propose', r"a list of rules or 'suggest', but got 'propose'"),
        ('rules', "[{'match': 'Conv3d', 'width': [4]}]", "did you mean 'Conv2d'"),
        ('rules', "[{'match': '0', 'width': [0]}]", r"At '0' \(Conv2d\).* but got 0"),
        ('example_inputs', '[1, 3, 8, 8]', r'do not pass Sequential.*\(in .0., Conv2d\)'),
        ('example_inputs', "'x'", r"a shape such as .* but got 'x'"),
        ('model', 'torch.nn.Nope', "'torch.nn.Nope' is not a registered model"),
        ('model', "['builtins.dict']", "'builtins.dict' to build an nn.Module.* dict"),
        ('model', '5', r'Expected `model` to be a module, .* but got 5'),
    ],
)
def test_bad_settings(key, value, expected, tmp_path, capsys):
    changes = {f'model__architecture__{key}': value}
    assert tiny_runs.search(tmp_path / 'run', config=CONFIG, **changes) == 2
    line = complaint(capsys)
    assert re.search(expected, line), line
    assert not (tmp_path / 'run').exists()
