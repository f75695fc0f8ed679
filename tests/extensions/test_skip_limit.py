"""The limit on skip connections, beside the procedure of the authors of P-DARTS."""

from __future__ import annotations

from typing import Any

import pytest
import skip_toys
import torch
import toys

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError, SearchSpaceError
from mmrazor_mutators.extensions import SkipLimit

NUM_NODES = 4
EDGES = [(node, source) for node in range(2, 2 + NUM_NODES) for source in range(node)]


def darts(**kwargs: Any) -> tuple[Any, Any]:
    supernet = mm.DartsSupernet(
        in_channels=1, num_classes=2, base_channels=2, num_layers=3, num_nodes=NUM_NODES
    )
    return toys.prepared(supernet=supernet, **kwargs)


def derive(probs: torch.Tensor, names: list[str]) -> dict[tuple[int, int], str]:
    """Keep the best two inputs of each node, and their best operations."""
    kept = {}
    for node in range(2, 2 + NUM_NODES):
        edges = [edge for edge in EDGES if edge[0] == node]
        best = sorted(edges, key=lambda edge: -probs[EDGES.index(edge)].max().item())[:2]
        kept.update({edge: names[int(probs[EDGES.index(edge)].argmax())] for edge in best})
    return kept


def naive_limit(logits: torch.Tensor, names: list[str], limit: int) -> dict[Any, str]:
    """What the authors do: set the smallest skip's weight to 0, and derive again."""
    probs = logits.softmax(-1)
    probs[:, names.index('none')] = 0.0
    column = names.index('skip_connect')
    while True:
        kept = derive(probs, names)
        skips = [EDGES.index(edge) for edge, name in kept.items() if name == 'skip_connect']
        if len(skips) <= limit:
            return kept
        weakest = min(skips, key=lambda edge: probs[edge, column].item())
        probs[weakest, column] = 0.0


def genotype(subnet: Any, cell: str) -> dict[tuple[int, int], str]:
    return {
        (node, source): subnet[f'{cell}_n{node}_p{source}']['chosen'][0]
        for node, source in EDGES
        if f'{cell}_n{node}_p{source}' in subnet
    }


@pytest.mark.parametrize('limit', [0, 1, 2, 4, 8])
def test_it_is_the_authors_procedure(limit: int) -> None:
    _, mutator = darts(extensions=[SkipLimit(limit)])
    names = list(mutator.search_spaces['normal_n2_p0']['choice_names'])
    changed = 0
    for seed in range(12):
        torch.manual_seed(seed)
        for logits in mutator.arch_params.values():
            logits.data.normal_()
            logits.data[names.index('skip_connect')] += 2.0
        rows = {
            cell: torch.stack([mutator.arch_params[f'{cell}_n{n}_p{s}'].data for n, s in EDGES])
            for cell in ('normal', 'reduce')
        }
        subnet = mutator.search_subnet()
        assert genotype(subnet, 'normal') == naive_limit(rows['normal'], names, limit)
        assert genotype(subnet, 'reduce') == naive_limit(rows['reduce'], names, 99)
        skips = [n for n in genotype(subnet, 'normal').values() if n == 'skip_connect']
        assert len(skips) <= limit
        changed += naive_limit(rows['normal'], names, 99) != genotype(subnet, 'normal')
    assert changed >= 5 or limit == 8


def skip_count(subnet: Any, prefix: str = '') -> int:
    return sum(
        'skip_connect' in choice['chosen']
        for s, choice in subnet.items()
        if s.startswith(prefix)
    )


def favour_skips(mutator: Any) -> None:
    for space_id in mutator.arch_params:
        skip_toys.set_logits(mutator, space_id, skip_connect=5.0)


@pytest.mark.parametrize(
    ('prefix', 'left'), [('normal', (1, 1)), ('reduce', (3, 0)), ('', None)]
)
def test_the_prefix_says_where_they_are_counted(prefix: str, left: Any) -> None:
    limit = {'normal': 1, 'reduce': 0, '': 2}[prefix]
    _, mutator = skip_toys.prepared(SkipLimit(limit, prefix=prefix))
    favour_skips(mutator)
    subnet = mutator.search_subnet()
    counts = skip_count(subnet, 'normal'), skip_count(subnet, 'reduce')
    assert sum(counts) == 2 if left is None else counts == left


def test_the_weakest_goes_first_and_the_next_best_takes_its_place() -> None:
    _, mutator = skip_toys.prepared(SkipLimit(2))
    rest = {'none': 9.0, 'conv': 1.0, 'pool': 0.0}
    for space_id, skip in (('s', 3.0), ('p0', 5.0), ('p1', 4.0), ('p2', 2.0)):
        skip_toys.set_logits(mutator, f'normal_{space_id}', skip_connect=skip, **rest)
    subnet = mutator.search_subnet()
    # Of s, p0 and p1, which are chosen, s has the smallest weight.
    assert subnet['normal_s']['chosen'] == ['conv']
    assert subnet['normal_p0']['chosen'] == subnet['normal_p1']['chosen'] == ['skip_connect']
    assert subnet['normal']['chosen'] == ['p0', 'p1']


def test_enough_is_left_alone() -> None:
    _, mutator = skip_toys.prepared(SkipLimit(3))
    favour_skips(mutator)
    without = skip_toys.prepared()[1]
    without.load_state_dict(mutator.state_dict(), strict=False)
    assert mutator.search_subnet() == without.search_subnet()
    assert skip_count(mutator.search_subnet(), 'normal') == 3


def test_a_skip_connection_stays_where_nothing_else_could_be_chosen() -> None:
    _, mutator = skip_toys.prepared(SkipLimit(0))
    favour_skips(mutator)
    mutator.drop_choices('normal_s', ['conv', 'pool'])  # Leaves ``none``, which is ignored.
    subnet = mutator.search_subnet()
    assert subnet['normal_s']['chosen'] == ['skip_connect']
    assert skip_count(subnet, 'normal') == 1
    other = skip_toys.prepared(SkipLimit(0), ignore_choices=())[1]
    favour_skips(other)
    other.drop_choices('normal_s', ['conv', 'pool'])
    assert other.search_subnet()['normal_s']['chosen'] == ['none']


def test_several_kinds_of_skips_never_leave_a_space_empty() -> None:
    _, mutator = skip_toys.prepared(SkipLimit(0, names=['skip_connect', 'pool', 'conv']))
    favour_skips(mutator)
    assert skip_count(mutator.search_subnet(), 'normal') == 3
    _, mutator = skip_toys.prepared(SkipLimit(0, names=['skip_connect', 'pool']))
    favour_skips(mutator)
    chosen = {
        c for s, e in mutator.search_subnet().items() for c in e['chosen'] if s != 'reduce'
    }
    assert chosen - {'p0', 'p1', 'p2'} == {'conv'}


def test_what_others_veto_is_respected() -> None:
    class NoConv(mm.Extension):
        def veto(self, mutator: Any, subnet: Any) -> Any:
            return [(s, 'conv') for s, e in subnet.items() if e['chosen'] == ['conv']]

    _, mutator = skip_toys.prepared(SkipLimit(0), NoConv())
    favour_skips(mutator)
    subnet = mutator.search_subnet()
    assert {e['chosen'][0] for s, e in subnet.items() if s not in ('normal', 'reduce')} == {
        'pool'
    }


def test_deployed_networks_have_so_many() -> None:
    supernet, mutator = skip_toys.prepared(SkipLimit(1))
    favour_skips(mutator)
    net = mutator.export_subnet(supernet, mutator.search_subnet())
    assert sum(type(m).__name__ == 'DartsSkipConnect' for m in net.modules()) in (2, 3)


def test_errors() -> None:
    for limit in (-1, 1.5, True, '2'):
        with pytest.raises(ConfigError, match=rf'int of at least 0, but got {limit!r}'):
            SkipLimit(limit)
    with pytest.raises(ConfigError, match='`prefix` to be a string, but got None'):
        SkipLimit(prefix=None)
    with pytest.raises(ConfigError, match=r"`names` .* but got 'skip_connect'"):
        SkipLimit(names='skip_connect')
    with pytest.raises(ConfigError, match=r"`prefix` to begin .* 'cell'; .*Known: normal_s"):
        skip_toys.prepared(SkipLimit(prefix='cell'))
    with pytest.raises(
        ConfigError, match=r"but got \('skip_conect',\); did you mean 'skip_connect'"
    ):
        skip_toys.prepared(SkipLimit(names=['skip_conect']))
    from test_penalties import Unrated

    with pytest.raises(ConfigError, match=r'SkipLimit compares choices by .*Unrated lacks'):
        skip_toys.prepared(SkipLimit(), mutator=Unrated)


def test_a_veto_that_leaves_nothing_is_an_error() -> None:
    class NoWay(mm.Extension):
        def veto(self, mutator: Any, subnet: Any) -> Any:
            return [(s, n) for s, e in subnet.items() for n in e['chosen']]

    _, mutator = skip_toys.prepared(NoWay())
    with pytest.raises(SearchSpaceError, match=r"'\w+'.*dropped or vetoed"):
        mutator.search_subnet()
