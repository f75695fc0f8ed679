"""What skip connections get is not always a map, and what they do not always harmless."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import InputError
from mmrazor_mutators.extensions import AuxiliarySkip, SkipDropout

F64 = torch.float64
WEIGHTS = torch.tensor([0.25, 0.75], dtype=F64)


class Scales(nn.Module):
    """Changes its first argument, needs the second, and returns more than a tensor."""

    def __init__(self, factor: float, structured: bool = True) -> None:
        super().__init__()
        self.factor, self.structured = factor, structured

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        out = x.mul_(self.factor) * mask
        return {'out': out, 'length': torch.tensor(3), 'name': 'a'} if self.structured else out


class Net(nn.Module):
    def __init__(self, structured: bool = True) -> None:
        super().__init__()
        choices = {'skip_connect': Scales(2.0), 'other': Scales(-1.0, structured)}
        self.op = mm.DifferentiableOP(space_id='a', choices=choices)

    def forward(self, x: Tensor, mask: Tensor, by_name: bool = False) -> Any:
        return self.op(x=x, mask=mask) if by_name else self.op(x, mask)


def prepared(extension: Any, **kwargs: Any) -> tuple[Any, Any]:
    supernet, mutator = Net(**kwargs).double(), mm.DartsMutator(extensions=[extension])
    mutator.prepare_from_supernet(supernet)
    return supernet, mutator


@pytest.mark.parametrize('by_name', [True, False])
def test_auxiliary_skips(by_name: bool) -> None:
    skip = AuxiliarySkip(start=0.3)
    supernet, mutator = prepared(skip)
    x, mask = torch.randn(3, 4, dtype=F64), torch.rand(3, 4, dtype=F64)
    before = x.clone()
    for _ in range(2):
        with mutator.mixing({'a': WEIGHTS}):
            found = supernet(x, mask, by_name)
        assert_close(found['out'], (0.5 - 0.75 + 0.3 * 2) * before * mask)
        assert found['length'] == 3
        assert found['name'] == 'a'
        assert x.equal(before)


def test_auxiliary_skips_that_do_not_fit() -> None:
    skip = AuxiliarySkip()
    op = mm.DifferentiableOP(
        space_id='a', choices={'skip_connect': nn.Identity(), 'wide': nn.Linear(4, 1)}
    )
    supernet, mutator = nn.Sequential(op), toys.build_mutator('GDASMutator', extensions=[skip])
    mutator.prepare_from_supernet(supernet)
    with torch.no_grad():
        mutator.arch_params['a'].copy_(torch.tensor([-100.0, 100.0]))
    with pytest.raises(InputError, match=r"'a': what a DifferentiableOP .*differ in shape"):
        supernet(torch.randn(2, 4))


def test_dropout_on_skips() -> None:
    dropout = SkipDropout(start=0.5, warmup=0)
    supernet, mutator = prepared(dropout)
    dropout.on_epoch(0, 2)
    assert dropout.rate == 0.5
    x, mask = torch.ones(30, 4, dtype=F64), torch.ones(30, 4, dtype=F64)
    with mutator.mixing({'a': WEIGHTS}):
        out = supernet(x, mask)['out']
        assert x.equal(torch.ones_like(x))
        # Half of 0.25 * 2 * x is gone, the rest is twice as much.
        assert_close(out.unique(), torch.tensor([-0.75, 0.25], dtype=F64))
        supernet.eval()
        assert_close(supernet(x, mask)['out'], -0.25 * x)
