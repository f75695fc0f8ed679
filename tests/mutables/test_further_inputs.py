"""All that a mutable is called with goes to every candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, InputError
from mmrazor_mutators.typing import Mixture

learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')
F64 = torch.float64
WEIGHTS = torch.tensor([0.25, 0.75], dtype=F64)


class Masked(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor, mask: Tensor, shift: float = 0.0) -> Tensor:
        return self.factor * x * mask + shift


MIXED = 0.25 * 1.5 - 0.75 * 2.0
SUM = 1.5 - 2.0


def masked() -> dict[str, nn.Module]:
    return {'one': Masked(1.5), 'two': Masked(-2.0)}


class Calls(nn.Module):
    """Calls a mutable in all ways."""

    def __init__(self, op: nn.Module, of: Callable[[Tensor], Any] = lambda x: x) -> None:
        super().__init__()
        self.op, self.of = op, of

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        first = self.of(x)
        return (
            self.op(first, mask)
            + self.op(first, mask=mask, shift=2.0)
            + self.op(first, mask, 1.0)
        )


MUTABLES: dict[str, Any] = {
    'DifferentiableOP': lambda: Calls(mm.DifferentiableOP(space_id='a', choices=masked())),
    'GumbelOP': lambda: Calls(mm.GumbelOP(space_id='a', choices=masked())),
    'DifferentiableEdge': lambda: Calls(
        mm.DifferentiableEdge(space_id='a', choices=masked()), lambda x: [x, x]
    ),
    'GumbelEdge': lambda: Calls(
        mm.GumbelEdge(space_id='a', choices=masked()), lambda x: (x, x)
    ),
    'PartialChannelOP': lambda: Calls(
        mm.PartialChannelOP(masked(), channel_proportion=1, space_id='a')
    ),
    'Placeholder': lambda: Calls(mm.Placeholder(group='g', space_id='a')),
}
MAPPING = {'g': {'type': 'DifferentiableOP', 'choices': masked()}}


@pytest.mark.parametrize('kind', MUTABLES)
def test_mutables_of_all_kinds(kind: str, learning: str) -> None:
    supernet = MUTABLES[kind]().double()
    whole = {'channel_proportion': 1} if learning == 'PCDartsMutator' else {}
    mutator = toys.build_mutator(learning, placeholder_mapping=MAPPING, **whole)
    mutator.prepare_from_supernet(supernet)
    x, mask = torch.randn(3, 4, dtype=F64), torch.rand(3, 4, dtype=F64)
    with mutator.mixing({'a': WEIGHTS}):
        out = supernet(x, mask)
    assert_close(out, 3 * MIXED * x * mask + 3.0)
    supernet(x, mask).sum().backward()
    assert mutator.arch_params['a'].grad is not None
    net = mutator.export_subnet(supernet, {'a': {'chosen': ['two']}})
    mutator.deploy_subnet(supernet, {'a': {'chosen': ['two']}})
    for network in (net, supernet):
        assert_close(network(x, mask), 3 * -2.0 * x * mask + 3.0)


def test_all_paths_at_once_and_one_path() -> None:
    x, mask = torch.randn(3, 4), torch.rand(3, 4)
    summed = mm.DifferentiableOP(space_id='a', choices=masked(), with_arch_param=False)
    assert_close(Calls(summed)(x, mask), 3 * SUM * x * mask + 6.0)
    one = mm.OneShotOP(space_id='a', choices=masked())
    one.set_choice_mask(torch.tensor([0, 1]))
    assert_close(Calls(one)(x, mask), 3 * -2.0 * x * mask + 3.0)


def test_channels_that_bypass() -> None:
    """A mask is for the part that the choices see."""
    op = mm.PartialChannelOP(
        masked(), channel_proportion=2, space_id='a', with_arch_param=False
    )
    x, mask = torch.randn(3, 4, 2, 2), torch.rand(3, 2, 2, 2)
    out = op(x, mask, shift=1.0)
    part = SUM * x[:, :2] * mask + 2.0
    assert_close(out, torch.stack([part, x[:, 2:]], 2).flatten(1, 2))
    with pytest.raises(InputError, match=r"bypass the operations, but got \('a',\)"):
        op(('a',), mask)

    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x, x

    op = mm.PartialChannelOP(
        {'a': Twice()}, channel_proportion=2, space_id='a', with_arch_param=False
    )
    with pytest.raises(InputError, match=r'return as many, but got \(\(3, 2, 2, 2\), \(3, 2'):
        op(x)


@pytest.mark.parametrize('kind', [mm.DifferentiableOP, mm.OneShotOP])
def test_everything_by_name(kind: Any) -> None:
    class Named(nn.Module):
        def forward(self, *, query: Tensor, key: Tensor) -> Tensor:
            return query + 2 * key

    op = kind(space_id='a', choices={'a': Named()})
    kwargs = {} if kind is mm.OneShotOP else {'arch_param': torch.zeros(1)}
    q, k = torch.randn(2), torch.randn(2)
    assert_close(op(query=q, key=k, **kwargs), q + 2 * k)
    relu = kind(space_id='a', choices={'relu': nn.ReLU()})  # Its argument has another name.
    assert_close(relu(x=q, **kwargs), q.relu())


def test_attention_takes_its_mask_and_returns_a_tuple(learning: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            choices = {
                'two': nn.MultiheadAttention(8, 2, batch_first=True),
                'four': nn.MultiheadAttention(8, 4, batch_first=True),
            }
            self.op = mm.DifferentiableOP(space_id='a', choices=choices)

        def forward(self, x: Tensor, padding: Tensor, need_weights: bool = True) -> Any:
            by_name = {'key_padding_mask': padding, 'need_weights': need_weights}
            return self.op(x, x, x, **by_name), self.op(query=x, key=x, value=x, **by_name)

    supernet, mutator = Net().double(), toys.build_mutator(learning)
    mutator.prepare_from_supernet(supernet)
    x = torch.randn(2, 5, 8, dtype=F64)
    padding = torch.arange(5).expand(2, 5) > torch.tensor([[2], [4]])
    for need_weights in (True, False):
        with mutator.mixing({'a': WEIGHTS}):
            both = supernet(x, padding, need_weights)
        parts = [
            op(x, x, x, key_padding_mask=padding, need_weights=need_weights)
            for op in supernet.op.choices.values()
        ]
        for found in both:
            assert_close(found[0], 0.25 * parts[0][0] + 0.75 * parts[1][0])
            if need_weights:
                assert_close(found[1], 0.25 * parts[0][1] + 0.75 * parts[1][1])
            else:
                assert found[1] is None


class Collides(nn.Module):
    """Calls its own arguments what a mutator calls what it lends."""

    def forward(self, x: Tensor, arch_param: Any = 2.0, relax: Any = False) -> Tensor:
        return x * arch_param + (1.0 if relax else 0.0)


@pytest.mark.parametrize('value', [3.0, torch.full((2,), 3.0, dtype=F64)])
def test_names_that_a_mutator_lends_work_by_position(learning: str, value: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            choices = {'a': Collides(), 'b': Collides()}
            self.op = mm.DifferentiableOP(space_id='a', choices=choices)

        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return self.op(x, *args, **kwargs)

    supernet, mutator = Net().double(), toys.build_mutator(learning)
    mutator.prepare_from_supernet(supernet)
    x = torch.randn(4, 2, dtype=F64)
    with mutator.mixing({'a': WEIGHTS}):
        assert_close(supernet(x), 2 * x)
        assert_close(supernet(x, value), 3 * x)
        assert_close(supernet(x, value, True), 3 * x + 1)
        with pytest.raises(InputError, match=r"'a'.*`arch_param` to be the logits.* 3\.0.*pos"):
            supernet(x, arch_param=3.0)
        with pytest.raises(InputError, match=r'`arch_param`.*2 choices.* shape \(4, 2\)'):
            supernet(x, arch_param=x)
        with pytest.raises(InputError, match=r'`relax` to be what relaxes.* but got True'):
            supernet(x, relax=True)
    mutator.deploy_subnet(supernet, {'a': {'chosen': ['a']}})
    assert_close(supernet(x, value), 3 * x)
    trained = torch.full((2,), 3.0, dtype=F64, requires_grad=True)
    assert_close(supernet(x, trained), 3 * x)


def test_an_original_that_runs_alone_keeps_its_arguments() -> None:
    choices = {'a': Collides(), 'b': nn.Identity()}
    op = mm.DifferentiableOP(space_id='a', choices=choices, original='a')
    x = torch.randn(4, 2)
    assert_close(op(x, torch.full((2,), 3.0)), 3 * x)


def test_logits_by_position_as_in_v0_2_0() -> None:
    op = mm.DifferentiableOP(space_id='a', choices={'same': nn.Identity(), 'neg': Negative()})
    x = torch.ones(1, 2)
    logits = torch.tensor([0.0, 1.0])
    weights = logits.softmax(-1)
    assert_close(op(x, logits), (weights[0] - weights[1]) * x)
    assert_close(op(x, logits, lambda a: Mixture(a + 1)), -x)
    with pytest.raises(BindingError, match="'a' got no `arch_param`"):
        op(x, torch.zeros(3))


class Negative(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -x


class PassesOn(mm.DifferentiableOP):
    """Written for v0.2.0."""

    def forward(self, x: Tensor, arch_param: Any = None) -> Tensor:
        return super().forward(x, arch_param)


@pytest.mark.parametrize('with_arch_param', [True, False])
def test_a_subclass_that_passes_logits_on_by_position(with_arch_param: bool) -> None:
    choices = {'same': nn.Identity(), 'neg': Negative()}
    both = {'other': mm.DifferentiableOP(space_id='o', choices=choices)}
    both['op'] = PassesOn(
        space_id='a', choices=choices, with_arch_param=with_arch_param, num_chosen=2
    )
    supernet, mutator = nn.ModuleDict(both).double(), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    x = torch.randn(3, 2, dtype=F64)
    if with_arch_param:
        weights = mutator.arch_params['a'].softmax(-1)
        assert_close(supernet['op'](x), (weights[0] - weights[1]) * x)
    else:
        assert_close(supernet['op'](x), 0 * x)
    mutator.deploy_subnet(supernet, {'a': {'chosen': ['neg']}, 'o': {'chosen': ['neg']}})
    assert_close(supernet['op'](x), -x)
