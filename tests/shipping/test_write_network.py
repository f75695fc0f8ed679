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
    'DartsSupernet': {'base_channels': 4, 'num_layers': 3, 'num_nodes': 3},
    'NasBench201Supernet': {'base_channels': 4, 'num_cells': 1},
}
BACKBONES: dict[str, dict[str, Any]] = {
    'SearchableMobileNet': {'widen_factor': 0.1, 'first_channels': 8, 'last_channels': 12},
    'SearchableShuffleNetV2': {'widen_factor': 0.1},
}
WITHOUT_US = """
import sys
sys.modules['mmrazor_mutators'] = sys.modules['mmengine'] = sys.modules['mmcv'] = None
import torch
sys.path.insert(0, sys.argv[1])
from found import load
inputs, expected = torch.load(sys.argv[1] + '/expected.pth')
network = load()
program = torch.export.load(sys.argv[1] + '/found.pt2').module()
with torch.no_grad():
    for x, y in zip(inputs, expected):
        torch.testing.assert_close(network(x), y, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(program(x), y, rtol=1e-6, atol=1e-6)
print('equal')
"""


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
    network = mutator.export_subnet(supernet, subnet)
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


@pytest.mark.parametrize('name', [*SPACES, *BACKBONES, 'ResNet', 'Characters'])
def test_files_agree_with_the_network(name: str, tmp_path: Path) -> None:
    network, x = network_of(name)
    mode = torch.is_grad_enabled()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    for suffix in ('.pt', '.pt2', '.onnx', '.py'):
        for path in mm.write_network(network, tmp_path / f'found{suffix}', x):
            assert path.is_file()
    assert torch.is_grad_enabled() == mode
    assert_close(network.state_dict(), state, rtol=0, atol=0)
    inputs = [x, x[:1]]
    with torch.no_grad():
        expected = [network(x) for x in inputs]
    torch.save((inputs, expected), tmp_path / 'expected.pth')
    words = [sys.executable, '-I', '-c', WITHOUT_US, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout == 'equal\n', done.stderr
    content = (tmp_path / 'found.onnx').read_bytes()
    module = torch.load(tmp_path / 'found.pt', weights_only=False)
    with torch.no_grad():
        for x, outputs in zip(inputs, expected, strict=True):
            assert_close(module(x), outputs, rtol=0, atol=0)
            outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
            assert_close(run_onnx(content, [x]), outputs, rtol=1e-4, atol=1e-5)
