"""Evolution: what it refuses, and the bounds of what it allows."""

from __future__ import annotations

import re
from typing import Any

import pytest
from test_evolution import LENGTH, evolution, score

from mmrazor_mutators.errors import ConfigError, InputError
from mmrazor_mutators.search.constraints import check_constraints, meets


def test_scores_that_were_not_asked_for() -> None:
    ours = evolution()
    with pytest.raises(InputError, match='evaluated no generation yet'):
        ours.best  # noqa: B018
    first = ours.ask()[0]
    for value in (float('nan'), float('inf')):
        with pytest.raises(InputError, match=f'to be finite, but got {value}'):
            ours.tell(first, value)
    ours.tell(first, 1.0)
    for candidate in (first, [9] * LENGTH):
        with pytest.raises(InputError, match=re.escape(f'No score of {candidate!r} was asked')):
            ours.tell(candidate, 1.0)
    assert len(ours.ask()) == 11


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('candidate_pool_size', 0),
        ('candidate_top_k', 0),
        ('max_epoch', 0),
        ('num_mutation', -1),
        ('num_crossover', -1),
        ('max_draws', 0),
        ('seed', -1),
        ('mutate_prob', 1.5),
        ('mutate_prob', True),
    ],
)
def test_options_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f'`{name}` to be .*, but got {value!r}'):
        evolution(**{name: value})


@pytest.mark.parametrize(('name', 'value'), [('num_mutation', 0), ('mutate_prob', 1.0)])
def test_options_at_the_end_of_their_range(name: str, value: Any) -> None:
    assert len(evolution(max_epoch=2, **{name: value}).run(score).candidate) == LENGTH


@pytest.mark.parametrize(
    ('constraints', 'message'),
    [
        (5, 'a dict as .*, but got 5'),
        ({'flops': 'x'}, "'flops' .* but got 'x'"),
        ({'flops': None}, "'flops' .* but got None"),
        ({'flops': (1,)}, r"'flops' .* but got \(1,\)"),
        ({'flops': (1, 2, 3)}, r"'flops' .* but got \(1, 2, 3\)"),
        ({'flops': (None, None)}, r'but got \(None, None\)'),
        ({'flops': (-1, 2)}, r'but got \(-1, 2\)'),
        ({'flops': True}, 'but got True'),
        ({'flops': (3, 2)}, r"lowest 'flops' to be at most .* \(3, 2\)"),
        ({'flops': float('nan')}, 'but got nan'),
    ],
)
def test_constraints_that_cannot_be_used(constraints: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_constraints(constraints)


def test_bounds_are_included() -> None:
    bounds = check_constraints({'flops': [2, 3]})
    assert [meets({'flops': value}, bounds) for value in (1.9, 2, 3, 3.1)] == [
        False,
        True,
        True,
        False,
    ]
    with pytest.raises(ConfigError, match="'flop', which is no cost; did you mean 'flops'"):
        evolution(constraints={'flop': 3}).ask()
    assert check_constraints(None) == {}
