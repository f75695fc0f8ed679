"""The table of a comparison says the numbers it is given, in every form."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmrazor_mutators.engine.comparing import Run, summarize
from mmrazor_mutators.errors import InputError
from mmrazor_mutators.views.comparison import (
    comparison_csv,
    comparison_markdown,
    comparison_notes,
    comparison_table,
)


def run(config: str, seed: int, accuracy: float, *others: float, **changes: Any) -> Run:
    given: dict[str, Any] = {
        'config': config,
        'seed': seed,
        'accuracy': accuracy,
        'parameters': 1000 + seed,
        'random_accuracies': others,
        'random_parameters': tuple(2000 + 10 * i for i in range(len(others))),
        'limits': '',
        'search_seconds': 60.0 + seed,
        'folder': str(Path('work_dirs', config, f'seed_{seed}')),
    }
    return Run(**{**given, **changes})


RUNS = [
    run('darts/digits', 0, 96.0, 94.0, 96.0),
    run('gdas/digits', 0, 90.0, 94.0, 96.0, limits='params <= 2,500'),
    run('darts/digits', 1, 97.5, 96.0, 96.0),
    run('darts/digits', 2, 95.0, 92.0, 93.0),
]


def shown(runs: list[Run], width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(comparison_table(summarize(runs)))
    return console.file.getvalue()  # type: ignore[attr-defined]


def cells(text: str, name: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if name in line]
    return [[cell.strip() for cell in line.split('│')[2:-1]] for line in lines]


# By hand: differences 1, 1.5 and 2.5 to the means of each seed; their deviation is 0.763763,
# and Student's quantile of 2 degrees 4.302653.
MEAN = (1 + 1.5 + 2.5) / 3
HALF = 4.302653 * 0.7637626 / 3**0.5


def test_terminal() -> None:
    out = shown(RUNS)
    assert cells(out, 'found') == [
        ['96.17% ± 1.26', '1,001', '61.0'],
        ['90.00%', '1,000', '60.0'],
    ]
    # Of all six together: their mean is 94.5, the sum of squares 15.5.
    assert cells(out, 'random, 2 a seed') == [
        ['94.50% ± 1.76', '2,005', ''],
        ['95.00% ± 1.41', '2,005', ''],
    ]
    interval = f'{MEAN:+.2f} [{MEAN - HALF:+.2f}, {MEAN + HALF:+.2f}]'
    assert interval == '+1.67 [-0.23, +3.56]'
    assert cells(out, 'difference') == [[interval, '-1,004', ''], ['-5.00', '-1,005', '']]
    assert cells(out, 'darts/digits') == [['3 seeds', '', '']]
    assert cells(out, 'gdas/digits') == [['1 seed', '', '']]


def test_long_names_and_large_numbers_fit_a_terminal() -> None:
    name = 'a_folder_of_mine/' + 60 * 'x'
    runs = [run(name, seed, 50.0 - 49 * seed, 50.0 + seed) for seed in range(2)]
    runs = [Run(**{**vars(r), 'parameters': 10**9, 'search_seconds': 1e6}) for r in runs]
    lines = shown(runs).splitlines()
    assert max(map(len, lines)) <= 80
    text = ''.join(cell for line in lines for cell in re.findall(r'^│ (\S*)', line))
    assert name in text
    assert '[-342.66, +292.66]' in shown(runs).replace('\n', '')
    assert '1,000,000,000' in shown(runs)


def test_markdown_and_csv_say_the_same() -> None:
    summaries = summarize(RUNS)
    lines = comparison_markdown(summaries).splitlines()
    first = [cell.strip() for cell in lines[2].split('|')[1:-1]]
    interval = f'{MEAN:+.2f} [{MEAN - HALF:+.2f}, {MEAN + HALF:+.2f}]'
    assert first == [
        'darts/digits',
        '3',
        '96.17% ± 1.26',
        '94.50% ± 1.76',
        interval,
        '1,001',
        '2,005',
        '61.0',
    ]
    assert len({line.count('|') for line in lines[:4]}) == 1
    darts, gdas = csv.DictReader(io.StringIO(comparison_csv(summaries)))
    assert float(darts['found_mean']) == pytest.approx(288.5 / 3, rel=1e-12)
    assert float(darts['random_std']) == pytest.approx((15.5 / 5) ** 0.5, rel=1e-12)
    assert float(darts['difference']) == pytest.approx(MEAN, rel=1e-12)
    assert float(darts['difference_low']) == pytest.approx(MEAN - HALF, abs=1e-5)
    assert float(darts['difference_high']) == pytest.approx(MEAN + HALF, abs=1e-5)
    assert (darts['interval'], gdas['interval']) == ('t', 'none')
    assert (gdas['found_std'], gdas['difference_low']) == ('', '')
    assert (darts['seeds'], darts['random_per_seed'], darts['search_seconds']) == (
        '3',
        '2',
        '61.0',
    )
    assert (darts['random_limits'], gdas['random_limits']) == ('', 'params <= 2,500')


def test_notes_say_how_intervals_and_random_networks_came_about() -> None:
    notes = ' '.join(comparison_notes(summarize(RUNS)))
    assert "Student's t" in notes
    assert 'One seed tells no interval' in notes
    assert 'gdas/digits: random networks are held to params <= 2,500' in notes
    assert 'darts/digits:' not in notes
    many = [run('a/b', seed, 90.0 + seed % 7, 90.0 + seed % 5) for seed in range(30)]
    assert 'accelerated bootstrap' in ' '.join(comparison_notes(summarize(many)))


def test_without_random_networks_there_is_no_difference() -> None:
    alone = [run('a/b', seed, 90.0 + seed) for seed in range(3)]
    (summary,) = summarize(alone)
    assert (summary.difference, summary.random_parameters) == (None, None)
    assert comparison_notes([summary]) == []
    assert 'random' not in shown(alone)
    assert comparison_markdown([summary]).splitlines()[2].count('|') == 9
    assert comparison_csv([]) == ''


@pytest.mark.parametrize(
    ('second', 'message'),
    [
        (run('a/b', 0, 1.0, 2.0), r"each seed of 'a/b', .* got seeds \[0, 0\] with \[1\]"),
        (run('a/b', 1, 1.0), r"each seed of 'a/b', .* got seeds \[0, 1\] with \[0, 1\]"),
    ],
)
def test_runs_that_do_not_go_together(second: Run, message: str) -> None:
    with pytest.raises(InputError, match=message):
        summarize([run('a/b', 0, 1.0, 2.0), second])
