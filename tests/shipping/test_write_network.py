"""Files of networks found agree with the networks, without this library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, HostError, InputError
from mmrazor_mutators.shipping.graphs import constructor_of
from mmrazor_mutators.shipping.onnx_files import run_onnx

EXAMPLES = Path(__file__).resolve().parents[2] / 'examples'
SPACES: dict[str, dict[str, Any]] = {
    'DartsSupernet': {'base_channels': 4, 'num_layers': 3, 'num_nodes': 2},
    'NasBench201Supernet': {'base_channels': 4, 'num_cells': 1},
}
BACKBONES: dict[str, dict[str, Any]] = {
    'SearchableMobileNet': {'widen_factor': 0.1, 'first_channels': 8, 'last_channels': 12},
    'SearchableShuffleNetV2': {'widen_factor': 0.1},
}
WITHOUT_US = """
import importlib
import sys
sys.modules['mmrazor_mutators'] = sys.modules['mmengine'] = sys.modules['mmcv'] = None
import torch
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    inputs, expected = torch.load(f'{sys.argv[1]}/{name}.expected')
    network = importlib.import_module(name).load()
    program = torch.export.load(f'{sys.argv[1]}/{name}.pt2').module()
    with torch.no_grad():
        for x, y in zip(inputs, expected):
            torch.testing.assert_close(network(x), y, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(program(x), y, rtol=1e-6, atol=1e-6)
    print(name)
"""
NAMES = [*SPACES, *BACKBONES, 'ResNet', 'Characters']


def network_of(name: str) -> tuple[nn.Module, Tensor]:
    """Find a small network, and inputs for it."""
    x = torch.randn(3, 3, 32, 32)
    mutator: Any = mm.DartsMutator()
    if name in SPACES:
        cfg = {'type': name, 'in_channels': 3, 'num_classes': 5, **SPACES[name]}
        supernet = mm.build_architecture(cfg)
    elif name in BACKBONES:
        supernet = mm.build_architecture({'type': name, **BACKBONES[name]})
        mapping = supernet.default_placeholder_mapping
        for cfg in mapping.values():
            keys = list(cfg['choices'])
            cfg['choices'] = {key: cfg['choices'][key] for key in (keys[0], keys[-1])}
        mutator = mm.RandomMutator(placeholder_mapping=mapping)
    else:
        supernet, x = converted(name)
    mutator.prepare_from_supernet(supernet)
    if name in BACKBONES:
        subnet = mutator.search_subnet()
    else:
        subnet = mutator.random_subnet(3)
    network: Any = mutator.export_subnet(supernet, subnet)
    if name in BACKBONES:
        # The blocks of a stage are alike, but for the stride of the first.
        for number, stage in enumerate(network.layers):
            if isinstance(stage, nn.Sequential):
                del stage[2 if number < 2 else 1 :]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval(), x


def converted(name: str) -> tuple[nn.Module, Tensor]:
    """Make a network of somebody else's searchable."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import models
    finally:
        sys.path.remove(str(EXAMPLES))
    if name == 'ResNet':
        model, x = models.ResNet(in_channels=3, base=4), torch.randn(3, 3, 16, 16)
        rules = [
            {'match': 'layers.*.conv1', 'width': [0.5, 1.0], 'kernel_size': [1, 3]},
            {'match': 'layers.1', 'depth': True},
        ]
    else:
        model, x = models.Characters(11, 8, layers=2), torch.randint(0, 11, (3, 8))
        rules = [
            {'match': 'TransformerEncoderLayer', 'ffn': [0.5, 1.0]},
            {'match': 'layers.1', 'depth': True},
        ]
    return mm.make_searchable(model, rules, x), x


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name == 'SearchableMobileNet'))
        for name in NAMES
    ],
)
def test_modules_and_onnx_agree_with_the_network(name: str, tmp_path: Path) -> None:
    network, x = network_of(name)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    for suffix in ('.pt', '.onnx'):
        assert mm.write_network(network, tmp_path / f'found{suffix}', x)[0].is_file()
    assert_close(network.state_dict(), state, rtol=0, atol=0)
    content = (tmp_path / 'found.onnx').read_bytes()
    module = torch.load(tmp_path / 'found.pt', weights_only=False)
    with torch.no_grad():
        for inputs in (x, x[:1]):
            outputs = network(inputs)
            assert_close(module(inputs), outputs, rtol=0, atol=0)
            outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
            assert_close(run_onnx(content, [inputs]), outputs, rtol=1e-4, atol=1e-5)


def test_programs_and_sources_do_without_this_library(tmp_path: Path) -> None:
    for name in NAMES:
        network, x = network_of(name)
        for suffix in ('.pt2', '.py'):
            mm.write_network(network, tmp_path / f'{name}{suffix}', x)
        inputs = [x, x[:1]]
        with torch.no_grad():
            expected = [network(x) for x in inputs]
        torch.save((inputs, expected), tmp_path / f'{name}.expected')
    words = [sys.executable, '-I', '-c', WITHOUT_US, str(tmp_path), *NAMES]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == NAMES, done.stderr


def test_source_shows_layers(tmp_path: Path) -> None:
    tied = nn.Linear(4, 4)
    network = nn.Sequential(tied, nn.PReLU(), nn.Linear(4, 4)).train()
    network[2].weight = tied.weight
    x = torch.randn(2, 4)
    mm.write_network(network, tmp_path / 'net.py', x)
    assert network.training
    text = (tmp_path / 'net.py').read_text()
    assert 'self.layer_0 = nn.Linear(4, 4)' in text
    assert '_1 = self.layer_1(_0)' in text
    scope: dict[str, Any] = {'__file__': str(tmp_path / 'net.py')}
    exec(text, scope)
    written = scope['load']()
    assert written.layer_0.weight is written.layer_2.weight
    assert_close(written(x), network(x), rtol=0, atol=0)
    assert not written.training


@pytest.mark.parametrize(
    ('layer', 'code'),
    [
        (nn.Conv2d(2, 4, (3, 5), groups=2), 'nn.Conv2d(2, 4, (3, 5), groups=2)'),
        (
            nn.AvgPool2d(3, 1, 1, count_include_pad=False),
            'nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)',
        ),
        (
            nn.BatchNorm2d(3, eps=1e-3, affine=False),
            'nn.BatchNorm2d(3, eps=0.001, affine=False)',
        ),
        (nn.LayerNorm(4, bias=False), 'nn.LayerNorm((4,), bias=False)'),
        (nn.MultiheadAttention(4, 2, bias=False, batch_first=True), None),
        (type('Mine', (nn.ReLU,), {})(), None),
    ],
)
def test_constructors(layer: nn.Module, code: str | None) -> None:
    if isinstance(layer, nn.MultiheadAttention):
        layer.in_proj_weight = None
    assert constructor_of(layer) == code


class Growing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if float(x.sum()) > 0 else x


@pytest.mark.parametrize('suffix', ['.pt2', '.onnx', '.py'])
def test_what_cannot_be_followed_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f'net{suffix}'
    path.write_text('mine')
    with pytest.raises(ConfigError, match=r'network cannot be written as .*; \.pt takes every'):
        mm.write_network(Growing(), path, torch.ones(2, 3))
    assert path.read_text() == 'mine'
    mm.write_network(Growing(), tmp_path / 'net.pt', torch.ones(2, 3))


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


@pytest.mark.parametrize('suffix', ['.pt', '.py', '.onnx'])
def test_what_computes_something_else_is_not_written(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'something else than the network .*Greatest'):
        mm.write_network(Random(), tmp_path / f'net{suffix}', torch.ones(2, 3))
    assert not list(tmp_path.iterdir())


def test_names_inputs_and_networks_that_do_not_do(tmp_path: Path) -> None:
    network, x = nn.Linear(3, 2), torch.ones(2, 3)
    with pytest.raises(ConfigError, match=r"Cannot export to 'net.onx'.*\.onnx"):
        mm.write_network(network, tmp_path / 'net.onx', x)
    with pytest.raises(ConfigError, match=r"'my-net.py': expected a name that Python"):
        mm.write_network(network, tmp_path / 'my-net.py', x)
    for bad in (x[:1], (), (x, None), 3):
        with pytest.raises(InputError, match='at least two samples'):
            mm.write_network(network, tmp_path / 'net.pt', bad)
    searching = mm.DifferentiableOP(space_id='a', choices={'x': nn.Linear(3, 2)})
    with pytest.raises(ConfigError, match='still has something to search'):
        mm.write_network(searching, tmp_path / 'net.pt', x)
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match=r'Cannot write .*net\.pt'):
        mm.write_network(network, tmp_path / 'file' / 'net.pt', x)


@pytest.mark.parametrize('name', ['onnx', 'onnxscript', 'onnxruntime'])
def test_what_is_not_installed_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(HostError, match=rf'needs {name}, .*mmrazor-mutators\[onnx\]'):
        mm.write_network(nn.Linear(3, 2), tmp_path / 'net.onnx', torch.ones(2, 3))
