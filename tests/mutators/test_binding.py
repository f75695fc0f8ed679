"""One relaxation per space and forward pass, lent by a binding that can be undone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, SearchSpaceError
from mmrazor_mutators.mutators import bind, is_bound, release

STOCHASTIC = pytest.mark.parametrize('mutator_type', ['SNASMutator', 'GDASMutator'])
learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')


class Counting(mm.SNASMutator):
    """Writes down what it relaxes."""

    def relax(self, arch_param: Tensor) -> Tensor:
        self.__dict__.setdefault('relaxed', []).append(arch_param)
        return super().relax(arch_param)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 3, dtype=torch.float64)


def units(mutator_type: str | type = 'SNASMutator') -> tuple[Any, Any]:
    return toys.prepared(mutator_type, toys.UnitSupernet())


def test_every_space_is_relaxed_once_per_forward(x: Tensor) -> None:
    supernet, mutator = toys.prepared(Counting)
    for forwards in (1, 2):
        supernet(x)
        assert len(mutator.relaxed) == forwards * len(mutator.arch_params)
    assert {id(p) for p in mutator.relaxed} == {id(p) for p in mutator.arch_params.values()}


@STOCHASTIC
def test_mutables_of_a_space_share_each_draw(mutator_type: str, x: Tensor) -> None:
    supernet, mutator = units(mutator_type)
    draws = []
    for _ in range(12):
        first, second, other = supernet(x)
        assert_close(first, second, rtol=0, atol=0)
        assert_close(first.sum(), torch.ones_like(first.sum()))
        draws.append((first.detach(), other.detach()))
    assert len({tuple(first.tolist()) for first, _ in draws}) > 1
    assert any(not torch.equal(first, other) for first, other in draws)
    (first + second).square().sum().backward()  # Both reach the one parameter.
    assert mutator.arch_params['a'].grad is not None
    assert mutator.arch_params['b'].grad is None


@pytest.mark.parametrize('part', ['', 'backbone'])
def test_parts_that_hold_all_mutables_share_too(part: str, x: Tensor) -> None:
    supernet, mutator = toys.prepared(Counting)
    supernet.get_submodule(part)(x)
    assert len(mutator.relaxed) == len(mutator.arch_params)
    inner = nn.Sequential(toys.UnitSupernet())
    inner, mutator = toys.prepared('SNASMutator', nn.Sequential(inner, nn.Identity()))
    first, second, _ = inner.get_submodule({'': '0', 'backbone': '0.0'}[part])(x)
    assert_close(first, second, rtol=0, atol=0)


def test_a_wrapper_shares_too(x: Tensor) -> None:
    supernet, mutator = toys.prepared(Counting)
    nn.Sequential(nn.Identity(), supernet)(x)
    assert len(mutator.relaxed) == len(mutator.arch_params)


def test_a_mutable_by_itself_is_relaxed_when_it_is_called(learning: str, x: Tensor) -> None:
    supernet, mutator = units(learning)

    def weights_of(logits: Tensor) -> Tensor:
        weights = mutator.relax(logits)
        drawn = mutator.sample_paths({'a': weights})  # Some draw only there.
        return drawn['a'].weights if drawn else weights

    weights = toys.run(weights_of, mutator.arch_params['a'])
    assert_close(toys.run(supernet.first, x), weights)
    other_logits = torch.randn(3, dtype=torch.float64)
    expected = toys.run(weights_of, other_logits)
    assert_close(
        toys.run(supernet.first.forward.func, x, other_logits), other_logits.softmax(-1)
    )
    relax = supernet.first.forward.keywords['relax']
    assert_close(toys.run(relax, other_logits).weights, expected)


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize('place', ['backbone.first', 'backbone', 'head', ''])
def test_a_forward_that_raises_ends(place: str, error: type[BaseException], x: Tensor) -> None:
    supernet, mutator = toys.prepared(Counting)

    def fail(*_: Any) -> None:
        raise error('stop')

    hook = supernet.get_submodule(place).register_forward_pre_hook(fail)
    with pytest.raises(error, match='stop'):
        supernet(x)
    hook.remove()
    mutator.relaxed.clear()
    # An interrupt is noticed when the pass begins anew, an exception at once.
    again = supernet.backbone if error is ValueError else supernet
    for forwards in (1, 2):
        again(x).sum().backward()
        assert len(mutator.relaxed) == forwards * len(mutator.arch_params)


def test_a_relaxation_that_raises_ends(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    supernet, mutator = units()
    with monkeypatch.context() as patch:
        patch.setattr(mutator, 'relax', lambda logits: logits.reshape(2, 2))
        with pytest.raises(RuntimeError, match='shape'):
            supernet(x)
    draws = [supernet(x)[0] for _ in range(2)]
    assert not torch.equal(*draws)


def test_a_failed_export_leaves_the_binding_whole(x: Tensor) -> None:
    supernet, mutator = units()
    expected = toys.run(supernet, x)
    with pytest.raises(mm.NASError):
        mutator.export_subnet(supernet, {})
    for _ in range(2):
        assert_close(toys.run(supernet, x), expected, rtol=0, atol=0)
        mutator.export_subnet(supernet, mutator.search_subnet())


def test_a_bound_supernet_is_not_prepared_by_another(learning: str) -> None:
    supernet, mutator = toys.prepared(learning)
    other = toys.build_mutator('DartsMutator')
    before = [dict(module.__dict__) for module in supernet.modules()]
    with pytest.raises(BindingError, match=r"'widen'.*bound.* already.*release\(supernet\)"):
        other.prepare_from_supernet(supernet)
    assert [dict(module.__dict__) for module in supernet.modules()] == before
    assert not other.search_spaces
    assert not other.arch_params
    mutator.release(supernet)
    other.prepare_from_supernet(supernet)


def test_bind_is_bound_release() -> None:
    mutable = mm.DifferentiableOP(space_id='a', choices=toys.units())
    logits, relax = nn.Parameter(torch.randn(3)), torch.nn.Identity()
    assert not is_bound(mutable)
    bind(mutable, logits, relax)
    assert is_bound(mutable)
    assert mutable.forward.keywords == {'arch_param': logits, 'relax': relax}
    with pytest.raises(BindingError, match="'a' is bound to a mutator already"):
        bind(mutable, logits, relax)
    release(mutable)
    assert not is_bound(mutable)
    assert 'forward' not in mutable.__dict__
    release(mutable)  # Nothing to take back.


class Deaf(mm.DifferentiableOP):
    """Its forward takes no architecture parameter."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def contents(module: nn.Module) -> list[tuple[str, type, list[str]]]:
    return [(name, type(m), sorted(m.__dict__)) for name, m in module.named_modules()]


@pytest.mark.parametrize('kind', ['mutable', 'placeholder'])
def test_a_failed_prepare_leaves_everything_as_it_was(kind: str) -> None:
    mapping = {'hole': {'type': Deaf, 'choices': toys.candidates()}}
    last = {
        'mutable': Deaf(space_id='deaf', choices=toys.candidates()),
        'placeholder': mm.Placeholder('hole', 'deaf'),
    }[kind]
    good = mm.DifferentiableOP(space_id='good', choices=toys.candidates())
    supernet = nn.Sequential(good, last)
    mutator = mm.DartsMutator(placeholder_mapping=mapping)
    before = contents(supernet)
    with pytest.raises(BindingError, match=r"'deaf'.*Deaf\.forward takes no .*`arch_param`"):
        mutator.prepare_from_supernet(supernet)
    assert contents(supernet) == before
    assert not is_bound(good)
    assert not mutator.search_spaces
    assert list(mutator.arch_params) == []


def test_a_failed_prepare_keeps_the_logits_that_were_learnt() -> None:
    supernet, mutator = toys.prepared()
    mutator.release(supernet)
    before = dict(mutator.arch_params)
    with pytest.raises(BindingError, match="'deaf'"):
        mutator.prepare_from_supernet(Deaf(space_id='deaf', choices=toys.candidates()))
    assert {key: id(value) for key, value in mutator.arch_params.items()} == {
        key: id(value) for key, value in before.items()
    }


def test_a_supernet_without_anything_to_search() -> None:
    net = nn.Sequential(nn.Linear(3, 2))
    for mutator in (mm.DartsMutator(), mm.BaseMutator()):
        with pytest.raises(SearchSpaceError, match='Sequential has nothing to search'):
            mutator.prepare_from_supernet(net)
        assert not mutator.search_spaces


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
def test_logits_are_created_in_the_dtype_of_the_supernet(dtype: torch.dtype) -> None:
    supernet, mutator = toys.ToySupernet().to(dtype), mm.DartsMutator()
    mutator.prepare_from_supernet(supernet)
    assert {p.dtype for p in mutator.arch_params.values()} == {dtype}
    values = torch.cat([p.detach().double() for p in mutator.arch_params.values()])
    assert 0 < values.abs().max() < 6e-3  # 1e-3 N(0, 1)


def test_logits_of_a_space_without_a_parameter() -> None:
    _, mutator = toys.prepared()
    assert set(mutator.search_spaces) - set(mutator.arch_params) == {'node'}
    assert {p.shape for p in mutator.arch_params.values()} == {(4,)}


def test_another_supernet_gets_logits_of_its_own_sizes() -> None:
    supernet, mutator = toys.prepared()
    shared, widen = mutator.arch_params['shared'], mutator.arch_params['widen']
    mutator.release(supernet)
    other = nn.Sequential(
        mm.DifferentiableOP(space_id='shared', choices=toys.candidates()),
        mm.DifferentiableOP(space_id='widen', choices=toys.units(3)),
    )
    mutator.prepare_from_supernet(other)
    assert list(mutator.arch_params) == ['shared', 'widen']
    assert mutator.arch_params['shared'] is shared
    assert mutator.arch_params['widen'] is not widen
    assert mutator.arch_params['widen'].shape == (3,)
