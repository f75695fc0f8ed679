"""Widths of features that attention reads and returns, as in the stream of a transformer."""

from __future__ import annotations

import copy
from typing import Any

import attending
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.costs import build_cost_model
from mmrazor_mutators.errors import SearchSpaceError
from mmrazor_mutators.mutables.attention import SlimAttention


class Attends(nn.Module):
    """Attention between two linear layers, to itself or to something else."""

    def __init__(self, cross: bool = False, **options: Any) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        self.attention = nn.MultiheadAttention(8, 4, **{'batch_first': True, **options})
        self.cross = cross

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        read = x.flip(1) if self.cross else x
        return self.last(self.attention(x, read, read)[0])


def by_hand(model: Any, x: Tensor, width: int, heads: int) -> Tensor:
    """Attend with the first features and heads alone, as the formula says."""
    x = model.first(x)[..., :width]
    read = x.flip(1) if model.cross else x
    attention, size = model.attention, 2
    weights = attention._parameters['in_proj_weight'][:, :width].chunk(3)
    biases = attention.in_proj_bias.chunk(3)
    mixed = []
    for head in range(heads):
        rows = slice(size * head, size * (head + 1))
        q, k, v = (
            features @ weight[rows].T + bias[rows]
            for features, weight, bias in zip((x, read, read), weights, biases, strict=True)
        )
        mixed.append((q @ k.transpose(1, 2) / size**0.5).softmax(-1) @ v)
    out = attention.out_proj
    y = torch.cat(mixed, -1) @ out._parameters['weight'][:width, : size * heads].T
    return (y + out.bias[:width]) @ model.last._parameters['weight'][
        :, :width
    ].T + model.last.bias


RULES = [
    {'match': 'first', 'width': [2, 5, 8]},
    {'match': 'attention', 'heads': [1, 3, 4]},
]


@pytest.mark.parametrize('cross', [False, True])
@pytest.mark.parametrize('width', [2, 5, 8])
@pytest.mark.parametrize('heads', [1, 3, 4])
def test_features_and_heads_are_chosen_apart(cross: bool, width: int, heads: int) -> None:
    torch.manual_seed(0)
    model, x = Attends(cross).double(), torch.randn(3, 4, 3).double()
    nn.init.normal_(model.attention.in_proj_bias)
    supernet = mm.make_searchable(model, RULES, x)
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    subnet = {'first': {'chosen': [f'w{width}']}, 'attention': {'chosen': [f'h{heads}']}}
    expected = by_hand(supernet, x, width, heads)
    net = mutator.export_subnet(supernet, subnet)
    assert_close(net(x), expected)
    with torch.no_grad():
        assert_close(net.eval()(x), expected)
    weights = {
        space_id: F.one_hot(
            torch.tensor(space['choice_names'].index(subnet[space_id]['chosen'][0])),
            len(space['choice_names']),
        ).double()
        for space_id, space in mutator.search_spaces.items()
    }
    with mutator.mixing(weights):
        assert_close(supernet(x), expected)
    params = sum(p.numel() for p in net.parameters())
    inner = 2 * heads
    assert params == 4 * width + 3 * inner * (width + 1) + (inner + 1) * width + 2 * (width + 1)
    chosen = {space_id: entry['chosen'] for space_id, entry in subnet.items()}
    assert build_cost_model(supernet, 'params', x).of(chosen) == params


def test_what_was_cut_can_be_cut_again() -> None:
    torch.manual_seed(0)
    model, x = Attends().double(), torch.randn(3, 4, 3).double()
    for width in (6, 4):
        widths = [{'match': 'first', 'width': [width]}]
        supernet = mm.make_searchable(model, widths, x)
        mutator = mm.DartsMutator()
        mutator.prepare_from_supernet(supernet)
        expected = by_hand(supernet, x, width, 4)
        model = mutator.export_subnet(supernet, {'first': {'chosen': [f'w{width}']}})
        assert_close(model(x), expected)
    assert isinstance(model.attention, SlimAttention)
    assert model.attention.in_proj_weight.shape == (24, 4)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note for each call that computes a whole layer whether its input is nested."""
    counted: list[bool] = []
    whole = torch._transformer_encoder_layer_fwd
    monkeypatch.setattr(
        torch,
        '_transformer_encoder_layer_fwd',
        lambda *a: (counted.append(a[0].is_nested), whole(*a))[1],
    )
    return counted


def encoder() -> Any:
    model = attending.Encoder().double().eval()
    model.encoder.use_nested_tensor = True
    return model


@pytest.mark.filterwarnings('ignore:The PyTorch API of nested tensors:UserWarning')
@pytest.mark.parametrize(('width', 'fast'), [('w4', False), ('w8', True)])
def test_norms_are_called_where_features_are_dead(
    width: str, fast: bool, calls: list[bool]
) -> None:
    torch.manual_seed(0)
    x = attending.padded_tokens()
    model = encoder()
    plain = copy.deepcopy(model)
    supernet = mm.make_searchable(model, [{'match': 'embed', 'width': [0.5]}], x)
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    net = mutator.export_subnet(supernet, {'embed': {'chosen': [width]}})
    one_hot = torch.tensor([1.0, 0.0] if width == 'w4' else [0.0, 1.0]).double()
    calls.clear()
    with mutator.mixing({'embed': one_hot}), torch.no_grad():
        found = supernet(x)
    # As PyTorch does it: in one call, and packed.
    assert calls == ([True, True] if fast else [])
    assert_close(found, net(x).detach(), rtol=1e-6, atol=1e-9)
    if fast:
        assert_close(found, plain(x).detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings('ignore:The PyTorch API of nested tensors:UserWarning')
def test_a_transformer_gets_its_classes_and_settings_back() -> None:
    model = encoder()
    plain = copy.deepcopy(model)
    x = attending.padded_tokens()
    supernet = mm.make_searchable(model, [{'match': 'embed', 'width': [4]}], x)
    layer = supernet.encoder.layers[0]
    assert layer.activation_relu_or_gelu == plain.encoder.layers[0].activation_relu_or_gelu
    layer.activation_relu_or_gelu = 0
    supernet.encoder.use_nested_tensor = False
    twin = copy.deepcopy(supernet)
    assert twin.encoder.layers[0].activation_relu_or_gelu == 0
    mm.restore_original(supernet)
    assert [type(m) for m in supernet.modules()] == [type(m) for m in plain.modules()]
    assert layer.activation_relu_or_gelu == 0
    assert not supernet.encoder.use_nested_tensor


class Doubled(nn.MultiheadAttention):
    def forward(self, *inputs: Any, **options: Any) -> Any:
        out, weights = super().forward(*inputs, **options)
        return 2 * out, weights


class OfOnesOwn(Attends):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Doubled(8, 4, batch_first=True)


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: Attends(add_bias_kv=True), "reach 'attention' .*features cannot be chosen"),
        (lambda: Attends(add_zero_attn=True), 'cannot be traced'),
        (OfOnesOwn, "'w2' cannot work: .*returns something else"),
    ],
)
def test_attention_that_cannot_be_cut_is_refused(build: Any, message: str) -> None:
    torch.manual_seed(0)
    model, x = build(), torch.randn(3, 4, 3)
    with pytest.raises(SearchSpaceError, match=message):
        mm.make_searchable(model, [{'match': 'first', 'width': [2]}], x)
    assert type(model.first) is nn.Linear
