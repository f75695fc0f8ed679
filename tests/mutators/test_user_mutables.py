"""Mutables written for MMRazor 0.2.0 keep working under every mutator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError

learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')


class OldOP(mm.DifferentiableOP):
    """A forward without ``relax``: it relaxes by itself."""

    def forward(self, x: Tensor, arch_param: Any = None) -> Tensor:
        if arch_param is None or self.is_fixed:
            return sum(choice(x) for choice in self.choice_modules)
        probs = self.compute_arch_probs(arch_param=arch_param)
        return sum(p * choice(x) for p, choice in zip(probs, self.choice_modules, strict=True))


class SigmoidOP(mm.DifferentiableOP):
    """Has a say of its own in how logits become weights."""

    def compute_arch_probs(self, arch_param: Tensor) -> Tensor:
        return arch_param.sigmoid()


class OldSigmoidOP(SigmoidOP, OldOP):
    """Both at once."""


class KwargsOP(mm.DifferentiableOP):
    """Passes on whatever is lent."""

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        return -super().forward(x, **kwargs)


class OldFromScratchOP(mm.MutableOP):
    """Derives from no differentiable class of ours."""

    def build_arch_param(self) -> nn.Parameter:
        return nn.Parameter(torch.full((self.num_choices,), 0.25))

    def compute_arch_probs(self, arch_param: Tensor) -> Tensor:
        return arch_param.exp()

    def forward(self, x: Tensor, arch_param: Any = None) -> Tensor:
        if self.is_fixed:
            return sum(choice(x) for choice in self.choice_modules)
        return mm.DifferentiableOP.forward(self, x, arch_param)

    def mixture(self, arch_param: Tensor, relax: Any) -> Any:
        return mm.mutables.differentiable.Mixture(self.compute_arch_probs(arch_param))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, dtype=torch.float64)


def net_of(op: type) -> nn.Module:
    return nn.Sequential(*[op(space_id='a', choices=toys.candidates()) for _ in range(2)])


@pytest.mark.parametrize(
    ('op', 'weights_of'),
    [
        (OldOP, lambda alpha: alpha.softmax(-1)),
        (SigmoidOP, torch.sigmoid),
        (OldSigmoidOP, torch.sigmoid),
        (OldFromScratchOP, torch.exp),
    ],
)
def test_own_relaxation_under_every_mutator(
    learning: str, op: type, weights_of: Any, x: Tensor
) -> None:
    supernet, mutator = toys.prepared(learning, net_of(op))
    (alpha,) = mutator.arch_params.values()
    leaf = alpha.detach().clone().requires_grad_()
    weights = weights_of(leaf)
    expected = x
    for mutable in supernet:
        choices = zip(weights, mutable.choices.values(), strict=True)
        expected = sum(w * choice(expected) for w, choice in choices)
    out = supernet(x)
    assert_close(out, expected)
    out.square().sum().backward()
    assert_close(alpha.grad, torch.autograd.grad(expected.square().sum(), leaf)[0])
    subnet = mutator.search_subnet()
    net = mutator.export_subnet(supernet, subnet)
    mutator.deploy_subnet(supernet, subnet)
    assert_close(net(x), supernet(x), rtol=0, atol=0)


def test_a_forward_with_kwargs_passes_everything_on(learning: str, x: Tensor) -> None:
    supernet, mutator = toys.prepared(learning, net_of(KwargsOP)[:1])
    twin, its_mutator = toys.prepared(learning, net_of(mm.DifferentiableOP)[:1])
    twin.load_state_dict(supernet.state_dict())
    its_mutator.load_state_dict(mutator.state_dict())
    assert_close(toys.run(supernet, x), -toys.run(twin, x))


@pytest.mark.parametrize('op', [mm.GumbelOP, mm.GumbelEdge])
def test_gumbel_mutables_draw_once_per_space_under_every_mutator(
    learning: str, op: type
) -> None:
    is_edge = issubclass(op, mm.MutableEdge)
    supernet, mutator = toys.prepared(learning, toys.UnitSupernet(op))
    x = torch.randn(3, 2, dtype=torch.float64)
    inputs: Any = [x, x, x] if is_edge else x
    draws = set()
    for _ in range(12):
        first, second, _ = [m(inputs) for m in supernet.children()] if is_edge else supernet(x)
        if not is_edge:
            assert_close(first, second, rtol=0, atol=0)
        assert sorted(first.tolist()) == [0.0, 0.0, 1.0]
        draws.add(tuple(first.tolist()))
    assert len(draws) > 1
    if isinstance(mutator, mm.SNASMutator):
        mutator.on_epoch(4, max_epochs=5)
        assert supernet.first.tau == mutator.tau == mutator.temperature(4, 5) != mutator.tau_max


def test_given_weights_do_not_reach_a_mutable_that_takes_none() -> None:
    supernet, mutator = toys.prepared('DartsMutator', net_of(OldOP))
    weights = torch.eye(4, dtype=torch.float64)[1]
    x, given = torch.randn(6, 4, dtype=torch.float64), mutator.mixing({'a': weights})
    with pytest.raises(BindingError, match=r"'a'.*OldOP\.forward takes no .*`relax`"), given:
        supernet(x)


def test_a_mutable_that_nothing_was_lent_to(x: Tensor) -> None:
    mutable = mm.DifferentiableOP(space_id='a', choices=toys.candidates()).double()
    with pytest.raises(BindingError, match=r"'a' got no `arch_param`.*prepare_from_supernet"):
        mutable(x)
    alpha = torch.randn(4, dtype=torch.float64)
    expected = toys.naive_mix(mutable, x, {'a': mm.typing.Mixture(alpha.softmax(-1))})
    assert_close(mutable(x, arch_param=alpha), expected)
    assert_close(mutable(x, alpha), expected)
