"""What ranks agree on, in two real processes and in a single one."""

from __future__ import annotations

import pytest
import torch
from processes import ranks

from mmrazor_mutators.distributed import average_, same_draws, world_size

RANK = """
import datetime
import os
import torch
import torch.distributed as dist

import mmrazor_mutators as mm
from mmrazor_mutators.distributed import average_, same_draws, world_size

rank = int(os.environ['RANK'])
dist.init_process_group('gloo', timeout=datetime.timedelta(seconds=30))
assert world_size() == 2

tensors = [
    torch.full((2, 3), float(rank)),
    torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64).t() * (rank + 1),
    torch.tensor(5.0 + rank),
]
average_(tensors)
assert tensors[0].tolist() == [[0.5] * 3] * 2
assert tensors[1].tolist() == [[1.5, 4.5], [3.0, 6.0]]
assert tensors[1].dtype == torch.float64
assert tensors[2].item() == 5.5

def of_both(tensor):
    both = [torch.empty_like(tensor) for _ in range(2)]
    dist.all_gather(both, tensor.contiguous())
    return both

torch.manual_seed(rank)
with same_draws(torch.device('cpu')):
    first, other = of_both(torch.randn(4))
assert torch.equal(first, other)
first, other = of_both(torch.randn(4))
assert not torch.equal(first, other)  # Each goes on with numbers of its own.

choices = {name: torch.nn.Identity() for name in 'abc'}
supernet = mm.DifferentiableOP(space_id='s', choices=choices)
mutator = mm.GDASMutator()
mutator.prepare_from_supernet(supernet)
with torch.no_grad():
    mutator.arch_params['s'].zero_()
drawn = []
for _ in range(10):
    mixture = mutator.relax_spaces()['s']
    first, other = of_both(mixture.weights.detach())
    assert torch.equal(first, other)
    drawn.append(mixture.paths)
assert len(set(drawn)) > 1
dist.barrier()
dist.destroy_process_group()
"""


def test_two_ranks() -> None:
    ended = ranks(2, '-c', RANK)
    assert [rank.returncode for rank in ended] == [0, 0], [rank.stderr for rank in ended]


@pytest.mark.parametrize('tensors', [[], [torch.tensor([1.0, 2.0])]])
def test_a_single_process_changes_nothing(tensors: list[torch.Tensor]) -> None:
    assert world_size() == 1
    before = [tensor.clone() for tensor in tensors]
    average_(tensors)
    assert all(map(torch.equal, tensors, before))
    torch.manual_seed(4)
    expected = torch.randn(3)
    torch.manual_seed(4)
    with same_draws(torch.device('cpu')):
        assert torch.equal(torch.randn(3), expected)
