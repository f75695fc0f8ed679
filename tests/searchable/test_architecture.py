"""A model of the user's own as the architecture of a config."""

from __future__ import annotations

import copy
import sys
from typing import Any

import networks
import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.mutables import plan_of
from mmrazor_mutators.mutables.layers import original_class
from mmrazor_mutators.searchable.architecture import example_tensors

RULES: list[dict[str, Any]] = [{'match': '0', 'width': [0.5, 1.0]}]


def linear(ins: int, outs: int) -> dict[str, Any]:
    return {'type': 'torch.nn.Linear', 'in_features': ins, 'out_features': outs}


def build(**arguments: Any) -> nn.Module:
    cfg = {'type': 'Searchable', 'rules': RULES, 'example_inputs': [2, 4], **arguments}
    before = copy.deepcopy(cfg)
    built = mm.build_architecture(cfg)
    if not isinstance(cfg.get('model'), nn.Module):
        assert cfg == before
    return built


def test_a_model_is_a_config_a_path_a_list_or_a_module() -> None:
    layers = [linear(4, 8), 'torch.nn.ReLU', linear(8, 2)]
    assert [original_class(m) for m in build(model=layers)] == [nn.Linear, nn.ReLU, nn.Linear]
    cfg = {'type': 'torch.nn.TransformerEncoderLayer', 'd_model': 4, 'nhead': 2}
    rules = [{'match': 'self_attn', 'heads': [1]}]
    built = build(model={**cfg, 'dropout': 0.0}, rules=rules, example_inputs=[3, 2, 4])
    assert built.self_attn.num_heads == 2
    module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    for _ in range(2):
        built = build(model=module)
        assert all(
            p.equal(q) for p, q in zip(built.parameters(), module.parameters(), strict=True)
        )
    assert plan_of(module) is None
    sys.modules['networks'] = networks
    built = build(model='networks.ResNet', rules='suggest', example_inputs=[1, 3, 8, 8])
    assert type(built) is networks.ResNet


def test_example_inputs() -> None:
    x = example_tensors([2, 3])
    assert x.shape == (2, 3)
    assert x.equal(example_tensors({'shape': [2, 3]}))
    assert example_tensors(x) is x
    ids, other = example_tensors([{'shape': [50], 'below': 3}, [2, 2]])
    assert set(ids.tolist()) == {0, 1, 2}
    assert other.shape == (2, 2)
    named = example_tensors({'x': [2, 2], 'y': {'shape': [1], 'below': 1}})
    assert [(name, tuple(t.shape)) for name, t in named.items()] == [('x', (2, 2)), ('y', (1,))]
    for wrong in ([], {}, 'x', [0, 2], {'shape': 3}, [[2, 'a']], {'shape': [2], 'below': 0}):
        with pytest.raises(ConfigError, match=r'Expected `(example_inputs|below)` to be'):
            example_tensors(wrong)


def test_what_cannot_be_built() -> None:
    with pytest.raises(ConfigError, match=r'Nothing is recognised in ReLU.*give'):
        build(model='torch.nn.ReLU', rules='suggest')
    with pytest.raises(ConfigError, match=r"'builtins\.dict' to build an nn\.Module"):
        build(model='builtins.dict')
    with pytest.raises(ConfigError, match=r'to be a module, .* but got \[\]'):
        build(model=[])
    with pytest.raises(ConfigError, match="takes no argument 'nope'"):
        build(model={**linear(4, 2), 'nope': 1})


class WithLosses(nn.Module):
    """Computes its own losses, and has weights of its own to begin with."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def init_weights(self) -> None:
        nn.init.constant_(self.body[2].bias, 5.0)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        scores = self.body(inputs)
        if mode == 'loss':
            labels = torch.cat([sample.gt_label for sample in data_samples])
            return {'loss_cls': nn.functional.cross_entropy(scores, labels)}
        return scores


def test_losses_and_initial_weights_are_the_models_own() -> None:
    with toys.registered(WithLosses, registry=mm.ARCHITECTURES):
        rules = [{'match': 'body.0', 'width': [2, 8]}]
        architecture = {
            'type': 'Searchable',
            'model': {'type': 'WithLosses'},
            'rules': rules,
            'example_inputs': [2, 4],
        }
        model: Any = mm.build_algorithm(
            {
                'type': 'Darts',
                'architecture': architecture,
                'mutator': {'type': 'DartsMutator'},
            }
        )
    model.init_weights()
    assert model.architecture.body[2].bias.tolist() == [5.0] * 3
    x, y = torch.randn(6, 4), torch.randint(0, 3, (6,))
    losses = model.losses_of(model._prepare((x, y)))
    expected = nn.functional.cross_entropy(model.architecture(x), y)
    assert_close(losses['loss_cls'], expected)
    expected.backward()
    assert model.mutator.arch_params['body/0'].grad.any()


def test_placeholders_in_a_model_are_filled_as_it_says() -> None:
    cfg = {
        'type': 'NasBench201Supernet',
        'in_channels': 1,
        'num_classes': 3,
        'base_channels': 4,
        'num_cells': 1,
    }
    with pytest.raises(mm.NASError, match=r'do not pass NasBench201Supernet.*Placeholder'):
        build(model=cfg, rules=[{'match': 'stem.*', 'width': [2]}], example_inputs=[2, 1, 8, 8])
