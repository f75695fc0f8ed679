"""Nothing is copied where nothing works in place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from in_place_cases import CASES, WEIGHTS, AddsInPlace, Counts, UsesTwice, data, mixed, prepared
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.mutables import isolation, mixing


@contextmanager
def watched(supernet: nn.Module) -> Iterator[list[Tensor]]:
    """Yield what candidates are lent in the block."""
    lent: list[Tensor] = []
    handles = [
        module.register_forward_pre_hook(lambda module, args: lent.append(args[0]))
        for module in supernet[0].choices.values()
    ]
    yield lent
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    ('first', 'copies'),
    [
        (nn.Linear(4, 4), 0),
        (UsesTwice(), 0),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True)), 0),
        (nn.TransformerEncoderLayer(4, 2, 8), 0),
        (nn.ReLU(inplace=True), 1),
        (AddsInPlace(), 1),
    ],
)
def test_values_are_copied_where_something_writes_to_them_alone(
    first: nn.Module, copies: int
) -> None:
    supernet, _ = prepared(copy.deepcopy(first))
    for _ in range(2):
        x = data()
        with watched(supernet) as lent:
            out = supernet(x)
        assert sum(not torch._C._is_cow_tensor(tensor) for tensor in lent) == copies
        out.sum().backward()
        assert sum(not torch._C._is_cow_tensor(tensor) for tensor in lent) == copies


NASBENCH = {
    'NasBench201SkipConnect': {},
    'NasBench201AvgPool': {},
    'NasBench201Conv': {'kernel_size': 3},
}


def test_kernels_read_what_waits_to_be_copied() -> None:
    """The candidates of a cell beside one of the user's."""
    kwargs = {'in_channels': 4, 'out_channels': 4, 'stride': 1}
    ops = {
        name: mm.build_op({'type': name, **kwargs, **extra}) for name, extra in NASBENCH.items()
    }
    x = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    mine = mm.DifferentiableOP(space_id='a', choices={**ops, 'mine': UsesTwice()})
    twin = copy.deepcopy(mine)
    logits = torch.randn(len(ops) + 1)
    out = mine(x, arch_param=logits)
    assert torch._C._is_cow_tensor(x)
    with mixing.summing_with(mixing.weighted_sum):  # Nothing waits there.
        assert_close(twin(x.clone(), arch_param=logits), out)


def test_our_cells_share_their_work_and_copy_nothing() -> None:
    """Edges hold mutables, whose candidates find what they share by their input."""
    cfg = {'in_channels': 3, 'num_classes': 4, 'base_channels': 4, 'num_layers': 1}
    supernet = mm.build_architecture({'type': 'DartsSupernet', **cfg, 'num_nodes': 2})
    mutator = mm.DartsMutator(extensions=[{'type': 'AuxiliarySkip'}, {'type': 'SkipDropout'}])
    mutator.prepare_from_supernet(supernet)
    with Counts() as mode:
        supernet(torch.randn(2, 3, 8, 8))
    assert 'aten::_lazy_clone' not in mode.called
    # One for each of the three sources, not for each of the five edges.
    assert mode.called['aten::max_pool2d_with_indices'] == 3
    assert mode.called['aten::avg_pool2d'] == 3


@pytest.mark.parametrize('case', CASES)
def test_a_pytorch_that_cannot_let_copies_wait(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, '_lazy_clone', torch.clone)
    build, reference = CASES[case]
    supernet, mutator = prepared(build())
    for call in range(3):
        x = data(call)
        before = x.clone()
        with mutator.mixing({'a': WEIGHTS}):
            assert_close(supernet(x), mixed(reference, before))
        assert x.equal(before)
    supernet, _ = prepared(nn.Linear(4, 4))
    with Counts() as mode:
        supernet[0].choices['twice'] = nn.Tanh()
        supernet(data())
    assert 'aten::clone' not in mode.called  # Layers of PyTorch do what they are told.
