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
