"""What is created lives where its neighbours live, in their dtype and mode."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn

import mmrazor_mutators as mm

every = pytest.fixture(toys.mutator_of, params=toys.EVERY_MUTATOR, name='every')
learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')

SUPERNETS: dict[str, dict[str, Any]] = {
    'DartsSupernet': {'num_layers': 3, 'num_nodes': 2},
    'NasBench201Supernet': {'num_cells': 1},
}


def build(kind: str) -> nn.Module:
    cfg = {'type': kind, 'in_channels': 3, 'num_classes': 4, 'base_channels': 4}
    return mm.build_architecture({**cfg, **SUPERNETS[kind]})


def tensors_of(*modules: nn.Module) -> list[Tensor]:
    found = [t for m in modules for t in (*m.parameters(), *m.buffers())]
    return [t for t in found if t.is_floating_point()]


@pytest.mark.parametrize('kind', SUPERNETS)
def test_a_supernet_that_was_cast_first(kind: str, every: str) -> None:
    supernet, mutator = build(kind).double().eval(), toys.build_mutator(every)
    mutator.prepare_from_supernet(supernet)
    assert {t.dtype for t in tensors_of(supernet)} == {torch.float64}
    logits = getattr(mutator, 'arch_params', nn.ParameterDict())
    assert {p.dtype for p in logits.values()} <= {torch.float64}
    assert not any(module.training for module in supernet.modules())
    if every == 'BaseMutator':
        return
    if every in ('OneShotMutator', 'RandomMutator'):
        subnet = mutator.random_subnet(0)
    else:
        supernet(torch.randn(2, 3, 8, 8, dtype=torch.float64))
        subnet = mutator.search_subnet()
    net = mutator.export_subnet(supernet, subnet)
    assert {t.dtype for t in tensors_of(net)} == {torch.float64}
    assert not any(module.training for module in net.modules())
    assert net(torch.randn(2, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize('kind', SUPERNETS)
@pytest.mark.parametrize('device', ['meta', pytest.param('cuda', marks=pytest.mark.cuda)])
def test_a_supernet_that_was_moved_first(kind: str, device: str) -> None:
    supernet, mutator = build(kind).to(device), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    assert {t.device.type for t in tensors_of(supernet, mutator)} == {device}
    out = supernet(torch.randn(2, 3, 8, 8, device=device))
    assert out.shape == (2, 4)
    assert out.device.type == device
    for space in mutator.search_spaces.values():
        for mutable in space['modules']:
            assert mutable.choice_mask.device.type == device


def test_a_supernet_that_was_copied_and_cast_first() -> None:
    supernet = copy.deepcopy(nn.Sequential(build('DartsSupernet')).bfloat16())
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    assert {t.dtype for t in tensors_of(supernet)} == {torch.bfloat16}
    assert supernet(torch.randn(2, 3, 8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_part_of_a_template_may_stay_in_eval_mode() -> None:
    frozen = nn.BatchNorm2d(3).eval()
    supernet = nn.Sequential(mm.Placeholder(group='op', space_id='a'))
    choices = {'frozen': frozen, 'skip': nn.Identity()}
    mapping = {'op': {'type': 'DifferentiableOP', 'choices': choices}}
    mm.DartsMutator(placeholder_mapping=mapping).prepare_from_supernet(supernet)
    assert not supernet[0].choices['frozen'].training
    assert supernet[0].choices['skip'].training
    assert supernet[0].training


def test_sums_in_an_exported_network_have_the_mode_of_their_mutable() -> None:
    choices = {'tanh': nn.Tanh(), 'norm': nn.BatchNorm1d(4)}
    op = mm.DifferentiableOP(space_id='a', choices=choices, num_chosen=2)
    supernet = nn.Sequential(op).eval()
    supernet[0].choices['norm'].train()  # A part that its user treats otherwise.
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    net = mutator.export_subnet(supernet, {'a': {'chosen': ['tanh', 'norm']}})
    assert not net[0].training
    assert net[0].choices['norm'].training
    assert not net[0].choices['tanh'].training


OPS = {
    'conv': {'type': 'NasBench201Conv', 'kernel_size': 3},
    'one': {'type': 'NasBench201Conv', 'kernel_size': 1},
    'skip': {'type': 'NasBench201SkipConnect'},
    'none': {'type': 'NasBench201Zero'},
    'own': nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
}
MAPPING = {
    'op': {'type': 'DifferentiableOP', 'choices': OPS},
    'edge': {'type': 'DifferentiableEdge'},
}
ARGS = {'in_channels': 4, 'out_channels': 4, 'stride': 1}


class OnTwoDevices(nn.Module):
    """Its second half lies elsewhere, and so does one of the inputs of a node."""

    def __init__(self) -> None:
        super().__init__()
        self.first = mm.Placeholder(group='op', space_id='first', choice_args=ARGS)
        self.second = mm.Placeholder(group='op', space_id='second', choice_args=ARGS)
        self.second.to('meta')
        inputs = {'p': nn.Conv2d(4, 4, 1), 'q': nn.Conv2d(4, 4, 1).to('meta').eval()}
        self.node = mm.Placeholder(group='edge', space_id='n', choices=nn.ModuleDict(inputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).to('meta')
        return self.second(x.contiguous(memory_format=torch.channels_last))


def test_a_supernet_on_two_devices(learning: str) -> None:
    supernet = OnTwoDevices()
    whole = {'channel_proportion': 1} if learning == 'PCDartsMutator' else {}
    mutator = toys.build_mutator(learning, placeholder_mapping=MAPPING, **whole)
    mutator.prepare_from_supernet(supernet)
    parts = supernet.first, supernet.second, supernet.node.choices['p']
    devices = [{t.device.type for t in tensors_of(part)} for part in parts]
    assert devices == [{'cpu'}, {'meta'}, {'cpu'}]
    assert {t.device.type for t in tensors_of(supernet.node.choices['q'])} == {'meta'}
    assert [m.training for m in supernet.node.choices.values()] == [True, False]
    assert {p.device.type for p in mutator.arch_params.values()} == {'cpu'}
    x = torch.randn(2, 4, 6, 6)
    for _ in range(3):
        assert supernet(x).device.type == 'meta'
    net = mutator.export_subnet(supernet, mutator.search_subnet())
    assert net(x).device.type == 'meta'


def test_frozen_neighbours_stay_frozen() -> None:
    supernet = build('NasBench201Supernet').requires_grad_(False)
    own = {name for name, _ in supernet.named_parameters()}
    mutator = mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    supernet(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in mutator.arch_params.values())
    for name, parameter in supernet.named_parameters():
        assert parameter.requires_grad is (name not in own)


def test_parts_in_precisions_and_modes_of_their_own() -> None:
    holes = [mm.Placeholder(group='op', space_id=f's{i}', choice_args=ARGS) for i in range(3)]
    holes[1].double()
    holes[2].bfloat16().eval()
    supernet = nn.Sequential(*holes)
    mm.DartsMutator(placeholder_mapping=MAPPING).prepare_from_supernet(supernet)
    dtypes = torch.float32, torch.float64, torch.bfloat16
    for part, dtype in zip(supernet, dtypes, strict=True):
        assert {t.dtype for t in tensors_of(part)} == {dtype}
        assert {m.training for m in part.modules()} == {dtype != torch.bfloat16}


def test_what_is_moved_and_cast_later() -> None:
    supernet, mutator = build('DartsSupernet'), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    supernet.double()  # The mutator is not: weights are numbers, whatever their precision.
    assert supernet(torch.randn(2, 3, 8, 8).double()).dtype == torch.float64
    mutator.double()
    space = next(iter(mutator.arch_params))
    mutator.drop_choices(space, ['none'])
    assert supernet(torch.randn(2, 3, 8, 8).double()).dtype == torch.float64
    supernet.to('meta')
    mutator.to('meta')
    assert supernet(torch.randn(2, 3, 8, 8, device='meta').double()).device.type == 'meta'
    assert {t.device.type for t in tensors_of(supernet, mutator)} == {'meta'}


def test_what_extensions_add() -> None:
    supernet = build('DartsSupernet').double().eval()
    extensions = [{'type': 'AuxiliarySkip'}, {'type': 'SkipDropout'}]
    mutator = mm.DartsMutator(extensions=extensions)
    mutator.prepare_from_supernet(supernet)
    added = [m for name, m in supernet.named_modules() if name.endswith('auxiliary_skip')]
    assert added
    assert any(list(skip.parameters()) for skip in added)
    assert {t.dtype for t in tensors_of(supernet)} == {torch.float64}
    assert not any(m.training for m in supernet.modules())
    assert supernet(torch.randn(2, 3, 8, 8).double()).dtype == torch.float64
