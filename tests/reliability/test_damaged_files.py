"""Damaged subnets, checkpoints and evolutions end in success or in an error of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def wrong_ends(count: int, seed: int, folder: Path) -> list[str]:
    from benchmarks import damaged_files as ours

    wrong = []
    for case in ours.cases(count, seed, folder):
        if case.kind != 'config':  # These have tests of their own.
            status, said = case.run()
            if not ours.is_right(status, said):
                wrong.append(f'{case.kind}, {case.use}: {case.done}: {status} {said[:300]}')
    return wrong


def test_thirty_damages(tmp_path: Path) -> None:
    assert wrong_ends(45, seed=7, folder=tmp_path) == []


@pytest.mark.slow
def test_six_hundred_damages(tmp_path: Path) -> None:
    assert wrong_ends(900, seed=8, folder=tmp_path) == []


@pytest.mark.parametrize(
    ('status', 'said', 'right'),
    [
        (0, '', True),
        (2, 'error: it is x', True),
        (2, 'error: it is x\nerror: and y', False),
        (1, 'error: KeyError (this should not happen)', False),
        (2, 'KeyError', False),
        (-1, 'took more than 60 seconds', False),
    ],
)
def test_what_is_right(status: int, said: str, right: bool) -> None:
    from benchmarks import damaged_files as ours

    assert ours.is_right(status, said) is right


def test_damages_are_seeded_and_change_something() -> None:
    import random

    from benchmarks.damaged_values import damaged, scrambled

    whole: Any = {'a': [1.5, {'b': 'x'}], 'c': None}
    for seed in range(30):
        first, again = (damaged(whole, random.Random(seed)) for _ in range(2))
        assert repr(first) == repr(again)
        assert whole == {'a': [1.5, {'b': 'x'}], 'c': None}
    texts = {scrambled('a: 1\nb: 2\n', random.Random(seed))[0] for seed in range(30)}
    assert len(texts) > 10
