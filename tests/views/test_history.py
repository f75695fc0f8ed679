"""Histories are read while they are written, after a kill, and from files that are damaged."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import toys

import mmrazor_mutators as mm
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.search.records import EpochFile, SpaceFile, whole_rows
from mmrazor_mutators.search.watching import SpaceLook
from mmrazor_mutators.views.history import History, read_history


def look(number: float, choices: tuple[str, ...] = ('a', 'b,"c', 'd')) -> dict[str, SpaceLook]:
    logits = tuple(number + index for index in range(len(choices)))
    shares = tuple(1.0 if not index else 0.0 for index in range(len(choices)))
    return {
        'x': SpaceLook(choices, logits, shares),
        'layers/0:width': SpaceLook(choices[:2], None, shares[:2]),
    }


def write(folder: Path, epochs: range, rewound: int | None = None) -> None:
    """Write as a monitor does, in one process."""
    rows, spaces = EpochFile(folder / 'epochs.csv'), SpaceFile(folder / 'spaces.csv')
    if rewound is not None:
        rows.rewind(rewound)
        spaces.rewind(rewound)
    for epoch in epochs:
        spaces.write(epoch, look(epoch))
        rows.write(epoch, {'loss': 1 / (epoch + 1), 'late': epoch if epoch > 1 else None})


def contents(folder: Path) -> tuple[bytes, bytes]:
    return (folder / 'epochs.csv').read_bytes(), (folder / 'spaces.csv').read_bytes()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    history = read_history(tmp_path)
    assert (history.num_epochs, history.problems) == (3, ())
    assert history.epochs['epoch'].tolist() == [1, 2, 3]
    np.testing.assert_allclose(history.epochs['loss'], [1 / 2, 1 / 3, 1 / 4], rtol=1e-8)
    np.testing.assert_equal(history.epochs['late'], [math.nan, 2, 3])
    assert list(history.spaces) == ['x', 'layers/0:width']
    space = history.spaces['x']
    assert space.choices == ('a', 'b,"c', 'd')
    assert space.logits.tolist() == [[e, e + 1, e + 2] for e in (1, 2, 3)]
    assert space.probabilities.tolist() == [[1, 0, 0]] * 3
    assert (space.is_learnt, space.leader) == (True, 'a')
    assert (space.entropies.tolist(), space.margins.tolist()) == ([0] * 3, [1] * 3)
    assert not history.spaces['layers/0:width'].is_learnt
    assert history.column('late') is not None
    assert history.column('nothing') is None


def test_numbers_of_single_precision_survive(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    file = EpochFile(tmp_path / 'epochs.csv')
    file.write(0, {str(index): float(value) for index, value in enumerate(values)})
    read = [
        column[0] for name, column in read_history(tmp_path).epochs.items() if name != 'epoch'
    ]
    assert (np.array(read, np.float32) == values).all()


@pytest.mark.parametrize('goes_on_from', [1, 2, 4])
def test_a_run_that_goes_on_has_every_row_once(tmp_path: Path, goes_on_from: int) -> None:
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    whole.mkdir()
    cut.mkdir()
    write(whole, range(1, 6))
    write(cut, range(1, 4))
    for name in ('epochs.csv', 'spaces.csv'):
        path = cut / name
        path.write_bytes(path.read_bytes() + b'4,x,a')  # It was killed while it wrote.
    write(cut, range(goes_on_from, 6), rewound=goes_on_from)
    assert contents(cut) == contents(whole)


def test_an_epoch_that_is_noted_again_takes_the_place_of_the_later_ones(tmp_path: Path) -> None:
    supernet, mutator = toys.prepared()
    monitor = mm.SearchMonitor(supernet, mutator, tmp_path)
    for epoch in (0, 1, 2, 1):
        monitor.record(epoch, loss=float(epoch))
    assert read_history(tmp_path).epochs['loss'].tolist() == [0, 1]
    assert read_history(tmp_path).spaces['widen'].epochs.tolist() == [0, 1]


def test_files_that_end_anywhere_are_read_as_far_as_they_are_whole(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3))
    texts = contents(tmp_path)
    for name, text in zip(('epochs.csv', 'spaces.csv'), texts, strict=True):
        whole = whole_rows(tmp_path / name)
        for end in range(len(text) + 1):
            (tmp_path / name).write_bytes(text[:end])
            rows = whole_rows(tmp_path / name)
            assert rows == whole[: text[:end].count(b'\n')]
            history = read_history(tmp_path)
            assert (text[:end].endswith(b'\n') and len(rows) > 0) == (not history.problems)
        (tmp_path / name).write_bytes(text)


def test_damaged_bytes_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3))
    texts, rng = contents(tmp_path), random.Random(0)
    for _ in range(60):
        for name, text in zip(('epochs.csv', 'spaces.csv'), texts, strict=True):
            data = bytearray(text)
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            (tmp_path / name).write_bytes(data)
        history = read_history(tmp_path)
        assert len({len(values) for values in history.epochs.values()}) <= 1
        for space in history.spaces.values():
            shape = len(space.epochs), len(space.choices)
            assert space.probabilities.shape == space.logits.shape == shape
        write(tmp_path, range(5, 6), rewound=5)  # Nor do they keep a run from going on.
        assert read_history(tmp_path).epochs['epoch'][-1] >= 5
        for name, text in zip(('epochs.csv', 'spaces.csv'), texts, strict=True):
            (tmp_path / name).write_bytes(text)


@pytest.mark.parametrize(
    ('name', 'text', 'problem'),
    [
        ('epochs.csv', 'a,b\n1,2\n', 'epochs.csv holds no rows of a monitor'),
        ('epochs.csv', 'epoch,a,a\n1,2,3\n', 'epochs.csv has a column twice'),
        (
            'epochs.csv',
            'epoch,a\n1,2\nx,3\n1,2,3\n' + '9' * 5000 + ',2\n',
            'epochs.csv: 3 rows are not whole',
        ),
        ('spaces.csv', 'epoch,space_id\n1,x\n', 'spaces.csv has other columns than epoch'),
        ('spaces.csv', '', 'spaces.csv holds no rows of a monitor'),
    ],
)
def test_problems_are_told(tmp_path: Path, name: str, text: str, problem: str) -> None:
    write(tmp_path, range(1, 3))
    assert read_history(tmp_path).problems == ()
    (tmp_path / name).write_text(text)
    (told,) = read_history(tmp_path).problems
    assert told.startswith(problem)


def test_cells_that_are_no_numbers_are_empty(tmp_path: Path) -> None:
    (tmp_path / 'epochs.csv').write_text('epoch,a,b\n2,x,0.5\n1,1,2\n2,3,nan\n')
    history = read_history(tmp_path)
    assert history.epochs['epoch'].tolist() == [1, 2]
    np.testing.assert_equal(history.epochs['a'], [1, 3])  # The later row counts.
    assert history.column('b') is not None
    assert history.problems == ('spaces.csv is not there',)


def test_folders_without_a_search(tmp_path: Path) -> None:
    history = read_history(tmp_path)
    assert isinstance(history, History)
    assert (history.epochs, history.spaces, history.num_epochs) == ({}, {}, 0)
    assert history.problems == ('epochs.csv is not there', 'spaces.csv is not there')
    with pytest.raises(ConfigError, match=r'no folder .*nowhere'):
        read_history(tmp_path / 'nowhere')


def test_a_file_that_is_absurdly_large_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3))
    with (tmp_path / 'spaces.csv').open('r+b') as file:
        file.truncate(2**28 + 1)  # Takes no room on the disk.
    assert read_history(tmp_path).problems == ('spaces.csv is larger than 268,435,456 bytes',)


def test_files_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    (tmp_path / 'epochs.csv').mkdir()
    assert any('epochs.csv cannot be read' in told for told in read_history(tmp_path).problems)
    supernet, mutator = toys.prepared()
    with pytest.raises(ConfigError, match=r"'.*epochs\.csv', in which a search is watched"):
        mm.SearchMonitor(supernet, mutator, tmp_path).record(0)
    spaces = SpaceFile(tmp_path / 'spaces.csv')
    (tmp_path / 'spaces.csv').unlink()
    (tmp_path / 'spaces.csv').mkdir()
    with pytest.raises(ConfigError, match=r'spaces\.csv.* cannot be written: Is a directory'):
        spaces.write(1, look(1))
