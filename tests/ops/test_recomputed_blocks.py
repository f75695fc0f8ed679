"""Blocks with ``with_cp`` learn what those without it learn, and keep less."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.testing import assert_close

import mmrazor_mutators as mm

BLOCKS = [
    {'type': 'MBBlock', 'kernel_size': 3, 'expand_ratio': 3, 'drop_path_rate': 0.5},
    {'type': 'ShuffleBlock', 'kernel_size': 3},
    {'type': 'ShuffleXception'},
]
every_block = pytest.mark.parametrize('cfg', BLOCKS, ids=lambda cfg: cfg['type'])


def twins(cfg: dict[str, Any]) -> tuple[Any, Any]:
    shape = {'in_channels': 4, 'out_channels': 4}
    plain, twin = (mm.build_op({**cfg, **shape, 'with_cp': cp}) for cp in (False, True))
    twin.load_state_dict(plain.state_dict())
    return plain.double(), twin.double()


def learn(op: nn.Module, needs_grad: bool) -> tuple[Tensor, list[Tensor | None], Any]:
    torch.manual_seed(4)
    x = torch.randn(8, 4, 5, 5, dtype=torch.float64, requires_grad=needs_grad)
    out = op(x)
    out.square().sum().backward()
    return out, [x.grad, *[p.grad for p in op.parameters()]], dict(op.named_buffers())


@every_block
@pytest.mark.parametrize('needs_grad', [False, True])
@pytest.mark.parametrize('training', [False, True])
def test_same_output_gradients_and_statistics(
    cfg: Any, needs_grad: bool, training: bool
) -> None:
    plain, twin = (op.train(training) for op in twins(cfg))
    expected, mine = learn(plain, needs_grad), learn(twin, needs_grad)
    assert_close(mine[0], expected[0])
    assert [g is None for g in mine[1]] == [g is None for g in expected[1]]
    assert_close(*[[g for g in side[1] if g is not None] for side in (mine, expected)])
    assert_close(mine[2], expected[2])
    norm = next(module for module in twin.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.num_batches_tracked == int(training)


@every_block
def test_keeps_less(cfg: Any) -> None:
    kept = []
    for op in twins(cfg):
        sizes: list[int] = []
        x = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)

        def note(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with saved_tensors_hooks(note, lambda tensor: tensor):
            op(x)
        kept.append(sum(sizes))
    assert kept[1] == 2 * 4 * 64 < 0.3 * kept[0]  # The input alone.


@every_block
def test_a_graph_can_be_used_again(cfg: Any) -> None:
    plain, twin = twins(cfg)
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(twin.eval(), x, fast_mode=True)
    sums = []
    for op in (plain.eval(), twin):
        squares = op(x).square().sum()
        (first,) = torch.autograd.grad(squares, x, create_graph=True)
        (again,) = torch.autograd.grad(squares, x, retain_graph=True)
        assert_close(again, first)
        sums.append(torch.autograd.grad(first.square().sum(), x)[0])
    assert_close(*sums)
