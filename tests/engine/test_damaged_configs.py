"""A damaged config ends in success, or in one line that says what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import damaged_configs as damaged
from mmrazor_mutators.blame import one_line, place_of
from mmrazor_mutators.engine.schema import check_entries
from mmrazor_mutators.errors import ConfigError


def run_all(count: int, seed: int) -> None:
    wrong = []
    for name, cfg, done in damaged.cases(count, seed):
        status, said = damaged.run(cfg)
        if not damaged.is_right(status, said):
            wrong.append(f'{name}: {done}: {status} {said[:300]}')
    assert wrong == []


def test_damages_of_which_one_was_wrong_before() -> None:
    run_all(40, seed=11)


@pytest.mark.slow
def test_five_hundred_damages() -> None:
    run_all(500, seed=2)


def whole() -> dict[str, Any]:
    return {
        'model': {'type': 'Darts', 'mutator': {'type': 'DartsMutator'}},
        'train_dataloader': {'batch_size': 2, 'dataset': {'type': 'Digits'}},
        'train_cfg': {'max_epochs': 1},
        'optim_wrapper': {'architecture': {'clip_grad': {'max_norm': 5}}},
        'randomness': {'seed': 0},
        'default_hooks': {'checkpoint': {'type': 'CheckpointHook', 'interval': 1}},
    }


CLIP = 'optim_wrapper.architecture.clip_grad'


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        (
            'optim_wrapper.architecture.clip_grad.max_norm',
            'x',
            "max_norm` .* above 0, but got 'x'",
        ),
        ('optim_wrapper.architecture.clip_grad.max_norm', -1, 'above 0, but got -1'),
        ('default_hooks', 3, '`default_hooks` to be a dict of dicts .*, but got 3'),
        ('default_hooks.checkpoint.max_kep', 3, "takes no 'max_kep'; did you mean 'max_keep"),
        ('default_hooks.checkpoint.max_keep_ckpts', {}, r'a whole number, but got \{\}'),
        ('default_hooks.checkpoint.max_keep_ckpts', None, 'a whole number, but got None'),
        ('model.mutator', 'DartsMutator', "dict with a `type`, but got 'DartsMutator'"),
        ('model.init_cfg', 3, '`model.init_cfg` to be a dict, or a list of dicts, but got 3'),
        ('randomness', 'x', "`randomness` to be a dict, but got 'x'"),
        ('retrain', [1], r'`retrain` to be a dict, but got \[1\]'),
        ('train_dataloader.collate_fn', 3, '`train_dataloader.collate_fn` to be a function'),
        ('train_cfg.max_epochs', 1e30, r'from 0 to 2147483647, but got 1e\+30'),
        ('train_dataloader.batch_size', None, 'to say how many samples a batch has'),
    ],
)
def test_values_are_checked_where_they_enter(path: str, value: Any, message: str) -> None:
    cfg = whole()
    check_entries(cfg)
    parent: Any = cfg
    *keys, last = path.split('.')
    for key in keys:
        parent = parent[key]
    parent[last] = value
    with pytest.raises(ConfigError, match=message):
        check_entries(cfg)


def test_errors_of_workers_are_one_line() -> None:
    text = (
        'Caught ValueError in DataLoader worker process 1.\nOriginal Traceback (most recent '
        'call last):\n  File "x.py", line 1, in f\n    raise ValueError(3)\nValueError: bad 3\n'
    )
    assert one_line(ValueError(text)) == 'ValueError: bad 3 (in DataLoader worker process 1)'


def test_places_are_those_of_users_alone() -> None:
    def own() -> None:
        raise KeyError('mine')

    with pytest.raises(KeyError) as caught:
        own()
    place = place_of(caught.value)
    assert place is not None
    assert "in own: raise KeyError('mine')" in place
    with pytest.raises(ConfigError) as of_ours:
        check_entries({'retrain': 3})
    assert place_of(of_ours.value.with_traceback(of_ours.tb.tb_next)) is None
