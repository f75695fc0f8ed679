"""What docs/generate.py writes: types, defaults and meanings as the code has them."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest

import mmrazor_mutators as mm
from mmrazor_mutators.engine import schema

DOCS = Path(__file__).resolve().parents[1] / 'docs'


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DOCS))
    return lambda name: importlib.import_module(f'pages.{name}')


@pytest.mark.parametrize('name', ['hooks', 'options'])
def test_examples(pages: Any, name: str) -> None:
    failed, tried = doctest.testmod(pages(name))
    assert tried
    assert not failed


def test_options_are_those_of_the_signature(pages: Any) -> None:
    options = {option.name: option for option in pages('options').options_of(mm.GDASMutator)}
    assert options['tau_max'].kind == 'float'
    assert options['tau_max'].default == '`10.0`'
    assert 'init_cfg' not in options
    assert options['schedule'].kind == "'linear' or 'exponential'"
    for name, option in options.items():
        mm.GDASMutator(**{name: ast.literal_eval(option.default.strip('`'))})


def test_a_meaning_that_refers_to_another_class_is_looked_up_there(pages: Any) -> None:
    options = {option.name: option for option in pages('options').options_of(mm.Darts)}
    assert options['arch_interval'].meaning.startswith('Take an architecture step in every')
    # What follows the reference is kept.
    rest = "`dict(type='cg')`; by default what `unroll` says."
    assert options['hypergradient'].meaning.endswith(rest)


def test_every_option_has_a_meaning(pages: Any) -> None:
    parts, options = pages('parts'), pages('options')
    for kind in parts.KINDS:
        for name, part in parts._parts_of(kind).items():
            for option in options.options_of(part, parts._GIVEN.get(kind, ())):
                assert option.meaning, f'{kind}: {name}: {option.name}'


def test_an_entry_without_a_meaning_is_found(
    pages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = pages('configuration')
    assert '| `seed` | a whole number from 0 to 2147483647 |' in configuration.page()
    sections = {**schema.SECTIONS, 'model': {**schema.SECTIONS['model'], 'teacher': None}}
    monkeypatch.setattr(configuration, 'SECTIONS', sections)
    with pytest.raises(SystemExit, match=r"section 'model'.*'teacher'"):
        configuration.page()


def test_the_api_has_every_public_name_once(pages: Any) -> None:
    groups = pages('api').grouped()
    names = [name for members in groups.values() for name in members]
    assert len(names) == len({*names})
    assert {*names} >= {*mm.__all__} - {'__version__'}
    assert 'Budget' in groups['extensions']
    assert 'ConfigError' in groups['errors']


def test_the_command_line_has_every_verb_and_argument(pages: Any) -> None:
    text = pages('command_line').page()
    for verb in ('search', 'retrain', 'export', 'show', 'list', 'migrate'):
        assert f'## {verb}\n' in text
    assert '| `--launcher {none,pytorch}` | `none` |' in text
    assert '| `--input-shape C H W` |' in text
    assert '| `--subnet FILE` | required |' in text
