"""What every supernet promises."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, ConfigError, InputError

CONFIGS = {
    'DartsSupernet': {'base_channels': 2, 'num_layers': 3, 'num_nodes': 2},
    'NasBench201Supernet': {'base_channels': 2, 'num_cells': 1},
}
every_supernet = pytest.mark.parametrize('name', CONFIGS)


def build(name: str, **arguments: Any) -> Any:
    cfg = {'type': name, 'in_channels': 2, 'num_classes': 3, **CONFIGS[name], **arguments}
    return mm.build_architecture(cfg)


def prepare(name: str, **arguments: Any) -> tuple[nn.Module, mm.DartsMutator]:
    supernet, mutator = build(name, **arguments), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    return supernet, mutator


@every_supernet
@pytest.mark.parametrize('size', [(4, 4), (5, 7), (8, 6)])
def test_every_parameter_gets_a_gradient(name: str, size: tuple[int, int]) -> None:
    supernet, mutator = prepare(name, affine=True)
    logits = supernet(torch.randn(4, 2, *size))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    parameters = {**dict(supernet.named_parameters()), **mutator.arch_params}
    assert not [key for key, parameter in parameters.items() if parameter.grad is None]


@every_supernet
def test_channels_last_and_float64(name: str) -> None:
    supernet, _ = prepare(name)
    supernet.double()
    images = torch.randn(4, 2, 6, 8, dtype=torch.float64)
    expected = supernet(images)
    supernet.to(memory_format=torch.channels_last)
    out = supernet(images.contiguous(memory_format=torch.channels_last))
    assert out.dtype == torch.float64
    assert_close(out, expected)


@every_supernet
def test_copies_before_prepare(name: str) -> None:
    supernet = build(name)
    images, logits = torch.randn(4, 2, 8, 8), []
    for twin in (copy.deepcopy(supernet), pickle.loads(pickle.dumps(supernet))):
        torch.manual_seed(1)
        mutator = mm.DartsMutator()
        mutator.prepare_from_supernet(twin)
        logits.append(twin(images))
    assert_close(*logits)
    with pytest.raises(BindingError, match='prepare_from_supernet'):
        supernet(images)


@every_supernet
def test_found_network_can_be_copied(name: str) -> None:
    supernet, mutator = prepare(name, affine=True)
    net = mutator.export_subnet(supernet, mutator.random_subnet(seed=0)).eval()
    images = torch.randn(4, 2, 8, 8)
    assert_close(copy.deepcopy(net)(images), net(images))
    assert_close(pickle.loads(pickle.dumps(net))(images), net(images))


@every_supernet
def test_mapping_is_fresh_every_time(name: str) -> None:
    supernet = build(name)
    first, second = supernet.default_placeholder_mapping, supernet.default_placeholder_mapping
    assert first == second
    first['node']['choices']['skip_connect']['norm_cfg']['type'] = 'IN'
    del first['node']['choices']['none']
    assert supernet.default_placeholder_mapping == second
    norm_cfgs = [cfg['norm_cfg'] for cfg in second['node']['choices'].values() if len(cfg) > 1]
    assert len({id(norm_cfg) for norm_cfg in norm_cfgs}) == len(norm_cfgs)


@every_supernet
def test_candidates_by_name(name: str) -> None:
    names = ['skip_connect', 'avg_pool_3x3']
    supernet, mutator = prepare(name, candidates=names)
    every = build(name).default_placeholder_mapping['node']['choices']
    chosen = supernet.default_placeholder_mapping['node']['choices']
    assert chosen == {key: every[key] for key in names}
    assert {len(arch_param) for arch_param in mutator.arch_params.values()} == {2}


@every_supernet
def test_candidates_of_ones_own(name: str) -> None:
    candidates = {'same': {'type': 'Identity'}, 'none': {'type': 'DartsZero'}}
    before = copy.deepcopy(candidates)
    supernet, mutator = prepare(name, candidates=candidates)
    assert supernet(torch.randn(4, 2, 8, 8)).shape == (4, 3)
    assert {
        space['choice_names'] for key, space in mutator.search_spaces.items() if '_p' in key
    }
    assert candidates == before


@every_supernet
@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'candidates': ['skip_conect']}, "'skip_conect' .* mean 'skip_connect'"),
        ({'candidates': 'skip_connect'}, "`candidates` .* but got 'skip_connect'"),
        ({'candidates': []}, r'at least one operation.* but got \[\]'),
        ({'candidates': ['none', 'none']}, r"each of them once, but got \['none', 'none'\]"),
        ({'candidates': {'none': 'DartsZero'}}, "candidate 'none' .* but got 'DartsZero'"),
        ({'candidates': {'none': {}}}, "candidate 'none' .* but got {}"),
        ({'candidates': 3}, '`candidates` .* but got 3'),
        ({'num_classes': 0}, '`num_classes` .* but got 0'),
        ({'in_channels': -3}, '`in_channels` .* but got -3'),
        ({'base_channels': None}, '`base_channels` .* but got None'),
        ({'norm_cfg': {'type': 'NoNorm'}}, "`norm_cfg` .* but got .*'NoNorm'"),
    ],
)
def test_bad_arguments(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **arguments)


@every_supernet
@pytest.mark.parametrize(
    ('images', 'message'),
    [
        (torch.rand(2, 3, 8, 8), r'\(N, 2, H, W\) .* but got shape \(2, 3, 8, 8\)'),
        (torch.rand(2, 8, 8), r'but got shape \(2, 8, 8\)'),
        (torch.rand(2, 8, 8, 2), r'got shape \(2, 8, 8, 2\); images.permute\(0, 3, 1, 2\)'),
        (torch.rand(0, 2, 8, 8), r'N >= 1 .* but got shape \(0, 2, 8, 8\)'),
        (torch.rand(2, 2, 3, 8), r'H, W >= 4, but got shape \(2, 2, 3, 8\)'),
        (torch.rand(2, 2, 8, 1), r'H, W >= 4, but got shape \(2, 2, 8, 1\)'),
        (torch.zeros(2, 2, 8, 8, dtype=torch.uint8), r'floating point .* but got torch.uint8'),
        ([torch.rand(2, 8, 8)], 'but got list'),
        (None, 'but got NoneType'),
    ],
)
def test_bad_images(name: str, images: Any, message: str) -> None:
    supernet, _ = prepare(name)
    with pytest.raises(InputError, match=message):
        supernet(images)
