"""Choices leave at the right epochs, by the right rule, once, also after a resumption."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import skip_toys
import torch
import toys
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.extensions import ProgressiveShrinking, ThresholdPruning
from mmrazor_mutators.functional import first_epoch, stages_until


def sizes(mutator: Any) -> dict[str, int]:
    return {space_id: len(mutator.kept_choices(space_id)) for space_id in mutator.arch_params}


def sizes_by_epoch(keep: dict[float, int], max_epochs: int) -> list[int]:
    _, mutator = skip_toys.prepared(ProgressiveShrinking(keep))
    counts = []
    for epoch in range(max_epochs):
        mutator.on_epoch(epoch, max_epochs)
        assert len(set(sizes(mutator).values())) == 1
        counts.append(sizes(mutator)['reduce'])
    return counts


def test_stages_begin_at_epochs_and_at_parts_of_all_epochs() -> None:
    assert [first_epoch(part, 30) for part in (0.1, 0.2, 0.3, 0.5, 0.7, 0.99)] == [
        *(3, 6, 9, 15, 21, 30)
    ]
    assert [first_epoch(0.5, n) for n in (1, 2, 5, 100)] == [1, 1, 3, 50]
    assert first_epoch(7, 3) == 7
    assert stages_until({5: 'b', 0.1: 'a', 0.9: 'c'}, 8, 10) == [(1, 'a'), (5, 'b')]
    assert stages_until({0.5: 1}, 4, 10) == []


def test_choices_leave_at_the_start_of_the_epochs() -> None:
    assert sizes_by_epoch({2: 3, 4: 2}, 6) == [4, 4, 3, 3, 2, 2]
    assert sizes_by_epoch({0.5: 2}, 5) == [4, 4, 4, 2, 2]
    assert sizes_by_epoch({0: 3, 0.75: 1}, 4) == [3, 3, 3, 1]
    assert sizes_by_epoch({1: 2, 2: 3, 3: 9}, 5) == [4, 2, 2, 2, 2]  # Nothing comes back.
    assert sizes_by_epoch({6: 1}, 3) == [4, 4, 4]


@pytest.mark.parametrize('ignored', [(), ('none',)])
def test_the_best_stay(ignored: tuple[str, ...]) -> None:
    _, mutator = skip_toys.prepared(
        ProgressiveShrinking({1: 3, 2: 2, 3: 1}), ignore_choices=ignored
    )
    for epoch, count in ((0, 4), (1, 3), (2, 2), (3, 1)):
        mutator.on_epoch(epoch, 4)
        for space_id, logits in mutator.arch_params.items():
            rating = dict(zip(skip_toys.NAMES, logits.tolist(), strict=True))
            best = sorted(rating, key=rating.__getitem__, reverse=True)
            if set(best[:count]) == set(ignored):
                best = best[1:]
            assert set(mutator.kept_choices(space_id)) == set(best[:count])


def test_ignored_choices_are_rated_like_others_but_never_alone() -> None:
    _, mutator = skip_toys.prepared(ProgressiveShrinking({1: 2, 2: 1}))
    logits = {'none': 5.0, 'skip_connect': 1.0, 'conv': 2.0, 'pool': 0.0}
    skip_toys.set_logits(mutator, 'normal_s', **logits)
    skip_toys.set_logits(mutator, 'reduce', **{**logits, 'none': -1.0})
    mutator.on_epoch(1, 3)
    assert mutator.kept_choices('normal_s') == ('none', 'conv')
    assert mutator.kept_choices('reduce') == ('skip_connect', 'conv')
    mutator.on_epoch(2, 3)
    assert mutator.kept_choices('normal_s') == mutator.kept_choices('reduce') == ('conv',)
    assert mutator.search_subnet()['normal_s']['chosen'] == ['conv']


class Pair(torch.nn.Module):
    """One space of which a subnet keeps two."""

    def __init__(self) -> None:
        super().__init__()
        self.op = mm.DifferentiableOP(
            space_id='a', num_chosen=2, choices=skip_toys.candidates(1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.op(x)


@pytest.mark.parametrize('cls', [ProgressiveShrinking, ThresholdPruning])
def test_a_space_keeps_what_a_subnet_needs(cls: type) -> None:
    extension = cls({0: 1}) if cls is ProgressiveShrinking else cls(1.0, temperature=0.01)
    _, mutator = toys.prepared(supernet=Pair(), extensions=[extension])
    skip_toys.set_logits(mutator, 'a', none=3.0, skip_connect=1.0, conv=0.0, pool=2.0)
    mutator.on_epoch(0, 1)
    kept = mutator.kept_choices('a')
    # The threshold of 1 / 4 is passed by ``none`` too, a count of 1 leaves it no room.
    expected = {'skip_connect', 'pool'} | ({'none'} if cls is ThresholdPruning else set())
    assert set(kept) == expected
    assert set(mutator.search_subnet()['a']['chosen']) == {'skip_connect', 'pool'}


@pytest.mark.parametrize('edges', [False, True])
def test_edges_are_left_alone_unless_asked_for(edges: bool) -> None:
    _, mutator = toys.prepared(
        supernet=toys.ToySupernet(node_has_param=True),
        extensions=[ProgressiveShrinking({0: 2}, edges=edges)],
    )
    mutator.on_epoch(0, 1)
    assert sizes(mutator) == {**dict.fromkeys(mutator.arch_params, 2), 'node': 3 - edges}
    without = toys.prepared(extensions=[ProgressiveShrinking({0: 2}, edges=edges)])[1]
    without.on_epoch(0, 1)
    assert len(without.kept_choices('node')) == 3


def pruned(logits: list[float], epoch: int, **kwargs: Any) -> set[str]:
    _, mutator = skip_toys.prepared(ThresholdPruning(**kwargs), ignore_choices=())
    with torch.no_grad():
        for arch_param in mutator.arch_params.values():
            arch_param.copy_(torch.tensor(logits))
    mutator.on_epoch(epoch, 100)
    kept = {mutator.kept_choices(space_id) for space_id in mutator.arch_params}
    assert len(kept) == 1  # The threshold is that of every space.
    return set(skip_toys.NAMES).difference(kept.pop())


def test_the_threshold_is_that_of_the_sharpened_scores() -> None:
    logits = [0.0, 0.5, 1.0, 2.0]
    for epoch in (0, 9, 10, 30, 99):
        temperature = 1.6 * 0.95**epoch
        raised = [math.exp(a / temperature) for a in logits]
        expected = {
            name
            for name, e in zip(skip_toys.NAMES, raised, strict=True)
            if e / sum(raised) < 0.4 / 4 and temperature < 1.0
        }
        assert pruned(logits, epoch) == expected
    assert not pruned(logits, 9)  # 1.6 * 0.95^9 = 1.008, 1.6 * 0.95^10 = 0.958.
    assert pruned(logits, 10) == {'none'}
    assert pruned(logits, 99) == {'none', 'skip_connect', 'conv'}
    assert not pruned(logits, 99, threshold=0.0)


def test_the_threshold_may_grow() -> None:
    pruning = ThresholdPruning(threshold=0.8, start_threshold=0.2)
    values = []
    for epoch in (0, 2, 4):
        pruning.on_epoch(epoch, 5)
        values.append(pruning.threshold)
    assert values == pytest.approx([0.2, 0.5, 0.8])
    assert ThresholdPruning(0.3).threshold == 0.3


def test_the_best_is_never_pruned() -> None:
    assert pruned([0.0, 0.0, 0.0, 0.0], 99, threshold=1.0) == set()
    assert len(pruned([0.0, 0.01, 0.02, 0.03], 99, threshold=1.0)) >= 2
    _, mutator = skip_toys.prepared(ThresholdPruning(1.0, temperature=1e-3))
    for arch_param in mutator.arch_params.values():
        arch_param.data.copy_(torch.tensor([9.0, 1.0, 2.0, 0.0]))
    mutator.on_epoch(0, 1)
    assert mutator.kept_choices('reduce') == ('none', 'conv')


EXTENSIONS = {
    'progressive': lambda: ProgressiveShrinking({1: 3, 3: 2}),
    'threshold': lambda: ThresholdPruning(1.0, 0.2, temperature=1.0, decay=0.7, grace=0.8),
}


def run_epochs(search: Any, first: int, last: int, seed: int = 0) -> list[dict[str, Any]]:
    history = []
    for epoch in range(first, last):
        search.on_epoch(epoch, 5)
        torch.manual_seed(seed + epoch)
        for _ in range(2):
            search.step(skip_toys.batch(), skip_toys.batch())
        history.append({s: search.mutator.kept_choices(s) for s in search.mutator.arch_params})
    return history


@pytest.mark.parametrize('name', EXTENSIONS)
@pytest.mark.parametrize('saved_after', [1, 2, 3, 4])
def test_a_resumed_search_drops_the_same(name: str, saved_after: int) -> None:
    torch.manual_seed(0)
    through = skip_toys.search_over(*skip_toys.prepared(EXTENSIONS[name]()))
    first = run_epochs(through, 0, saved_after)
    state = copy.deepcopy(through.state_dict())
    rest = run_epochs(through, saved_after, 5)
    torch.manual_seed(7)
    resumed = skip_toys.search_over(*skip_toys.prepared(EXTENSIONS[name]()))
    resumed.load_state_dict(state)
    kept = {s: resumed.mutator.kept_choices(s) for s in resumed.mutator.arch_params}
    assert kept == first[-1]  # Loading drops nothing more and nothing less.
    assert run_epochs(resumed, saved_after, 5) == rest
    assert_close(dict(resumed.mutator.arch_params), dict(through.mutator.arch_params))
    assert len({tuple(sorted(kept.items())) for kept in first + rest}) > 1


@pytest.mark.parametrize('name', EXTENSIONS)
def test_an_epoch_that_is_announced_again_drops_nothing_more(name: str) -> None:
    for through_a_state in (False, True):
        search = skip_toys.search_over(*skip_toys.prepared(EXTENSIONS[name]()))
        kept = run_epochs(search, 0, 4)[-1]
        if through_a_state:
            state = search.state_dict()
            search = skip_toys.search_over(*skip_toys.prepared(EXTENSIONS[name]()))
            search.load_state_dict(state)
        with torch.no_grad():
            for logits in search.mutator.arch_params.values():
                logits.copy_(50 * torch.randn(4))
        search.on_epoch(3, 5)
        assert {s: search.mutator.kept_choices(s) for s in kept} == kept


def test_a_search_that_skips_the_epoch_shrinks_at_the_next() -> None:
    _, mutator = skip_toys.prepared(ProgressiveShrinking({2: 3, 4: 2}))
    mutator.on_epoch(3, 8)
    assert set(sizes(mutator).values()) == {3}
    mutator.on_epoch(7, 8)
    assert set(sizes(mutator).values()) == {2}


def test_epochs_before_prepare_and_after_deploy_drop_nothing() -> None:
    extension = ProgressiveShrinking({0: 2})
    mutator = mm.DartsMutator(extensions=[extension])
    mutator.on_epoch(0, 2)
    supernet = skip_toys.SkipSupernet()
    mutator.prepare_from_supernet(supernet)
    mutator.on_epoch(0, 2)
    assert set(sizes(mutator).values()) == {2}
    later = mm.DartsMutator(extensions=[ProgressiveShrinking({0: 4, 1: 1})])
    net = skip_toys.SkipSupernet()
    later.prepare_from_supernet(net)
    later.deploy_subnet(net, later.random_subnet(0))
    before = str(net)
    later.on_epoch(1, 2)
    assert str(net) == before


def test_other_scores_rank_in_their_own_way() -> None:
    class Reversed(mm.DartsMutator):
        def choice_probs(self, arch_param: torch.Tensor) -> torch.Tensor:
            return (-arch_param).softmax(-1)

    _, mutator = skip_toys.prepared(ProgressiveShrinking({0: 2}), mutator=Reversed)
    skip_toys.set_logits(mutator, 'reduce', none=3.0, skip_connect=1.0, conv=2.0, pool=0.0)
    mutator.on_epoch(0, 1)
    assert mutator.kept_choices('reduce') == ('skip_connect', 'pool')


@pytest.mark.parametrize(
    ('keep', 'came'),
    [
        ({}, '{}'),
        ([(1, 2)], r'\[\(1, 2\)\]'),
        ({-1: 3}, '-1'),
        ({1.5: 3}, r'1\.5'),
        ({1.0: 3}, r'1\.0'),
        ({'5': 3}, "'5'"),
        ({True: 3}, 'True'),
        ({2: 0}, '0 for 2'),
        ({0.5: 2.0}, r'2\.0 for 0\.5'),
    ],
)
def test_wrong_stages(keep: Any, came: str) -> None:
    with pytest.raises(ConfigError, match=rf'`keep` to be .*but got {came}$'):
        ProgressiveShrinking(keep)


def test_wrong_thresholds() -> None:
    for name in ('threshold', 'start_threshold'):
        with pytest.raises(ConfigError, match=rf'`{name}` to be from 0 to 1, but got 1\.5'):
            ThresholdPruning(**{name: 1.5})
        with pytest.raises(ConfigError, match=rf'`{name}` .* of at least 0, but got -0\.1'):
            ThresholdPruning(**{name: -0.1})
    for name in ('temperature', 'decay', 'grace'):
        with pytest.raises(ConfigError, match=rf'`{name}` to be above 0, but got 0\.0'):
            ThresholdPruning(**{name: 0.0})
    from test_penalties import Unrated

    for extension in (ThresholdPruning(), ProgressiveShrinking({0: 2})):
        with pytest.raises(ConfigError, match=r'compares choices by `choice_probs`.*Unrated'):
            Unrated(extensions=[extension]).prepare_from_supernet(skip_toys.SkipSupernet())
