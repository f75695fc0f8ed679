"""Random networks to compare with: uniform in the space, and within what limits there are."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import pytest
import tiny_runs
from test_one_shot_search import SMALL

from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.draws import Draws, draw_from, limits_text
from mmrazor_mutators.engine.jobs import build_model, space_of
from mmrazor_mutators.errors import ConfigError, SearchSpaceError

CONFIG = tiny_runs.CONFIGS / 'searchable' / 'digits_convnet.py'


def config(**budget: Any) -> Any:
    cfg = load_config(CONFIG)
    if budget:
        extensions = [{'type': 'Budget', **budget}]
        cfg.model['mutator'] = {'type': 'DartsMutator', 'extensions': extensions}
    return cfg


def draw_networks(cfg: Any, seed: int, count: int) -> Draws:
    return draw_from(build_model(cfg, cfg.model), cfg.train_cfg, seed, count)


def names(subnet: Any) -> tuple[str, ...]:
    return tuple(sorted(f'{sid}={entry["chosen"][0]}' for sid, entry in subnet.items()))


def every_network() -> dict[tuple[str, ...], tuple[Any, int]]:
    """Return all networks of the small space, with the parameters of the exported module."""
    cfg = config()
    model = build_model(cfg, cfg.model)
    spaces = model.mutator.search_spaces
    found = {}
    for chosen in itertools.product(*(space['choice_names'] for space in spaces.values())):
        subnet = {sid: {'chosen': [name]} for sid, name in zip(spaces, chosen, strict=True)}
        net = model.mutator.export_subnet(model.architecture, subnet)
        found[names(subnet)] = subnet, sum(p.numel() for p in net.parameters())
    return found


def check_uniform(subnets: list[Any]) -> None:
    """Compare how often choices are made with equal odds, at 5 standard deviations."""
    space = space_of(config())
    for space_id, entry in space.search_spaces.items():
        counted = Counter(subnet[space_id]['chosen'][0] for subnet in subnets)
        odds = 1 / len(entry['choice_names'])
        spread = (len(subnets) * odds * (1 - odds)) ** 0.5
        for name in entry['choice_names']:
            assert abs(counted[name] - len(subnets) * odds) < 5 * spread


def test_without_a_budget_every_choice_is_equally_likely() -> None:
    drawn = draw_networks(config(), 0, 400)
    assert drawn.limits == {}
    check_uniform(drawn.subnets)


def test_a_budget_that_does_not_bind_changes_no_odds() -> None:
    drawn = draw_networks(config(params=1e9), 0, 150)
    assert drawn.limits == {'params': (0.0, 1e9)}
    check_uniform(drawn.subnets)


def test_networks_are_within_the_budget_and_as_close_to_it_as_the_one_found() -> None:
    networks = every_network()
    largest = max(size for _, size in networks.values())
    limit = 0.5 * largest
    fit = {key for key, (_, size) in networks.items() if 0.97 * limit <= size <= limit}
    assert 1 < len(fit) < len(networks) / 2
    drawn = draw_networks(config(params=0.5), 0, 60)
    counted = Counter(names(subnet) for subnet in drawn.subnets)
    assert counted.keys() <= fit
    assert len(counted) > 0.7 * len(fit)
    assert drawn.limits['params'][1] == pytest.approx(limit)
    with pytest.raises(SearchSpaceError, match='cost of at most 2 `params`'):
        draw_networks(config(params=2), 0, 1)


@pytest.mark.parametrize('budget', [{}, {'params': 0.5}])
def test_draws_depend_on_seed_and_place_alone(budget: Any) -> None:
    cfg = config(**budget)
    first = draw_networks(cfg, 3, 6).subnets
    assert draw_networks(cfg, 3, 8).subnets[:6] == first
    assert draw_networks(cfg, 4, 6).subnets != first
    assert len({names(subnet) for subnet in first}) > 1


def test_paths_keep_to_the_constraints_of_an_evolution() -> None:
    changes = {k: v for k, v in SMALL.items() if k != 'config'}
    cfg = load_config(SMALL['config'], tiny_runs.options(**changes)[1:])
    free = draw_networks(cfg, 0, 30)
    assert free.limits == {}
    model = build_model(cfg, cfg.model)
    costs = sorted(model.get_subnet_costs(subnet)['flops'] for subnet in free.subnets)
    cfg.train_cfg['evolution']['constraints'] = {'flops': (costs[5], costs[15])}
    held = draw_networks(cfg, 0, 30)
    assert held.limits == {'flops': (costs[5], costs[15])}
    for subnet in held.subnets:
        assert costs[5] <= model.get_subnet_costs(subnet)['flops'] <= costs[15]
    assert len({names(subnet) for subnet in held.subnets}) > 10
    cfg.train_cfg['evolution']['constraints'] = {'flops': 1}
    with pytest.raises(ConfigError, match='flops from 0 to 1 are allowed'):
        draw_networks(cfg, 0, 1)


@pytest.mark.parametrize(
    ('limits', 'text'),
    [
        ({'params': (5.0, float('inf'))}, 'params >= 5'),
        (
            {'latency_ms': (0.0, 1.25), 'macs': (0.0, 2e6)},
            'latency_ms <= 1.25, macs <= 2,000,000',
        ),
    ],
)
def test_limits_in_words(limits: Any, text: str) -> None:
    assert limits_text(limits) == text


def test_random_networks_beside_a_retraining_keep_to_the_budget(tmp_path: Any) -> None:
    extensions = '[{"type":"Budget","params":0.5}]'
    changed = {'model__mutator__type': 'DartsMutator', 'model__mutator__extensions': extensions}
    assert tiny_runs.search(tmp_path, config=CONFIG, **changed) == 0
    again = tiny_runs.retrain(
        tmp_path / 'again',
        tmp_path / 'subnet.yaml',
        '--compare-random',
        '4',
        config=CONFIG,
        **changed,
    )
    assert again == 0
    results = json.loads((tmp_path / 'again' / 'results.json').read_text())
    sizes = [results['found']['parameters'], *(r['parameters'] for r in results['random'])]
    (limits,) = draw_networks(config(params=0.5), 0, 1).limits.values()
    assert len(sizes) == 5
    assert all(0.85 * limits[1] <= size <= limits[1] for size in sizes)
    # Without a budget they are of all sizes.
    free = [draw_networks(config(), seed, 1).subnets[0] for seed in range(20)]
    assert len({names(subnet) for subnet in free}) > 10
