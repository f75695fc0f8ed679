"""The one-shot mutator: what runs, how paths are drawn, mutated and crossed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import toys
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, ConfigError, SearchSpaceError, SubnetError
from mmrazor_mutators.mutables import find_mutables

SPACES = ['widen', 'shared', 'node', 'node_p0', 'node_p1', 'node_p2']


def prepared(**kwargs: Any) -> tuple[Any, Any]:
    supernet, mutator = toys.prepared('OneShotMutator', **kwargs)
    assert sorted(mutator.search_spaces) == sorted(SPACES)
    return supernet, mutator


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, 3, dtype=torch.float64)


def flagged(module: torch.nn.Module) -> Any:
    return vars(module).get('__in_subnet__')


@pytest.mark.parametrize('node_has_param', [False, True])
def test_a_path_runs_as_the_network_it_stands_for(
    x: torch.Tensor, node_has_param: bool
) -> None:
    supernet = toys.ToySupernet(node_has_param=node_has_param)
    supernet, mutator = prepared(supernet=supernet)
    for seed in range(6):
        masks = mutator.sample_subnet(generator=generator(seed))
        mutator.set_subnet(masks)
        net = mutator.export_subnet(supernet, mutator.masks_to_subnet(masks))
        for mode in (True, False):
            twin = copy.deepcopy(supernet)
            other = copy.deepcopy(net)
            assert_close(twin.train(mode)(x), other.train(mode)(x), rtol=0, atol=0)
        used = {name for name, p in supernet.named_parameters() if grad_of(supernet, p, x)}
        assert len(used) == len([p for p in net.parameters() if grad_of(net, p, x)])


def grad_of(net: torch.nn.Module, parameter: torch.Tensor, x: torch.Tensor) -> bool:
    (grad,) = torch.autograd.grad(net(x).square().sum(), [parameter], allow_unused=True)
    return grad is not None


def test_dead_choices_do_not_run(x: torch.Tensor) -> None:
    supernet, mutator = prepared()
    ran: list[str] = []
    for name, module in supernet.named_modules():
        if '.choices.' in name:
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    names = {
        **{space_id: {'chosen': ['linear']} for space_id in SPACES},
        'node': {'chosen': ['p0', 'p2']},
    }
    mutator.set_subnet(names)
    supernet(x)
    expected = {
        f'backbone.{place}.choices.linear' for place in ('widen', 'first', 'second')
    } | {f'backbone.node.choices.p{i}{end}' for i in (0, 2) for end in ('', '.0')}
    expected |= {f'backbone.node.choices.p{i}.0.choices.linear' for i in (0, 2)}
    assert {*ran} == expected
    for name, module in supernet.named_modules():
        if '.choices.' in name and not name.endswith('.choices'):
            assert flagged(module) == (name in expected), name
    assert flagged(supernet.backbone.widen) is None
    net = mutator.export_subnet(supernet, names)
    assert {flagged(module) for module in net.modules()} == {None}


def test_draws_are_uniform_and_the_seed_decides() -> None:
    _, mutator = prepared()
    count, draws = 0.0, 1500
    for _ in range(draws):
        count = count + torch.cat([*mutator.sample_subnet().values()])
    shares = dict(
        zip(mutator.search_spaces, (count / draws).split([4, 4, 3, 4, 4, 4]), strict=True)
    )
    for space_id, share in shares.items():
        p = 2 / 3 if space_id == 'node' else 1 / 4
        assert_close(share, torch.full_like(share, p), rtol=0, atol=4.5 * 0.5 / draws**0.5)
    torch.manual_seed(3)
    first = mutator.sample_subnet()
    second = mutator.sample_subnet(searching=True)
    torch.manual_seed(3)
    assert mutator.masks_to_subnet(mutator.sample_subnet()) == mutator.masks_to_subnet(first)
    assert mutator.masks_to_subnet(first) != mutator.masks_to_subnet(second)
    state = torch.get_rng_state()
    again = [mutator.sample_subnet(generator=generator(5)) for _ in range(2)]
    assert mutator.masks_to_subnet(again[0]) == mutator.masks_to_subnet(again[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_space_mask_weighs_the_draws() -> None:
    _, mutator = prepared()
    space = mutator.search_spaces['widen']
    space['space_mask'] = torch.tensor([0.0, 3.0, 1.0, 0.0])
    drawn = sum(mutator.get_random_mask(space) for _ in range(800)) / 800
    assert_close(drawn, torch.tensor([0.0, 0.75, 0.25, 0.0]), rtol=0, atol=0.07)
    mutant = {'widen': {'chosen': ['linear']}}
    for _ in range(5):
        masks = mutator.mutation({**mutator.random_subnet(0), **mutant}, prob=1.0)
        assert masks['widen'].tolist() == [0.0, 0.0, 1.0, 0.0]
    space['space_mask'] = torch.zeros(4)
    with pytest.raises(SearchSpaceError, match=r"'widen': 1 of .* is \[0.0, 0.0, 0.0, 0.0\]"):
        mutator.sample_subnet()


def test_ignored_choices_are_never_drawn() -> None:
    _, mutator = prepared(ignore_choices=('none', 'deep'))
    for seed in range(30):
        for masks in (
            mutator.sample_subnet(generator=generator(seed)),
            mutator.mutation(mutator.random_subnet(seed), prob=1.0),
        ):
            chosen = mutator.masks_to_subnet(masks)
            assert not {'none', 'deep'} & {n for e in chosen.values() for n in e['chosen']}
    with pytest.raises(SearchSpaceError, match=r"got 'none'"):
        mm.OneShotMutator(ignore_choices='none')
    supernet = toys.ToySupernet()
    greedy = mm.OneShotMutator(ignore_choices=['none', 'linear', 'norm', 'deep'])
    with pytest.raises(SearchSpaceError, match=r"'deep'\) leaves \[\]"):
        greedy.prepare_from_supernet(supernet)
    assert supernet.backbone.widen.with_arch_param


def test_mutants_differ_from_their_parent() -> None:
    _, mutator = prepared()
    parent = mutator.sample_subnet(generator=generator())
    kept = {space_id: mask.clone() for space_id, mask in parent.items()}
    hits, one = dict.fromkeys(SPACES, 0), 0
    for seed in range(600):
        mutant = mutator.mutation(parent, 0.4, generator(seed))
        changed = [s for s in SPACES if not torch.equal(mutant[s], parent[s])]
        assert changed
        one += len(changed) == 1
        for space_id in changed:
            hits[space_id] += 1
            assert mutant[space_id].sum() == parent[space_id].sum()
    assert all(torch.equal(parent[s], kept[s]) for s in SPACES)
    # Each space with probability 0.4, and one of six where none was hit.
    expected = 0.4 + 0.6**6 / 6
    assert all(abs(n / 600 - expected) < 4.5 * 0.5 / 600**0.5 for n in hits.values())
    assert abs(one / 600 - (0.6**6 + 6 * 0.4 * 0.6**5)) < 4.5 * 0.5 / 600**0.5
    for prob, number in ((0.0, {1}), (1, {6})):
        mutants = [mutator.mutation(parent, prob) for _ in range(8)]
        counts = {sum(not torch.equal(m[s], parent[s]) for s in SPACES) for m in mutants}
        assert counts == number
    for prob in (-0.1, 1.1, True):
        with pytest.raises(ConfigError, match=f'`prob` to be from 0 to 1, but got {prob!r}'):
            mutator.mutation(parent, prob)


def test_a_space_without_alternative_is_not_mutated() -> None:
    supernet = mm.OneShotOP(space_id='a', choices=toys.units(1))
    mutator = mm.OneShotMutator()
    mutator.prepare_from_supernet(supernet)
    parent = mutator.sample_subnet()
    assert mutator.mutation(parent, 1.0)['a'].tolist() == [1.0]


def test_children_take_each_space_from_either_parent() -> None:
    _, mutator = prepared()
    first = {s: {'chosen': ['linear']} for s in SPACES} | {'node': {'chosen': ['p0', 'p1']}}
    second = {s: {'chosen': ['deep']} for s in SPACES} | {'node': {'chosen': ['p1', 'p2']}}
    sides = [mutator.subnet_to_masks(side) for side in (first, second)]
    counts = dict.fromkeys(SPACES, 0)
    for seed in range(400):
        child = mutator.crossover(first, sides[1], generator(seed))
        for space_id in SPACES:
            of_second = torch.equal(child[space_id], sides[1][space_id])
            assert of_second or torch.equal(child[space_id], sides[0][space_id])
            counts[space_id] += of_second
    assert all(abs(n / 400 - 0.5) < 4.5 * 0.5 / 400**0.5 for n in counts.values())
    child = mutator.crossover(*sides)
    child['widen'].fill_(7)
    assert all(side['widen'].sum() == 1 for side in sides)


def test_masks_and_subnets_say_the_same() -> None:
    _, mutator = prepared()
    masks = mutator.sample_subnet(generator=generator(1))
    subnet = mutator.masks_to_subnet(masks)
    back = mutator.subnet_to_masks(subnet)
    assert list(back) == list(mutator.search_spaces)
    assert all(torch.equal(back[s], masks[s]) for s in masks)
    live = mutator.live_part(subnet)
    (dead,) = {*subnet} - {*live}
    assert dead == next(
        f'node_{n}' for n in ('p0', 'p1', 'p2') if n not in live['node']['chosen']
    )
    filled = mutator.masks_to_subnet(mutator.subnet_to_masks(live))
    assert filled == {**live, dead: {'chosen': ['none']}}


def test_the_chosen_subnet_is_the_one_that_is_found() -> None:
    supernet, mutator = prepared()
    with pytest.raises(BindingError, match='knows no subnet yet'):
        mutator.search_subnet()
    masks = mutator.sample_subnet(generator=generator(2))
    mutator.set_chosen_subnet(masks)
    assert mutator.search_subnet() == mutator.live_part(mutator.masks_to_subnet(masks))
    assert (
        mutator.search_spaces['widen']['chosen'] == mutator.search_subnet()['widen']['chosen']
    )
    mutator.deploy_subnet(supernet, mutator.search_subnet())
    assert supernet.backbone.node.num_choices == 2


def good() -> dict[str, Any]:
    _, mutator = prepared()
    return mutator.sample_subnet(generator=generator())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'widen': torch.ones(3)}, r"'widen'.* shape \(4,\), but got \(3,\)"),
        ({'widen': 'linear'}, r"'widen'.* shape \(4,\), but got 'linear'"),
        ({'widen': torch.zeros(4)}, r"'widen'.*1 to 1 .* got \[0.0, 0.0, 0.0, 0.0\]"),
        ({'node': torch.ones(3)}, r"'node'.*1 to 2 .* got \[1.0, 1.0, 1.0\]"),
        ({'nope': torch.ones(4)}, 'each of the spaces widen, .* some for .*nope'),
    ],
)
def test_masks_that_do_not_fit_change_nothing(change: dict[str, Any], message: str) -> None:
    supernet, mutator = prepared()
    masks = mutator.sample_subnet(generator=generator())
    mutator.set_subnet(masks)
    before = [m.active_names for m in find_mutables(supernet)]
    for act in (mutator.set_subnet, mutator.set_chosen_subnet, mutator.masks_to_subnet):
        with pytest.raises(SubnetError, match=message):
            act({**masks, **change})
    assert [m.active_names for m in find_mutables(supernet)] == before


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'widen': {'chosen': ['lineal']}}, "'widen'.*no choice 'lineal'.*mean 'linear'"),
        ({'node_p1': {'chosen': ['lineal']}}, "'node_p1'.*no choice 'lineal'"),
        ({'node_p1': {'chose': []}}, "'node_p1'.* got None"),
        ({'nope': {'chosen': ['linear']}}, "a space 'nope'"),
        ({'node': {'chosen': ['p0', 'p1', 'p2']}}, r"'node'.*at most 2 .*'p2'\]"),
        ({'widen': None}, "'widen'.*but got None"),
    ],
)
def test_subnets_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    _, mutator = prepared()
    subnet = {s: {'chosen': ['linear']} for s in SPACES} | {'node': {'chosen': ['p0', 'p2']}}
    mutator.set_subnet(subnet)
    with pytest.raises(SubnetError, match=message):
        mutator.set_subnet({**subnet, **change})
    with pytest.raises(SubnetError, match="lacks the space 'widen'"):
        mutator.set_subnet({s: e for s, e in subnet.items() if s != 'widen'})


def test_without_a_supernet() -> None:
    mutator = mm.OneShotMutator()
    for act in (mutator.sample_subnet, lambda: mutator.set_subnet({'a': torch.ones(1)})):
        with pytest.raises(BindingError, match='has no supernet yet'):
            act()


def test_release_undoes_everything(x: torch.Tensor) -> None:
    supernet = toys.ToySupernet()
    before = {
        name: (m.with_arch_param, m.active_names)
        for name, m in supernet.named_modules()
        if isinstance(m, mm.MutableModule)
    }
    supernet, mutator = prepared(supernet=supernet)
    assert not any(m.with_arch_param for m in find_mutables(supernet))
    mutator.set_subnet(mutator.sample_subnet())
    mutator.release(supernet)
    after = {
        name: (m.with_arch_param, m.active_names)
        for name, m in supernet.named_modules()
        if isinstance(m, mm.MutableModule)
    }
    assert after == before
    assert not [m for m in supernet.modules() if flagged(m) is not None]
    learner = mm.DartsMutator().double()
    learner.prepare_from_supernet(supernet)
    assert supernet(x).shape == (6, 2)


def test_a_copied_pair_has_paths_of_its_own(x: torch.Tensor) -> None:
    pair = prepared()
    pair[1].set_subnet(pair[1].random_subnet(0))
    expected = pair[0].eval()(x)
    supernet, mutator = copy.deepcopy(pair)
    assert_close(supernet(x), expected, rtol=0, atol=0)
    mutator.set_subnet(mutator.random_subnet(1))
    assert not torch.equal(supernet(x), expected)
    assert_close(pair[0](x), expected, rtol=0, atol=0)


def test_one_shot_ops_of_the_users_mapping() -> None:
    supernet = mm.NasBench201Supernet(
        in_channels=1, num_classes=3, base_channels=4, num_cells=1
    )
    choices = {'skip': {'type': 'NasBench201SkipConnect'}, 'zero': {'type': 'NasBench201Zero'}}
    mapping = {'node': {'type': 'OneShotOP', 'choices': choices}}
    mutator = mm.OneShotMutator(placeholder_mapping=mapping)
    mutator.prepare_from_supernet(supernet)
    kinds = {type(m).__name__ for m in find_mutables(supernet)}
    assert kinds == {'OneShotOP'}
    images = torch.randn(2, 1, 8, 8)
    keys = set(supernet.state_dict())
    for seed in range(3):
        subnet = mutator.random_subnet(seed)
        mutator.set_subnet(subnet)
        net = mutator.export_subnet(supernet, subnet)
        assert_close(supernet.eval()(images), net.eval()(images), rtol=0, atol=0)
    assert set(supernet.state_dict()) == keys
