"""Runs of the main job and of the examples: what is kept of them, and the tables."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest

from benchmarks import worked, worked_tables
from benchmarks.rows import Results


def example(seed: int, found: float, uniform: float, share: float = 0.99) -> dict[str, Any]:
    network = {'params': 1000.0, 'accuracy': 99.0}
    return {
        'task': 'resnet',
        'budget': 0.02,
        'seed': seed,
        'full network': network,
        'uniform scaling': {**network, 'accuracy': uniform},
        'found': {**network, 'accuracy': found, 'params of budget': share},
    }


def test_examples_in_docstrings() -> None:
    tried = doctest.testmod(worked)
    assert tried.attempted
    assert not tried.failed


def test_a_run_is_kept_as_it_was(tmp_path: Path) -> None:
    file = Results(tmp_path / 'rows.jsonl', worked.RESULTS.key)
    worked.keep([example(1, 97.0, 96.0)], file)
    worked.keep([example(0, 98.0, 96.0), example(1, 50.0, 50.0)], file)
    worked.keep([{**example(0, 90.0, 80.0), 'budget': 0.1}], file)
    rows = file.read()
    assert [(row['budget'], row['seed']) for row in rows] == [(0.02, 0), (0.02, 1), (0.1, 0)]
    assert [row['found']['accuracy'] for row in rows] == [98.0, 97.0, 90.0]
    assert {row['threads'] for row in rows} == {1}


def test_the_table_of_the_examples() -> None:
    rows = [example(0, 98.0, 96.0, 0.97), example(1, 97.0, 96.0), example(2, 99.0, 96.0)]
    (line,) = worked_tables.worked_table(rows).splitlines()[2:]
    # Differences of 2, 1 and 3: their mean is 2, and t(0.975, 2) * 1 / sqrt(3) = 2.48.
    assert line == (
        '| a. ResNet, 2% of the parameters | 0, 1, 2 | 97.0% to 99.0% | '
        '99.00%, 1,000 parameters | 96.00%, 1,000 parameters | 98.00%, 1,000 parameters | '
        '+2.00 (-0.48 to +4.48) |'
    )


def test_the_table_of_the_main_job() -> None:
    run = {'parameters': 3400, 'random_parameters': [3390, 3499], 'search_seconds': 11.6}
    rows = [
        {**run, 'seed': seed, 'accuracy': 97.0 + seed, 'random_accuracies': [90.0, 94.0]}
        for seed in range(3)
    ]
    text = worked_tables.main_table(rows)
    assert '| 0 | 97.00 | 3,400 | 92.00 (90.00 to 94.00) | 3,390 to 3,499 | 12 |' in text
    assert 'interval: +6.00 (+3.52 to +8.48) points.' in text


def test_a_page_has_the_budgets_of_the_configs() -> None:
    share = worked.budget_of('resnet')[1]
    rows = [{**example(0, 98.0, 96.0), 'budget': share}, {'task': 'main', 'seed': 0}]
    assert worked_tables.of_configs([*rows, {**rows[0], 'budget': 0.5}]) == rows[:1]


def test_a_name_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        worked.main(['resnett'])
    assert "invalid choice: 'resnett'" in capsys.readouterr().err
