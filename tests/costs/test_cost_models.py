"""The expected cost against networks that are exported and counted."""

from __future__ import annotations

import itertools
import math
from typing import Any

import networks
import pytest
import torch
import toys
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import mmrazor_mutators as mm
from mmrazor_mutators.costs import LayerShape, build_cost_model, choice_probabilities
from mmrazor_mutators.errors import BindingError, ConfigError, InputError, SearchSpaceError

METRICS = ('params', 'macs', 'memory')
LAYERS = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.Embedding,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.MultiheadAttention,
)
SHIPPED: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    'darts': (
        {'type': 'DartsSupernet', 'in_channels': 3, 'base_channels': 4, 'num_layers': 3},
        (1, 3, 8, 8),
    ),
    'nasbench201': (
        {'type': 'NasBench201Supernet', 'in_channels': 3, 'base_channels': 4, 'num_cells': 1},
        (1, 3, 8, 8),
    ),
}


def build(name: str) -> tuple[nn.Module, Any]:
    """Return a supernet and what it is called with."""
    torch.manual_seed(0)
    if name in SHIPPED:
        cfg, shape = SHIPPED[name]
        return mm.build_architecture({**cfg, 'num_classes': 5}), torch.randn(shape)
    case = networks.CASES[name]
    x = case.inputs()
    return mm.make_searchable(case.build(), case.rules(), x), x


def counted(net: nn.Module, x: Any) -> dict[str, float]:
    """Count a plain network by other means: PyTorch's counter, and hooks."""
    largest = [0]

    def look(module: nn.Module, args: Any, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        tensors = [args[0], output] if args else [output]
        largest.append(sum(t.numel() for t in tensors) * output.element_size())

    layers = [m for m in net.modules() if isinstance(m, LAYERS)]
    hooks = [m.register_forward_hook(look) for m in layers]
    counter = FlopCounterMode(display=False)
    net.eval()
    with counter:
        net(x)
    for hook in hooks:
        hook.remove()
    return {
        'params': sum(p.numel() for p in net.parameters()),
        'macs': counter.get_total_flops() / 2,
        'memory': max(largest),
    }


def prepared(name: str, mutator: str = 'DartsMutator') -> tuple[nn.Module, Any, Any]:
    supernet, x = build(name)
    built = toys.build_mutator(mutator)
    built.prepare_from_supernet(supernet)
    return supernet, x, built


learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learner')
every = pytest.mark.parametrize('name', [*networks.CASES, *SHIPPED])
of_each = pytest.mark.parametrize(
    ('name', 'metric'),
    [
        # The largest space takes long, and has the other metrics.
        pytest.param(name, metric, marks=[pytest.mark.slow] * takes_long)
        for name in [*networks.CASES, *SHIPPED]
        for metric in METRICS
        for takes_long in [(name, metric) == ('darts', 'memory')]
    ],
)


@of_each
def test_the_cost_of_a_subnet_is_that_of_its_network(name: str, metric: Any) -> None:
    supernet, x, mutator = prepared(name)
    model = build_cost_model(supernet, metric, x)
    for seed in range(6):
        subnet = mutator.random_subnet(seed)
        net = mutator.export_subnet(supernet, subnet)
        chosen = {sid: entry['chosen'] for sid, entry in subnet.items()}
        assert model.of(chosen) == counted(net, x)[metric]


@of_each
def test_sure_logits_cost_what_the_network_costs(name: str, metric: Any) -> None:
    supernet, x, mutator = prepared(name)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for space_id, logits in mutator.arch_params.items():
            names = mutator.search_spaces[space_id]['choice_names']
            allowed = [i for i, n in enumerate(names) if n not in mutator.ignore_choices]
            pick = torch.randint(len(allowed), (1,), generator=generator).item()
            logits.zero_()[allowed[int(pick)]] = 1e4
    net = mutator.export_subnet(supernet, mutator.search_subnet())
    cost = mm.expected_cost(supernet, mutator, metric, x)
    assert cost.item() == counted(net, x)[metric]


def test_every_mutator_has_a_cost(learner: str) -> None:
    supernet, x, mutator = prepared('resnet', learner)
    for metric in METRICS:
        cost = mm.expected_cost(supernet, mutator, metric, x)
        assert 0 < cost.item() < math.inf
    grads = torch.autograd.grad(cost, list(mutator.arch_params.values()), allow_unused=True)
    assert any(grad is not None and grad.any() for grad in grads)


@pytest.mark.parametrize(
    ('name', 'metric'),
    [
        *itertools.product(['resnet', 'characters', 'unet', 'darts'], ['params', 'macs']),
        # The largest maps of the others are there in any case.
        *itertools.product(['resnet', 'unet'], ['memory']),
    ],
)
def test_the_gradient_is_that_of_finite_differences(name: str, metric: Any) -> None:
    supernet, x, mutator = prepared(name)
    mutator.double()
    torch.manual_seed(4)
    with torch.no_grad():
        for logits in mutator.arch_params.values():
            logits.normal_()
    cost = mm.expected_cost(supernet, mutator, metric, x)
    params = list(mutator.arch_params.values())
    grads = torch.autograd.grad(cost, params, allow_unused=True)
    scale, seen = cost.item(), 0
    for param, grad in zip(params, grads, strict=True):
        index, step = len(param) - 1, 1e-5
        found = []
        for sign in (1, -1):
            with torch.no_grad():
                param[index] += sign * step
                found.append(mm.expected_cost(supernet, mutator, metric, x).item())
                param[index] -= sign * step
        expected = (found[0] - found[1]) / (2 * step)
        came = 0.0 if grad is None else grad[index].item()
        assert came == pytest.approx(expected, rel=1e-5, abs=1e-8 * scale)
        seen += came != 0
    assert seen


def test_widths_multiply() -> None:
    """By hand: E[out] E[k k] E[in] of the convolution in the middle."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.Conv2d(6, 1, 1)
    )
    rules = [
        {'match': '0', 'width': [1, 4]},
        {'match': '1', 'width': [3, 6], 'kernel_size': [1, 3]},
    ]
    supernet = mm.make_searchable(net, rules, torch.randn(1, 2, 5, 5))
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    with torch.no_grad():
        for logits in mutator.arch_params.values():
            logits.copy_(torch.tensor([0.25, 0.75]).log())
    ins, outs, taps = 0.25 + 3, 0.75 + 4.5, 0.25 + 0.75 * 9
    params = ins * 2 + ins + ins * outs * taps + outs + 1
    assert mm.expected_cost(supernet, mutator, 'params').item() == pytest.approx(params)
    macs = 25 * (ins * 2 + ins * outs * taps + outs)
    assert mm.expected_cost(supernet, mutator, 'macs').item() == pytest.approx(macs)


def test_a_metric_of_the_user() -> None:
    supernet, x, mutator = prepared('resnet')

    def macs(layer: LayerShape) -> float:
        return layer.macs

    ours = mm.expected_cost(supernet, mutator, 'macs', x)
    assert mm.expected_cost(supernet, mutator, macs, x).item() == ours.item()
    seen: list[LayerShape] = []
    mm.expected_cost(supernet, mutator, lambda layer: seen.append(layer) or 0.0, x)
    convs = [s for s in seen if s.kind == 'Conv2d' and s.kernel_size == (5, 5)]
    assert {s.in_features for s in convs} == {2, 3, 4, 6, 8}
    assert all(s.params == s.in_features * s.out_features * 25 for s in convs)


class Neighbours(nn.Module):
    """A graph convolution: code that is no layer, which costs as much as there are channels."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 6)
        self.back = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        near = torch.eye(5).roll(1, 0).to(x).expand(len(x), 5, 5)
        return self.back(torch.bmm(near, self.embed(x)))


def test_code_that_is_no_layer() -> None:
    x = torch.randn(2, 5, 3)
    supernet = mm.make_searchable(Neighbours(), [{'match': 'embed', 'width': [2, 4, 6]}], x)
    model = build_cost_model(supernet, 'macs')
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    for width in (2, 4, 6):
        net = mutator.export_subnet(supernet, {'embed': {'chosen': [f'w{width}']}})
        assert model.of({'embed': [f'w{width}']}) == counted(net, x)['macs']


def test_a_layer_of_two_places_and_shared_weights_count_once() -> None:
    torch.manual_seed(0)
    inner = nn.Linear(3, 3)
    twin = nn.Linear(3, 3)
    twin.weight = inner.weight
    choices = {'a': inner, 'b': nn.Sequential(inner, twin), 'c': nn.Identity()}
    supernet = nn.Sequential(mm.DifferentiableOP(space_id='s', choices=choices))
    model = build_cost_model(supernet, 'params')
    assert [model.of({'s': [name]}) for name in 'abc'] == [12.0, 15.0, 0.0]


def test_nothing_is_changed() -> None:
    supernet, x, _ = prepared('resnet', 'GDASMutator')
    supernet.train()
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    state = torch.random.get_rng_state()
    bound = [m.__dict__.get('forward') for m in supernet.modules()]
    for metric in METRICS:
        build_cost_model(supernet, metric, x)
    assert torch.random.get_rng_state().equal(state)
    assert [m.__dict__.get('forward') for m in supernet.modules()] == bound
    assert all(module.training for module in supernet.modules())
    assert all(value.equal(before[name]) for name, value in supernet.state_dict().items())


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_spaces_know_what_they_are_called_with(name: str) -> None:
    supernet, _, mutator = prepared(name)
    cost = mm.expected_cost(supernet, mutator, 'macs')
    image = torch.zeros(1, 3, 32, 32)
    assert cost.item() == mm.expected_cost(supernet, mutator, 'macs', image).item()


@pytest.mark.parametrize('name', ['SearchableMobileNet', 'SearchableShuffleNetV2'])
def test_spaces_of_one_path(name: str) -> None:
    torch.manual_seed(0)
    supernet, x = (
        mm.build_architecture({'type': name, 'widen_factor': 0.25}),
        torch.zeros(1, 3, 32, 32),
    )
    mutator = mm.OneShotMutator()
    mutator.prepare_from_supernet(supernet)
    subnet = mutator.random_subnet(1)
    net = mutator.export_subnet(supernet, subnet)
    told = {sid: entry['chosen'] for sid, entry in subnet.items()}
    for metric in ('params', 'macs'):
        assert build_cost_model(supernet, metric, x).of(told) == counted(net, x)[metric]


def test_probabilities_of_nodes_are_read_off() -> None:
    _, _, mutator = prepared('darts')
    found = choice_probabilities(mutator)
    subnet = mutator.search_subnet()
    nodes = [sid for sid in subnet if sid not in mutator.arch_params]
    assert nodes
    for space_id in nodes:
        names = mutator.search_spaces[space_id]['choice_names']
        kept = {name for name, w in zip(names, found[space_id], strict=True) if w == 1}
        assert kept == set(subnet[space_id]['chosen'])
        assert found[space_id].sum() == len(kept) == 2


def test_errors() -> None:
    supernet, _, mutator = prepared('resnet')
    with pytest.raises(ConfigError, match=r"one of params, .* got 'parms'; did you mean"):
        mm.expected_cost(supernet, mutator, 'parms')  # type: ignore[arg-type]
    choices = {'a': nn.Linear(3, 3), 'b': nn.Identity()}
    own = nn.Sequential(mm.DifferentiableOP(space_id='s', choices=choices))
    other = mm.DartsMutator()
    other.prepare_from_supernet(own)
    with pytest.raises(InputError, match=r'what Sequential is called with; .*example_inputs'):
        mm.expected_cost(own, other, 'macs')
    with pytest.raises(InputError, match='do not pass ResNet: RuntimeError'):
        mm.expected_cost(supernet, mutator, 'macs', torch.randn(1, 2, 8, 8))
    with pytest.raises(InputError, match=r'Expected `example_inputs`.* got int'):
        mm.expected_cost(supernet, mutator, 'macs', 3)
    with pytest.raises(BindingError, match='no supernet yet'):
        mm.expected_cost(supernet, mm.DartsMutator(), 'params')


def test_a_table_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmrazor_mutators.costs import tables

    supernet, x, _ = prepared('resnet')
    monkeypatch.setattr(tables, '_LARGEST', 10)
    with pytest.raises(SearchSpaceError, match=r"The cost of '.*conv2' .* combinations"):
        build_cost_model(supernet, 'params', x)
