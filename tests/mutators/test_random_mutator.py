"""The random baseline: honest, reproducible, and done at once."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import toys
from rich.console import Console

import mmrazor_mutators as mm
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.engine.jobs import search
from mmrazor_mutators.errors import ConfigError, SearchSpaceError

CONFIGS = Path(__file__).parents[2] / 'configs'


def subnet_of(**kwargs: Any) -> Any:
    mutator = mm.RandomMutator(**kwargs)
    mutator.prepare_from_supernet(toys.ToySupernet())
    found = mutator.search_subnet()
    assert found == mutator.search_subnet()
    return found


def test_the_subnet_is_that_of_the_seed() -> None:
    expected = mm.DartsMutator()
    expected.prepare_from_supernet(toys.ToySupernet())
    for seed in range(5):
        assert subnet_of(seed=seed) == expected.random_subnet(seed)
    assert subnet_of() == subnet_of(seed=0)
    assert len({str(subnet_of(seed=seed)) for seed in range(20)}) > 10


def test_what_is_ignored_is_never_drawn() -> None:
    drawn = [subnet_of(seed=seed) for seed in range(30)]
    assert 'none' not in {n for subnet in drawn for e in subnet.values() for n in e['chosen']}
    drawn = [subnet_of(seed=seed, ignore_choices=()) for seed in range(30)]
    assert 'none' in {n for subnet in drawn for e in subnet.values() for n in e['chosen']}
    names = ['none', 'linear', 'norm', 'deep']
    with pytest.raises(SearchSpaceError, match=r"'deep'\) leaves \[\]"):
        subnet_of(ignore_choices=names)


@pytest.mark.parametrize('seed', [None, 1.5, '3', True])
def test_a_seed_that_is_no_int(seed: Any) -> None:
    with pytest.raises(ConfigError, match=f'`seed` to be an int, but got {seed!r}'):
        mm.RandomMutator(seed=seed)


@pytest.mark.parametrize('names', ['none', 5])
def test_names_that_are_no_list(names: Any) -> None:
    with pytest.raises(SearchSpaceError, match=f'a list of names, but got {names!r}'):
        mm.RandomMutator(ignore_choices=names)


def test_a_search_job_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: Any) -> None:
        raise AssertionError('there is nothing to train')

    monkeypatch.setattr(sys.modules['mmrazor_mutators.engine.jobs'], 'train', train)
    cfg = load_config(CONFIGS / 'random' / 'nasbench201_digits.py')
    console = Console(file=io.StringIO(), width=200)
    found = search(cfg, tmp_path / 'run', console=console)
    said = console.file.getvalue()
    assert said == 'RandomMutator has no architecture parameters: nothing to train\n'
    assert {path.name for path in (tmp_path / 'run').iterdir()} == {'config.py', 'subnet.yaml'}
    assert mm.load_subnet(tmp_path / 'run' / 'subnet.yaml') == found
    mutator = mm.build_mutator(cfg.model.mutator)
    mutator.prepare_from_supernet(mm.build_architecture(cfg.model.architecture))
    assert found == mutator.random_subnet(0)
    # A mutator that learns is trained.
    learning = load_config(CONFIGS / 'gdas' / 'nasbench201_digits.py')
    with pytest.raises(AssertionError, match='nothing to train'):
        search(learning, tmp_path / 'other', console=console)
