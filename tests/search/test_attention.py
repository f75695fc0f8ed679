"""Second derivatives through attention, whose fused kernels have none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.search.hypergradients import Exact, FiniteDifference


class Attends(nn.Module):
    """Attention with two heads, of four features each."""

    def __init__(self) -> None:
        super().__init__()
        self.joint, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.joint(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


def search_of(hypergradient: Any, mutator_type: str = 'DartsMutator', **options: Any) -> Any:
    torch.manual_seed(0)
    choices = {'own': Attends(), 'torch': nn.TransformerEncoderLayer(8, 2, 8, 0.0, 'gelu')}
    op = mm.DifferentiableOP(space_id='a', choices=choices)
    mutator = mm.build_mutator({'type': mutator_type, **options})
    supernet = nn.Sequential(op, nn.Linear(8, 2)).double()
    mutator.prepare_from_supernet(supernet)
    mutator.double()
    return mm.BilevelSearch(
        supernet,
        mutator,
        nn.functional.mse_loss,
        torch.optim.SGD(supernet.parameters(), lr=0.5),
        torch.optim.Adam(mutator.arch_params.values(), lr=0.1),
        hypergradient,
    )


def data() -> list[Any]:
    torch.manual_seed(1)
    kwargs: Any = {'dtype': torch.float64}
    return [(torch.randn(3, 5, 8, **kwargs), torch.randn(3, 5, 2, **kwargs)) for _ in range(2)]


def test_the_fused_kernel_has_no_second_derivative() -> None:
    """The neighbour: what the search would meet without a choice of the kernel."""
    network, x = Attends().double(), data()[0][0]
    grads = torch.autograd.grad(
        network(x).sum(), [*network.parameters()][:1], create_graph=True
    )
    with pytest.raises(RuntimeError, match=r'derivative .* is not implemented'):
        torch.autograd.grad(grads[0].square().sum(), [*network.parameters()])


def test_exact_is_what_a_fine_difference_comes_to() -> None:
    exact = search_of(Exact())
    expected = search_of(FiniteDifference(radius=1e-5))
    found = [search.hypergradient(search, *data()) for search in (exact, expected)]
    assert_close(found[0].loss, found[1].loss)
    assert_close(found[0].grads, found[1].grads, rtol=1e-6, atol=1e-9)
    # The second order is a part of it that counts.
    first = search_of('first_order')
    alone = first.hypergradient(first, *data()).grads[0]
    assert (alone - found[0].grads[0]).norm() > 1e-3 * alone.norm()


def test_an_implicit_product_is_what_a_fine_difference_comes_to() -> None:
    """With no term, the solution is a multiple of the gradient of the weights."""
    step = 0.3
    implicit = search_of({'type': 'neumann', 'num_terms': 0, 'step_size': step})
    found = implicit.hypergradient(implicit, *data()).grads[0]
    train, arch = data()
    params = [*implicit.arch_params, *implicit.weights]
    grads = torch.autograd.grad(implicit.arch_loss(arch), params)
    direction, sides = grads[1:], []
    for sign in (1.0, -2.0):
        with torch.no_grad():
            for weight, along in zip(implicit.weights, direction, strict=True):
                weight.add_(along, alpha=sign * 1e-5)
        sides.append(torch.autograd.grad(implicit.train_loss(train), implicit.arch_params)[0])
    expected = grads[0] - step * (sides[0] - sides[1]) / 2e-5
    assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('name', ['neumann', 'cg', 'exact'])
def test_a_step_of_each(name: str) -> None:
    search = search_of(name)
    before = [param.clone() for param in search.arch_params]
    search.step(*data())
    assert not torch.equal(before[0], search.arch_params[0])


def test_an_eigenvalue_of_the_hessian() -> None:
    extensions = [{'type': 'HessianEarlyStopping'}]
    search = search_of('first_order', extensions=extensions)
    (extension,) = search.mutator.extensions
    value = extension.evaluate(search, data()[1])
    loss = search.arch_params[0]

    def of(logits: Tensor) -> Tensor:
        with torch.no_grad():
            loss.copy_(logits)
        (grad,) = torch.autograd.grad(search.train_loss(data()[1]), [loss])
        return grad

    start, rows = loss.detach().clone(), []
    for direction in torch.eye(len(start), dtype=torch.float64):
        rows.append((of(start + 1e-5 * direction) - of(start - 1e-5 * direction)) / 2e-5)
    of(start)
    hessian = torch.stack(rows)
    assert value == pytest.approx(torch.linalg.eigvalsh(hessian).max().item(), rel=1e-4)
