"""Choices that left the search have no part in anything any more."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
import toys
from torch import Tensor
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import SearchSpaceError
from mmrazor_mutators.mutables import find_mutables

learning = pytest.fixture(toys.mutator_of, params=toys.LEARNING_MUTATORS, name='learning')

DROPPED = {'widen': ['norm'], 'shared': ['none', 'deep'], 'node_p1': ['linear']}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 3, dtype=torch.float64)


def drop(mutator: Any, dropped: dict[str, list[str]] | None = None) -> None:
    for space_id, names in (DROPPED if dropped is None else dropped).items():
        mutator.drop_choices(space_id, names)


def smaller(supernet: Any, mutator: Any) -> tuple[Any, Any]:
    """Build the pair anew over the choices that were kept, with their weights and logits."""
    net = copy.deepcopy(supernet)
    for mutable in find_mutables(net):
        mutable.__dict__.pop('forward', None)
        kept = mutator.kept_choices(mutable.space_id)
        for name in set(mutable.choices) - set(kept):
            del mutable.choices[name]
        mutable._set_choices(mutable.choices)
    for module in net.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    other = copy.deepcopy(mutator).__class__(ignore_choices=mutator.ignore_choices)
    other.prepare_from_supernet(net)
    other.double()
    with torch.no_grad():
        for space_id, logits in other.arch_params.items():
            kept = list(mutator.kept_indices(space_id))
            logits.copy_(mutator.arch_params[space_id][kept])
    return net, other


@pytest.mark.parametrize('node_has_param', [False, True])
@pytest.mark.parametrize('name', ['DartsMutator', 'SNASMutator', 'GDASMutator'])
def test_the_rest_is_a_mutator_over_only_these_choices(
    name: str, node_has_param: bool, x: Tensor
) -> None:
    supernet, mutator = toys.prepared(name, toys.ToySupernet(node_has_param=node_has_param))
    drop(mutator)
    net, other = smaller(supernet, mutator)
    for seed in range(8):
        out, expected = toys.run(supernet, x, seed=seed), toys.run(net, x, seed=seed)
        assert_close(out, expected)
        mine = gradients(supernet, mutator, out)
        theirs = gradients(net, other, expected)
        for key, gradient in theirs.items():
            ours = mine[key]
            if key in mutator.arch_params and ours is not None:
                gone = [i for i in range(len(ours)) if i not in mutator.kept_indices(key)]
                assert not ours[gone].any()
                ours = ours[list(mutator.kept_indices(key))]
            assert (ours is None) == (gradient is None), key
            if gradient is not None:
                assert_close(ours, gradient)
        assert all(mine[key] is None for key in mine.keys() - theirs.keys())


def gradients(supernet: Any, mutator: Any, out: Tensor) -> dict[str, Tensor | None]:
    named = {**dict(mutator.arch_params), **dict(supernet.named_parameters())}
    grads = torch.autograd.grad(out.square().sum(), list(named.values()), allow_unused=True)
    return dict(zip(named, grads, strict=True))


def test_dropped_choices_weigh_nothing_and_are_not_run(learning: str, x: Tensor) -> None:
    supernet, mutator = toys.prepared(learning)
    drop(mutator)
    ran = set()
    for mutable in find_mutables(supernet):
        for name, choice in mutable.choices.items():
            key = mutable.space_id, name
            choice.register_forward_hook(lambda *_, key=key: ran.add(key))
    for seed in range(12):
        toys.run(supernet, x, seed=seed).sum().backward()
        for space_id, mixture in mutator.mixtures.items():
            names = mutator.search_spaces[space_id]['choice_names']
            for i, name in enumerate(names):
                if name in DROPPED.get(space_id, ()):
                    assert mixture.weights[i] == 0
                    assert mixture.paths is None or i not in mixture.paths
                    assert i not in mixture.silent
    assert ran
    assert not [key for key in ran if key[1] in DROPPED.get(key[0], ())]
    for space_id, names in DROPPED.items():
        gradient = mutator.arch_params[space_id].grad
        for name in names:
            index = mutator.search_spaces[space_id]['choice_names'].index(name)
            assert gradient is None or gradient[index] == 0


def test_one_choice_that_is_left_has_all_the_weight(x: Tensor) -> None:
    supernet, mutator = toys.prepared('DartsMutator')
    for space_id in mutator.arch_params:
        mutator.drop_choices(space_id, ['none', 'norm', 'deep'])
    net = mutator.export_subnet(supernet, mutator.search_subnet())
    mutator.drop_choices('node', [n for n in ('p0', 'p1', 'p2') if n not in _inputs(mutator)])
    assert_close(supernet(x), net(x))


def _inputs(mutator: Any) -> list[str]:
    chosen: list[str] = mutator.search_subnet()['node']['chosen']
    return chosen


def test_dropped_choices_are_in_no_subnet(learning: str) -> None:
    _, mutator = toys.prepared(learning, toys.ToySupernet(node_has_param=True))
    with torch.no_grad():  # They would win.
        for space_id, names in DROPPED.items():
            for name in names:
                index = mutator.search_spaces[space_id]['choice_names'].index(name)
                mutator.arch_params[space_id][index] += 1.0
    drop(mutator)
    mutator.drop_choices('node', ['p2'])
    for subnet in (mutator.search_subnet(), *map(mutator.random_subnet, range(40))):
        for space_id, choice in subnet.items():
            assert not set(choice['chosen']) & set(DROPPED.get(space_id, ()))
        assert set(subnet['node']['chosen']) <= {'p0', 'p1'}


def test_kept_choices(learning: str) -> None:
    _, mutator = toys.prepared(learning)
    assert mutator.kept_choices('widen') == ('none', 'linear', 'norm', 'deep')
    assert mutator.kept_indices('widen') == (0, 1, 2, 3)
    drop(mutator)
    assert mutator.kept_choices('widen') == ('none', 'linear', 'deep')
    assert mutator.kept_indices('shared') == (1, 2)
    mutator.drop_choices('widen', [])
    mutator.drop_choices('widen', ['norm', 'norm', 'none'])
    assert mutator.kept_indices('widen') == (1, 3)


def test_edges_without_a_parameter_leave_dropped_inputs_out(x: Tensor) -> None:
    supernet, mutator = toys.prepared('DartsMutator')
    net = supernet.backbone
    mutator.drop_choices('node', ['p1'])
    a = net.widen(x)
    b = net.first(a)
    c = net.second(b)
    expected = supernet.head(net.node.choices['p0'](a) + net.node.choices['p2'](c))
    # Called by themselves, the operations mix as in a forward pass: nothing is drawn.
    assert_close(supernet(x), expected)
    assert set(mutator.search_subnet()['node']['chosen']) == {'p0', 'p2'}
    with pytest.raises(SearchSpaceError, match=r"'node': a subnet keeps 2 .*p0 leaves p2"):
        mutator.drop_choices('node', ['p0'])


def masks(supernet: Any) -> dict[str, Any]:
    return {
        name: (m.choice_mask.tolist(), m.active_names)
        for name, m in supernet.named_modules()
        if isinstance(m, mm.MutableModule)
    }


def test_release_unmasks_and_prepare_drops_again(learning: str, x: Tensor) -> None:
    supernet, mutator = toys.prepared(learning)
    before = masks(supernet)
    drop(mutator)
    mutator.drop_choices('node', ['p0'])
    expected = toys.run(supernet, x)
    assert masks(supernet) != before
    mutator.release(supernet)
    assert masks(supernet) == before
    fresh = toys.build_mutator(learning)
    fresh.prepare_from_supernet(supernet)
    assert fresh.kept_choices('node') == ('p0', 'p1', 'p2')
    fresh.release(supernet)
    mutator.prepare_from_supernet(supernet)
    assert mutator.kept_choices('node') == ('p1', 'p2')
    assert_close(toys.run(supernet, x), expected, rtol=0, atol=0)


def test_deploy_and_then_release(learning: str, x: Tensor) -> None:
    supernet, mutator = toys.prepared(learning)
    drop(mutator)
    mutator.drop_choices('node', ['p0'])
    subnet = mutator.random_subnet(0)
    net = mutator.export_subnet(supernet, subnet)
    mutator.deploy_subnet(supernet, subnet)
    assert_close(net(x), supernet(x), rtol=0, atol=0)
    mutator.release(supernet)
    supernet.eval(), net.eval()
    assert_close(net(x), supernet(x), rtol=0, atol=0)


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_have_dropped_the_same_and_go_their_own_way(
    learning: str, duplicate: Any, x: Tensor
) -> None:
    supernet, mutator = toys.prepared(learning)
    drop(mutator)
    supernet(x)
    twin, its_mutator = duplicate((supernet, mutator))
    assert_close(toys.run(twin, x), toys.run(supernet, x), rtol=0, atol=0)
    its_mutator.drop_choices('widen', ['none'])
    assert mutator.kept_choices('widen') == ('none', 'linear', 'deep')
    assert its_mutator.kept_choices('widen') == ('linear', 'deep')


def test_state_dict(learning: str, x: Tensor) -> None:
    supernet, mutator = toys.prepared(learning)
    empty = copy.deepcopy(mutator.state_dict())
    drop(mutator)
    mutator.drop_choices('node', ['p0'])
    file = io.BytesIO()
    torch.save((supernet.state_dict(), mutator.state_dict()), file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    fresh = toys.prepared(learning)
    fresh[1].drop_choices('node_p2', ['deep'])  # Is forgotten.
    for part, state in zip(fresh, states, strict=True):
        part.load_state_dict(state)
    for space_id in mutator.search_spaces:
        assert fresh[1].kept_choices(space_id) == mutator.kept_choices(space_id)
    assert masks(fresh[0]) == masks(supernet)
    assert_close(toys.run(fresh[0], x), toys.run(supernet, x), rtol=0, atol=0)
    fresh[1].load_state_dict(empty)
    assert fresh[1].kept_choices('node') == ('p0', 'p1', 'p2')
    assert all(all(mask) for mask, _ in masks(fresh[0]).values())
    before = toys.build_mutator(learning)
    before.set_extra_state(mutator.get_extra_state())  # Not prepared yet.
    before.prepare_from_supernet(toys.ToySupernet())
    assert before.kept_choices('node') == ('p1', 'p2')


def test_training_goes_on_after_inference(x: Tensor) -> None:
    supernet, mutator = toys.prepared('DartsMutator')
    drop(mutator)
    with torch.inference_mode():
        supernet(x)
    supernet(x).sum().backward()
    assert mutator.arch_params['shared'].grad[1:3].any()


def test_moving(learning: str) -> None:
    supernet, mutator = toys.prepared(learning)
    drop(mutator)
    supernet.float(), mutator.float()
    out = supernet(torch.randn(6, 3))
    assert out.dtype == torch.float32
    if getattr(mutator, 'cost', '') == 'all paths':
        supernet.to('meta'), mutator.to('meta')
        assert supernet(torch.randn(6, 3, device='meta')).device.type == 'meta'


def test_mutables_that_relax_by_themselves_relax_what_was_kept(x: Tensor) -> None:
    supernet, mutator = toys.prepared('DartsMutator', toys.ToySupernet(op=mm.GumbelOP))
    drop(mutator)
    for seed in range(6):
        toys.run(supernet, x, seed=seed)
        weights = mutator.mixtures['shared'].weights
        assert weights[0] == weights[3] == 0
        assert weights.sum() == 1


def test_errors() -> None:
    mutator = mm.DartsMutator()
    with pytest.raises(SearchSpaceError, match="There is no space 'widen'; none are known"):
        mutator.drop_choices('widen', ['norm'])
    supernet = toys.ToySupernet()
    mutator.prepare_from_supernet(supernet)
    with pytest.raises(SearchSpaceError, match="space 'widn'; did you mean 'widen'"):
        mutator.drop_choices('widn', ['norm'])
    with pytest.raises(SearchSpaceError, match=r"'widen': there is no choice 'nrm'; .*'norm'"):
        mutator.drop_choices('widen', ['linear', 'nrm'])
    with pytest.raises(SearchSpaceError, match=r"'widen': .*list of choice names.* 'norm'"):
        mutator.drop_choices('widen', 'norm')
    text = r"'widen': a subnet keeps 1 .* dropping linear, norm, deep leaves none"
    with pytest.raises(SearchSpaceError, match=text):
        mutator.drop_choices('widen', ['linear', 'norm', 'deep'])  # ``none`` is ignored.
    assert mutator.kept_choices('widen') == ('none', 'linear', 'norm', 'deep')
    mutator.drop_choices('widen', ['linear', 'norm', 'none'])
    with pytest.raises(SearchSpaceError, match='dropping deep leaves none'):
        mutator.drop_choices('widen', ['deep'])
    for ask in (mutator.kept_choices, mutator.kept_indices):
        with pytest.raises(SearchSpaceError, match="no space 'widn'; did you mean 'widen'"):
            ask('widn')
