"""PyTorch's own transformers, whose layers are computed in one call where that is faster."""

from __future__ import annotations

import copy
from typing import Any

import attending
import networks
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import mmrazor_mutators as mm

RULES: list[dict[str, Any]] = [
    {'match': '*.self_attn', 'heads': [1, 2, 4]},
    {'match': 'TransformerEncoderLayer', 'ffn': [0.25, 0.5, 1.0], 'depth': True},
]
PLACES = ['encoder/layers/0', 'encoder/layers/1']


def searched(model: nn.Module, x: Any, rules: Any = RULES) -> tuple[nn.Module, Any]:
    mutator = mm.build_mutator({'type': 'DartsMutator'})
    mutator.prepare_from_supernet(mm.make_searchable(model, rules, x))
    return model, mutator


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the calls that compute a whole layer."""
    counted: list[int] = []
    whole = torch._transformer_encoder_layer_fwd
    monkeypatch.setattr(
        torch, '_transformer_encoder_layer_fwd', lambda *a: (counted.append(1), whole(*a))[1]
    )
    return counted


@pytest.mark.parametrize('heads', ['h1', 'h2', 'h4'])
@pytest.mark.parametrize('ffn', ['w3', 'w12'])
def test_layers_computed_in_one_call_are_those_chosen(
    heads: str, ffn: str, calls: list[int]
) -> None:
    x = attending.padded_tokens()
    model, mutator = searched(attending.Encoder().double().eval(), x)
    subnet = {place: {'chosen': ['keep']} for place in PLACES}
    for place in PLACES:
        subnet[f'{place}:ffn'] = {'chosen': [ffn]}
        subnet[f'{place}/self_attn'] = {'chosen': [heads]}
    net = mutator.export_subnet(model, subnet)
    calls.clear()
    with torch.no_grad():
        fast = net(x)
    assert len(calls) == (2 if heads == 'h4' else 0)  # Fewer heads have their own code.
    assert_close(fast, net(x).detach(), rtol=1e-6, atol=1e-9)
    weights = {
        space_id: torch.eye(len(space['choice_names']), dtype=torch.float64)[
            space['choice_names'].index(subnet[space_id]['chosen'][0])
        ]
        for space_id, space in mutator.search_spaces.items()
    }
    calls.clear()
    with mutator.mixing(weights), torch.no_grad():
        assert_close(model(x), fast, rtol=1e-6, atol=1e-9)
    assert len(calls) == 2


@pytest.mark.parametrize('with_norm', [False, True])
def test_an_encoder_may_lose_all_layers(with_norm: bool) -> None:
    x = attending.padded_tokens()
    model = attending.Encoder().eval()
    model.encoder.norm = nn.LayerNorm(8, bias=False) if with_norm else None
    norm = copy.deepcopy(model.encoder.norm) or nn.Identity()
    model, mutator = searched(model, x)
    net = mutator.export_subnet(model, {place: {'chosen': ['skip']} for place in PLACES})
    assert len(net.encoder.layers) == 0
    hidden = norm(net.embed(x)).masked_fill((x == 0)[..., None], 0)
    assert_close(net(x), net.head(hidden.sum(1)))
    assert_close(model.embed(x), net.embed(x))


def test_a_decoder_may_lose_all_layers() -> None:
    case = networks.CASES['translator']
    x = case.inputs()
    model, mutator = searched(case.build().eval(), x, case.rules()[:2])
    places = [f'pair/{part}/layers/{i}' for part, i in (('encoder', 0), ('decoder', 0))]
    places.append('pair/decoder/layers/1')
    net = mutator.export_subnet(model, {place: {'chosen': ['skip']} for place in places})
    expected = net.head(net.pair.decoder.norm(net.embed(x).flip(1)))
    assert_close(net(x), expected)
    assert len(net.pair.decoder.layers) == len(net.pair.encoder.layers) == 0


@pytest.mark.filterwarnings('ignore:The PyTorch API of nested tensors:UserWarning')
def test_fewer_heads_take_no_nested_tensors() -> None:
    whole = torch.randint(1, 11, (3, 6))
    model = attending.Encoder().double().eval()
    model.encoder.use_nested_tensor = True
    # No padding in the example, so that nothing is in the way.
    model, mutator = searched(model, whole, RULES[:1])
    subnet = {f'{PLACES[0]}/self_attn': 'h4', f'{PLACES[1]}/self_attn': 'h2'}
    net = mutator.export_subnet(model, {k: {'chosen': [v]} for k, v in subnet.items()})
    x = attending.padded_tokens()
    expected = net(x).detach()
    with torch.no_grad():
        assert_close(net(x), expected, rtol=1e-6, atol=1e-9)
    assert not net.encoder.use_nested_tensor
    assert model.encoder.use_nested_tensor


def test_modules_inside_of_a_layer_are_chosen_where_they_are_called() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 6, activation=nn.ReLU(), batch_first=True)
    layer.activation_relu_or_gelu = 0
    x = torch.randn(2, 3, 4)
    expected = copy.deepcopy(layer).eval()(x)
    rules = [{'match': 'activation', 'activation': ['tanh']}]
    model, mutator = searched(layer, x, rules)
    net = mutator.export_subnet(model, {'activation': {'chosen': ['tanh']}}).eval()
    assert isinstance(net.activation, nn.Tanh)
    with torch.no_grad():
        assert_close(net(x), net(x.requires_grad_()))
        assert not net(x).allclose(expected)


class LastNorm(nn.LayerNorm):
    """As libraries write it anew, for a faster kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


def test_a_norm_of_ones_own_over_the_last_dimension_is_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), LastNorm(6), nn.ReLU(), nn.Linear(6, 2)).double()
    model[1].weight.data.uniform_(0.5, 1.5)
    x = torch.randn(5, 3).double()
    supernet = mm.make_searchable(model, [{'match': '0', 'width': [2, 6]}], x)
    mutator = mm.RandomMutator()
    mutator.prepare_from_supernet(supernet)
    (space,) = mutator.search_spaces
    subnet = {space: {'chosen': ['w2']}}
    small = mutator.export_subnet(supernet, subnet)
    hidden = F.layer_norm(model[0](x)[:, :2], [2], model[1]._parameters['weight'][:2])
    expected = hidden.relu() @ model[3]._parameters['weight'][:, :2].T + model[3].bias
    assert_close(small(x), expected)
