"""MMRazor 1.0's mutator: groups, choices of both kinds, and one-hot paths."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import BindingError, ConfigError, SearchSpaceError, SubnetError
from mmrazor_mutators.mutables import find_mutables


class Mixed(nn.Module):
    """Two ops of one alias, one without any, two one-shot ones, and a node."""

    def __init__(self) -> None:
        super().__init__()
        self.first = mm.DiffMutableOP(toys.candidates(), alias='shared')
        self.second = mm.DiffMutableOP(toys.candidates(), alias='shared')
        self.inner = nn.Sequential(mm.DiffMutableOP(toys.candidates()))
        self.shot = mm.OneShotMutableOP(toys.candidates())
        self.other = mm.OneShotOP(choices=toys.candidates(), space_id='other')
        edges = {
            f'p{i}': mm.DiffMutableOP(toys.candidates(), alias=f'n_p{i}') for i in range(3)
        }
        self.node = mm.DiffChoiceRoute(nn.ModuleDict(edges), alias='n')

    def forward(self, x: Tensor) -> Tensor:
        a = self.second(self.first(x))
        b = self.inner(a)
        return self.node([a, b, self.other(self.shot(b))])


SPACES = ['shared', 'inner/0', 'shot', 'other', 'n', 'n_p0', 'n_p1', 'n_p2']
SET = {
    'shared': 'deep', 'inner/0': 'norm', 'shot': 'linear', 'other': ['deep'],
    'n': ['p0', 'p2'], 'n_p0': 'deep', 'n_p1': 'deep', 'n_p2': 'linear',
}  # fmt: skip


@pytest.fixture
def mixed() -> tuple[Mixed, Any]:
    return toys.prepared('NasMutator', Mixed())


def names_of(supernet: nn.Module) -> list[tuple[str, bool]]:
    return [(m.space_id, getattr(m, 'is_named', True)) for m in find_mutables(supernet)]


def test_groups_by_alias_and_by_place(mixed: Any) -> None:
    supernet, mutator = mixed
    assert list(mutator.search_groups) == SPACES
    assert mutator.search_groups['shared'] == [supernet.first, supernet.second]
    assert mutator.search_groups['inner/0'] == [supernet.inner[0]]
    assert set(mutator.arch_params) == {*SPACES} - {'shot', 'other', 'n'}
    mutator.prepare_arch_params()


@pytest.mark.parametrize(
    ('groups', 'expected'),
    [
        ([['shared', 'inner.0']], {'shared': ['first', 'second', 'inner.0']}),
        ([['inner.0', 'shared']], {'inner/0': ['first', 'second', 'inner.0']}),
        ([['second', 'inner.0']], {'shared': ['first'], 'second': ['second', 'inner.0']}),
        (
            [['other', 'n_p0'][:1], ['n_p0', 'n_p2']],
            {'n_p0': ['node.choices.p0', 'node.choices.p2']},
        ),
    ],
)
def test_groups_of_the_users_own(groups: Any, expected: dict[str, list[str]]) -> None:
    supernet, mutator = toys.prepared('NasMutator', Mixed(), custom_groups=groups)
    for space_id, places in expected.items():
        modules = [supernet.get_submodule(place) for place in places]
        assert mutator.search_groups[space_id] == modules
    assert mutator.arch_params[next(iter(expected))].shape == (4,)
    supernet(torch.randn(5, 4, dtype=torch.float64))


@pytest.mark.parametrize(
    ('groups', 'message'),
    [
        ([['shared', 'innner.0']], r"names 'innner.0'.*did you mean 'inner.0'"),
        ([['shared', 'first']], r"mutable at 'first' twice, .* as 'first' in"),
        ([['shared'], ['n_p0', 'shared']], r"at 'first' twice, .* 'shared' in \['n_p0'"),
        ([['node']] * 2, r"at 'node' twice"),
        (
            [['shared', 'shot']],
            r"'shared' is used twice for different things.*OneShotMutableOP",
        ),
    ],
)
def test_wrong_groups_change_nothing(groups: Any, message: str) -> None:
    supernet = Mixed()
    before = names_of(supernet)
    mutator = mm.NasMutator(custom_groups=groups)
    with pytest.raises(SearchSpaceError, match=message):
        mutator.prepare_from_supernet(supernet)
    assert names_of(supernet) == before
    mutator.custom_groups = []
    mutator.prepare_from_supernet(supernet)


def test_a_place_with_the_name_of_an_alias() -> None:
    supernet = nn.ModuleDict(
        {
            'a': mm.DiffMutableOP(toys.candidates()),
            'b': mm.DiffMutableOP(toys.candidates(), alias='a'),
        }
    )
    with pytest.raises(SearchSpaceError, match=r"spaces would be called 'a'"):
        mm.NasMutator().prepare_from_supernet(supernet)


@pytest.mark.parametrize('groups', ['ab', [[]], ['a'], [[1]], 3])
def test_groups_of_another_form(groups: Any) -> None:
    with pytest.raises(ConfigError, match=r'a list of lists of names, but got'):
        mm.NasMutator(custom_groups=groups)


def test_one_shot_mutables_run_what_is_set(mixed: Any) -> None:
    supernet, mutator = mixed
    x = torch.randn(5, 4, dtype=torch.float64)
    assert mutator.current_choices == dict.fromkeys(SPACES)
    outputs = [choice(x) for choice in supernet.shot.choices.values()]
    assert_close(supernet.shot(x), sum(outputs))
    mutator.set_choices(SET)
    assert mutator.current_choices == {**SET, 'other': 'deep'}
    assert_close(supernet.shot(x), supernet.shot.choices['linear'](x))
    assert_close(supernet.other(x), supernet.other.choices['deep'](x))
    # The others go on mixing.
    weights = mutator.arch_params['shared'].softmax(0)
    expected = sum(
        w * c(x) for w, c in zip(weights, supernet.first.choices.values(), strict=True)
    )
    assert_close(supernet.first(x), expected)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'shot': 'lineal'}, r"'shot'.*no choice 'lineal'; did you mean 'linear'"),
        ({'shot': 'none'}, r"'shot'.*none of them in `ignore_choices`.*but got \['none'\]"),
        ({'shot': ['deep', 'norm']}, r"at most 1 choices,.*but got \['deep', 'norm'\]"),
        ({'n': ['p0', 'p1', 'p2']}, r"'n'.*at most 2 choices"),
        ({'shots': 'deep'}, r'but got some for .*n_p2, shots'),
        ({'shot': []}, r"'shot'.*at least one choice"),
    ],
)
def test_wrong_choices_change_nothing(mixed: Any, change: Any, message: str) -> None:
    _, mutator = mixed
    mutator.set_choices(SET)
    before = mutator.current_choices
    with pytest.raises(SubnetError, match=message):
        mutator.set_choices({**SET, 'shot': 'norm', **change})
    assert mutator.current_choices == before
    for choices in (3, {}, {'shot': 'deep'}):
        with pytest.raises(
            SubnetError, match=r'a choice for each of the spaces shared, inner/0'
        ):
            mutator.set_choices(choices)


def test_samples(mixed: Any) -> None:
    _, mutator = mixed
    counts: dict[str, int] = {}
    torch.manual_seed(0)
    for _ in range(600):
        sampled = mutator.sample_choices()
        counts[sampled['shot']] = counts.get(sampled['shot'], 0) + 1
    assert list(sampled) == SPACES
    assert set(counts) == {'linear', 'norm', 'deep'}
    for count in counts.values():
        assert abs(count / 600 - 1 / 3) < 4 * (2 / 9 / 600) ** 0.5
    for space_id, logits in mutator.arch_params.items():
        best = max(range(1, 4), key=logits.tolist().__getitem__)
        assert sampled[space_id] == list(toys.candidates())[best]
    ranks = {f'p{i}': mutator.arch_params[f'n_p{i}'].softmax(0)[1:].max() for i in range(3)}
    assert sampled['n'] == sorted(ranks, key=ranks.__getitem__, reverse=True)[:2]


def test_kinds_of_samples(mixed: Any) -> None:
    _, mutator = mixed
    for kind in ('max', 'min'):
        with pytest.raises(SearchSpaceError, match=f"no '{kind}' of .* in the space 'shot'"):
            mutator.sample_choices(kind)
    with pytest.raises(ConfigError, match=r"'random', 'max' or 'min', but got 'mean'"):
        mutator.sample_choices('mean')
    _, learning = toys.prepared('NasMutator', toys.ToySupernet())
    assert learning.sample_choices('max') == learning.sample_choices('random')
    assert learning.sample_choices()['widen'] in ('linear', 'norm', 'deep')


def test_what_was_found(mixed: Any) -> None:
    supernet, mutator = mixed
    with pytest.raises(BindingError, match=r"one-shot space 'shot': call set_choices"):
        mutator.search_subnet()
    chosen = {**mutator.sample_choices(), 'shot': 'norm', 'other': 'deep'}
    mutator.set_choices(chosen)
    subnet = mutator.search_subnet()
    for space_id, entry in subnet.items():
        named = chosen[space_id]
        assert entry['chosen'] == (named if isinstance(named, list) else [named])
    assert set(SPACES) - set(subnet) == {f'n_{name}' for name in ('p0', 'p1', 'p2')} - {
        f'n_{name}' for name in chosen['n']
    }
    x = torch.randn(5, 4, dtype=torch.float64)
    net = mutator.export_subnet(supernet, subnet)
    twin, its = copy.deepcopy((supernet, mutator))
    its.deploy_subnet(twin, subnet)
    assert_close(net(x), twin(x))
    assert 'inner/0' in its.search_spaces
    assert not any(isinstance(module, mm.MutableModule) for module in net.modules())


def test_release_restores_everything() -> None:
    supernet = Mixed()
    before = names_of(supernet)
    mutator = mm.NasMutator(custom_groups=[['shared', 'inner.0']])
    for _ in range(2):
        mutator.prepare_from_supernet(supernet)
        kept = mutator.arch_params['shared']
        with pytest.raises(BindingError, match='prepared already'):
            mutator.prepare_from_supernet(supernet)
        assert names_of(supernet) != before
        choices = {key: value for key, value in SET.items() if key != 'inner/0'}
        mutator.set_choices(choices)
        mutator.release(supernet)
        assert names_of(supernet) == before
        assert supernet.shot.active_names == tuple(toys.candidates())
    mutator.prepare_from_supernet(supernet)
    assert mutator.arch_params['shared'] is kept
    assert mutator.current_choices['shot'] is None


def test_nothing_without_a_supernet() -> None:
    mutator = mm.NasMutator()
    for act in (
        mutator.prepare_arch_params,
        mutator.sample_choices,
        lambda: mutator.search_groups,
        lambda: mutator.current_choices,
        lambda: mutator.set_choices({}),
    ):
        with pytest.raises(BindingError, match='NasMutator has no supernet yet'):
            act()


class Counting(nn.Module):
    """Counts how often it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return self.linear(x)


def one_hot(**kwargs: Any) -> Any:
    ops = [
        mm.OneHotMutableOP({f'c{i}': Counting() for i in range(3)}, alias='a', **kwargs)
        for _ in range(2)
    ]
    return toys.prepared('NasMutator', nn.Sequential(*ops))


def test_one_hot_mutables_run_one_path_and_learn_by_its_score() -> None:
    supernet, mutator = one_hot()
    x = torch.randn(5, 4, dtype=torch.float64)
    torch.manual_seed(5)
    out = supernet(x)
    (index,) = mutator.mixtures['a'].paths
    for op in supernet:
        # One draw for both, and nothing else runs.
        assert [choice.runs for choice in op.choices.values()] == [
            int(i == index) for i in range(3)
        ]
    gate = torch.ones((), dtype=torch.float64, requires_grad=True)
    by_hand = x
    for op in supernet:
        by_hand = gate * op.choices[f'c{index}'].linear(by_hand)
    assert_close(out, by_hand)
    alpha = mutator.arch_params['a']
    (reward,) = torch.autograd.grad(by_hand.square().sum(), gate)
    (score,) = torch.autograd.grad(alpha.log_softmax(-1)[index], alpha)
    (mine,) = torch.autograd.grad(out.square().sum(), alpha)
    assert_close(mine, reward * score)


def test_under_another_mutator_every_choice_runs() -> None:
    op = mm.OneHotMutableOP({f'c{i}': Counting() for i in range(3)}, alias='a')
    supernet, _ = toys.prepared('DartsMutator', nn.Sequential(op))
    supernet(torch.randn(5, 4, dtype=torch.float64))
    assert [choice.runs for choice in op.choices.values()] == [1, 1, 1]


def test_one_hot_spaces_are_fixed_when_they_are_decided() -> None:
    probs = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    for threshold, kept in ((0.29, ['c0']), (0.31, ['c0', 'c1', 'c2']), (1.0, None)):
        _, mutator = one_hot(fix_threshold=threshold)
        with torch.no_grad():
            mutator.arch_params['a'].copy_(probs.log())
        mutator.on_epoch(0, 3)
        assert list(mutator.kept_choices('a')) == (kept or ['c0', 'c1', 'c2'])


def test_a_search_with_darts() -> None:
    supernet = Mixed()
    model = mm.Darts(supernet, mm.NasMutator(), loss=torch.nn.MSELoss())
    before = copy.deepcopy(dict(model.mutator.arch_params.items()))
    optimizers = {
        'architecture': torch.optim.SGD(supernet.parameters(), 0.1),
        'mutator': torch.optim.Adam(model.mutator.parameters(), 0.1),
    }
    model.mutator.set_choices(SET)
    batch = (torch.randn(6, 4), torch.randn(6, 4))
    model.train_step((batch, batch), optimizers)
    for space_id, logits in model.mutator.arch_params.items():
        assert not torch.equal(before[space_id], logits)
