"""What is suggested works, covers what a reader would choose, and prints as a config."""

from __future__ import annotations

import ast
import copy
import time
from typing import Any

import networks
import pytest
import torch
import yaml
from torch import Tensor, nn

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, InputError
from mmrazor_mutators.mutables import plan_of
from mmrazor_mutators.searchable.rules import find_places, parse_rules

FRACTIONS = [0.25, 0.5, 0.75, 1.0]


def places(model: nn.Module, rules: Any) -> dict[str, dict[str, Any]]:
    """Return ``{kind: {name: value}}`` of rules, as they match."""
    found: dict[str, dict[str, Any]] = {}
    for place in find_places(model, parse_rules(rules)):
        found.setdefault(place.kind, {})[place.name] = place.value
    return found


WIDTHS = {
    'resnet': 'stem layers.0.conv1 layers.0.conv2 layers.1.conv1 layers.1.conv2 '
    'layers.1.down.0 layers.2.conv1 layers.2.conv2',
    'mobilenet': '0 2.conv.0 2.conv.3 2.conv.6 3.conv.0 3.conv.3 3.conv.6',
    'characters': 'embed layers.0.linear2 layers.1.linear2',
    'series': '0 4',
    'unet': 'down1.0 down2.0 up join.0',
    'convnext': 'stem depthwise project expand',
    'vit': 'patches blocks.0.mlp.2 blocks.1.mlp.2',
    'efficient': '0 1.project 2.project 1.expand.0 1.depthwise 1.gate.reduce 1.gate.expand '
    '2.expand.0 2.depthwise 2.gate.reduce 2.gate.expand',
    'encoder': 'embed encoder.layers.0.linear2 encoder.layers.1.linear2',
    'translator': 'embed pair.encoder.layers.0.linear2 pair.decoder.layers.0.linear2 '
    'pair.decoder.layers.1.linear2',
}
TRANSLATING = ['encoder.layers.0', 'decoder.layers.0', 'decoder.layers.1']
RESNET = WIDTHS['resnet'].split()
OTHERS: dict[str, dict[str, dict[str, Any]]] = {
    'resnet': {
        # The strided one would leave pixels out.
        'kernel_size': {
            name: [1, 3] for name in RESNET if name not in ('layers.1.conv1', 'layers.1.down.0')
        },
        'depth': {'layers.0': True, 'layers.2': True},
    },
    'mobilenet': {'kernel_size': {'2.conv.3': [1, 3, 5]}, 'depth': {'2': True}},
    'characters': {
        'ffn': {f'layers.{i}.linear1': FRACTIONS for i in range(2)},
        'heads': {f'layers.{i}.self_attn': [1, 2, 4] for i in range(2)},
        'depth': {f'layers.{i}': True for i in range(2)},
    },
    'series': {'kernel_size': {'0': [1, 3, 5, 7], '4': [1, 3, 5]}},
    'unet': {'kernel_size': {'down1.0': [1, 3], 'join.0': [1, 3]}},
    'convnext': {'kernel_size': {'depthwise': [1, 3, 5]}},
    'vit': {
        'ffn': {f'blocks.{i}.mlp.0': FRACTIONS for i in range(2)},
        'heads': {f'blocks.{i}.attn': [1, 2, 4] for i in range(2)},
        'depth': {f'blocks.{i}': True for i in range(2)},
    },
    'efficient': {
        'kernel_size': {'1.depthwise': [1, 3], '2.depthwise': [1, 3]},
        'depth': {'1': True, '2': True},
    },
    'encoder': {
        'ffn': {f'encoder.layers.{i}.linear1': FRACTIONS for i in range(2)},
        'heads': {f'encoder.layers.{i}.self_attn': [1, 2, 4] for i in range(2)},
        'depth': {f'encoder.layers.{i}': True for i in range(2)},
    },
    'translator': {
        'ffn': {f'pair.{layer}.linear1': FRACTIONS for layer in TRANSLATING},
        'heads': {
            **{f'pair.{layer}.self_attn': [1, 2, 4] for layer in TRANSLATING},
            **{f'pair.{layer}.multihead_attn': [1, 2, 4] for layer in TRANSLATING[1:]},
        },
        'depth': {f'pair.{layer}': True for layer in TRANSLATING},
    },
}


@pytest.mark.parametrize('name', networks.CASES)
def test_suggestions_are_what_a_reader_would_choose(name: str) -> None:
    torch.manual_seed(0)
    case = networks.CASES[name]
    model, x = case.build(), case.inputs()
    twin = copy.deepcopy(model)
    rules = mm.suggest_rules(model, x)
    expected = dict(OTHERS[name])
    if WIDTHS[name]:
        expected['width'] = dict.fromkeys(WIDTHS[name].split(), FRACTIONS)
    assert places(model, rules) == expected
    # Nothing has changed.
    assert [type(m) for m in model.modules()] == [type(m) for m in twin.modules()]
    assert list(model.state_dict()) == list(twin.state_dict())
    assert all(a.equal(b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert all(a.equal(b) for a, b in zip(model.buffers(), twin.buffers(), strict=True))
    assert plan_of(model) is None
    # It is a config, however it is written down.
    for read in (ast.literal_eval, yaml.safe_load):
        assert read(str(rules)) == list(rules)
    assert yaml.safe_load(yaml.safe_dump(list(rules))) == list(rules)
    assert max(map(len, str(rules).split('# left out')[0].splitlines())) <= 100
    supernet = mm.make_searchable(model, rules, x)
    mutator = mm.build_mutator({'type': 'DartsMutator'})
    mutator.prepare_from_supernet(supernet)
    smallest = {
        space_id: {'chosen': [space['choice_names'][0]]}
        for space_id, space in mutator.search_spaces.items()
    }
    net = mutator.export_subnet(supernet, smallest)
    share = sum(p.numel() for p in net.parameters()) / sum(p.numel() for p in twin.parameters())
    assert share < 0.75
    assert net(x).shape == twin(x).shape


CONVS: list[tuple[Any, list[Any] | None]] = [
    (nn.Conv2d(3, 3, 3, padding=1), [1, 3]),
    (nn.Conv2d(3, 3, 7, stride=2, padding=3), [3, 5, 7]),
    (nn.Conv2d(3, 3, 4, padding=2), [2, 4]),
    (nn.Conv2d(3, 3, (3, 5), padding=(1, 2)), [[1, 1], [3, 3], [3, 5]]),
    (nn.Conv2d(3, 3, (1, 5), padding=(0, 2)), [[1, 1], [1, 3], [1, 5]]),
    (nn.Conv2d(3, 3, 3, padding=2, dilation=2), [1, 3]),
    (nn.Conv2d(3, 3, 5, padding='same'), [1, 3, 5]),
    (nn.Conv2d(3, 3, 5, padding=1), [3, 5]),  # Further in, the map would grow.
    (nn.Conv2d(3, 3, 3), None),
    (nn.Conv2d(3, 3, 4, 4), None),
    (nn.Conv2d(3, 3, 1), None),
    (nn.ConvTranspose2d(3, 3, 3, padding=1), None),
]


@pytest.mark.parametrize('number', range(len(CONVS)))
def test_kernels(number: int) -> None:
    conv, sizes = CONVS[number]
    rules = mm.suggest_rules(nn.Sequential(conv), torch.randn(1, 3, 16, 16))
    assert list(rules) == ([{'match': '0', 'kernel_size': sizes}] if sizes else [])
    assert ast.literal_eval(str(rules)) == list(rules)


class Viewed(nn.Module):
    """The width of the second layer is written down, that of the first is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 6)
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.second(self.first(x).relu()).view(-1, 2, 3)).sum(1)


def test_what_is_refused_is_left_out_with_its_reason() -> None:
    rules = mm.suggest_rules(Viewed(), torch.randn(3, 4))
    assert list(rules) == [{'match': 'first', 'width': FRACTIONS}]
    (reason,) = rules.left_out
    assert 'second' in reason
    assert f'  # left out: {reason}' in str(rules)


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(2, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x).mean(-1)).detach()


def test_without_a_trace_there_are_no_widths() -> None:
    rules = mm.suggest_rules(Detached(), torch.randn(3, 2, 8))
    assert list(rules) == [{'match': 'conv', 'kernel_size': [1, 3]}]
    assert rules.left_out == (
        'no widths: the outputs of the model depend on none of its layers',
    )


class Residual(nn.Module):
    def __init__(self, *parts: nn.Module, end: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.end = nn.Sequential(*parts), end or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.end(x + self.body(x))


BLOCKS = {
    'pre-norm': (Residual(nn.LayerNorm(4), nn.Linear(4, 4)), True),
    'post-norm': (Residual(nn.Linear(4, 4), end=nn.LayerNorm(4)), True),
    'activated': (Residual(nn.Linear(4, 4), end=nn.ReLU()), True),
    'plain': (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), False),
    'no parameters': (nn.Sequential(nn.ReLU(), nn.Tanh()), False),
    'norms alone': (nn.Sequential(nn.LayerNorm(4), nn.ReLU()), False),
}


@pytest.mark.parametrize('name', BLOCKS)
def test_residual_blocks_are_recognised(name: str) -> None:
    block, residual = BLOCKS[name]
    model = nn.Sequential(nn.Linear(3, 4), copy.deepcopy(block), nn.Linear(4, 2))
    found = places(model, mm.suggest_rules(model, torch.randn(5, 3)))
    assert found.get('depth', {}) == ({'1': True} if residual else {})


def test_names_with_wildcards_match_themselves_alone() -> None:
    model = nn.Sequential()
    model.add_module('a[1]', nn.Linear(3, 4))
    model.add_module('a1', nn.Linear(4, 4))
    model.add_module('out*', nn.Linear(4, 2))
    found = places(model, mm.suggest_rules(model, torch.randn(2, 3)))
    assert set(found['width']) == {'a[1]', 'a1'}


def test_inputs_and_supernets_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with pytest.raises(InputError, match='do not pass Sequential'):
        mm.suggest_rules(model, torch.randn(2, 5))
    x = torch.randn(2, 3)
    mm.make_searchable(model, mm.suggest_rules(model, x), x)
    with pytest.raises(BindingError, match='is a supernet already'):
        mm.suggest_rules(model, x)


@pytest.mark.parametrize('name', ['resnet18', 'mobilenetv2_050', 'vit_tiny_patch16_224'])
def test_models_of_timm(name: str) -> None:
    timm = pytest.importorskip('timm')
    begun = time.process_time()
    side = 224 if name.startswith('vit') else 64
    model, x = timm.create_model(name, num_classes=7), torch.randn(1, 3, side, side)
    rules = mm.suggest_rules(model, x)
    kinds = {kind for rule in rules for kind in rule} - {'match'}
    assert kinds >= ({'ffn', 'depth'} if side == 224 else {'width', 'kernel_size', 'depth'})
    expected = model.eval()(x)
    assert mm.make_searchable(model, rules, x)(x).equal(expected)
    assert time.process_time() - begun < 60
