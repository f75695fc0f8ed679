"""Files that others have made: they run no code, fill no memory and keep nobody waiting."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from mmengine.fileio import dump
from mmengine.fileio.handlers import file_handlers

from mmrazor_mutators import cli
from mmrazor_mutators.documents import MAX_BYTES, parse_json, parse_yaml, read_yaml
from mmrazor_mutators.engine.config import load_config
from mmrazor_mutators.errors import ConfigError, SubnetError
from mmrazor_mutators.mutables import dump_subnet, load_subnet

TAGS = (
    '!!python/object/apply:os.system [touch {mark}]',
    '!!python/object/new:os.system [touch {mark}]',
    '!!python/object:collections.Counter {{a: 1}}',
    '!!python/name:os.system',
    '!!python/module:antigravity',
    '!mine {{a: 1}}',
)

MARK = "import pathlib\npathlib.Path('mark').touch()\n"


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that hostile code would make, and the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'mark'


def refused(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    begun = time.process_time()
    with pytest.raises(ConfigError, match=message):
        load_config(path)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize('text', TAGS)
def test_tags_of_a_config_run_nothing(mark: Path, text: str) -> None:
    tag = text.split()[0]
    entry = text.format(mark=mark)
    refused(
        mark.with_name('a.yaml'), f'model:\n  type: {entry}\n', f"line 2 has the tag '{tag}'"
    )
    # As a base of a config that is data, and of one that is code.
    mark.with_name('b.yml').write_text('_base_: a.yaml\n')
    mark.with_name('c.py').write_text("_base_ = 'a.yaml'\n")
    for name in ('b.yml', 'c.py'):
        with pytest.raises(ConfigError, match=f"has the tag '{tag}'"):
            load_config(name)
    assert not mark.exists()


@pytest.mark.parametrize('text', TAGS)
def test_tags_of_other_files_run_nothing(
    mark: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = mark.with_name('subnet.yaml')
    path.write_text(f'cell: {text.format(mark=mark)}\n')
    with pytest.raises(SubnetError, match=r"line 1 has the tag '!"):
        load_subnet(path)
    for verb in ('show', 'migrate'):
        assert cli.main([verb, str(path)]) == 2
        assert 'has the tag' in capsys.readouterr().err
    assert not mark.exists()


def test_text_that_is_put_in_place_of_variables_runs_nothing(mark: Path) -> None:
    os.environ.pop('NOT_SET_ANYWHERE', None)
    tag = '!!python/object/apply:os.abort'
    refused(mark.with_name('a.yaml'), f'x: {{{{$NOT_SET_ANYWHERE:{tag}}}}}\n', 'has the tag')


@pytest.mark.parametrize('form', ['json', 'yaml'])
@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ({'model': {'type': 'os.system', 'command': 'touch mark'}}, "'os.system' as `model.ty"),
        ({'model': {'type': 'mmrazor_mutators.cli.os.system'}}, 'names registered parts'),
        ({'model': {'type': 'mmengine.load', 'file': 'x.pkl'}}, "'mmengine.load' as"),
        ({'hooks': [{'type': 'evil_module'}]}, r"'evil_module' as `hooks\[0\].type`"),
        ({'optim_wrapper': {'constructor': 'evil_module.f'}}, 'as `optim_wrapper.constructor`'),
        ({'default_scope': 'evil_module'}, "'evil_module' as `default_scope`"),
        ({'model': {'a': {'_scope_': 'evil_module'}}}, 'as `model.a._scope_`'),
        ({'_base_': 'evil_module.py'}, "`_base_` is one as well, but got 'evil_module.py'"),
        ({'_base_': ['ok.yaml', 'mmdet::x.py']}, "but got 'mmdet::x.py'"),
        ({"a': open('mark', 'w'), 'b": 1}, 'key .* cannot be used'),
        ({'model': {'a\\': 1}}, 'key .* cannot be used'),
        ([1], 'Expected a config to be a mapping, but got list'),
    ],
)
def test_names_in_data_import_nothing(mark: Path, entry: Any, message: str, form: str) -> None:
    mark.with_name('evil_module.py').write_text(MARK)
    mark.with_name('ok.yaml').write_text('a: 1\n')
    text = json.dumps(entry) if form == 'json' else yaml.safe_dump(entry)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(mark.parent)
        refused(mark.with_name(f'config.{form}'), text, message)
    assert not mark.exists()


@pytest.mark.parametrize('form', ['json', 'yaml'])
def test_configs_that_are_data_and_honest(mark: Path, form: str) -> None:
    base = {
        'model': {
            'type': 'mmrazor_mutators.Darts',
            'mutator': {'type': 'DartsMutator'},
            'architecture': {'type': 'DartsSupernet', 'norm_cfg': {'type': 'BN'}},
        },
        'default_scope': 'mmrazor_mutators',
        'train_cfg': {'type': 'mmengine.EpochBasedTrainLoop'},
    }
    dump(base, str(mark.with_name(f'base.{form}')))
    dump({'_base_': f'./base.{form}', 'model': {'a': 1}}, str(mark.with_name(f'own.{form}')))
    before = dict(file_handlers)
    cfg = load_config(f'own.{form}')
    assert file_handlers == before
    assert cfg.to_dict() == {**base, 'model': {**base['model'], 'a': 1}}  # type: ignore[dict-item]


def test_what_custom_imports_name_is_run(mark: Path) -> None:
    mark.with_name('wanted_module_of_tests.py').write_text(MARK)
    text = 'custom_imports: {imports: [wanted_module_of_tests]}\nmodel: {type: Darts}\n'
    mark.with_name('a.yaml').write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(mark.parent)
        load_config('a.yaml')
    assert mark.exists()


LAUGHS = '\n'.join(
    ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
    + [f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 10)}]' for i in range(1, 12)]
)
MERGES = '\n'.join(
    ['a0: &a0 {k: 1}'] + [f'a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}' for i in range(1, 40)]
)
CHAIN = '\n'.join(['a0: &a0 [x]', *(f'a{i}: &a{i} [*a{i - 1}]' for i in range(1, 200))])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (LAUGHS, 'aliases stand for more than 131,072 entries'),
        (MERGES, 'aliases stand for more than 131,072 entries'),
        (CHAIN, 'deeper than 100 levels'),
        ('[' * 400_000, 'deeper than 100 levels'),
        ('{a: ' * 200_000, 'deeper than 100 levels'),
        ('- ' * 400_000, 'deeper than 100 levels'),
        ('a: &a [*a]', 'line 1 refers to itself'),
        ('- 1\n' * 200_000, 'more than 131,072 entries'),
        ('1:1' * 300_000, 'a number of 900000 characters'),
        ('9' * 5000, 'a number of 5000 characters'),
        ('x' * (MAX_BYTES + 1), 'larger than 1,048,576 bytes, the limit'),
        ('x: 2020-13-45', 'month must be'),
        ('x: !!timestamp abc', "no attribute 'groupdict'"),
        ('\0', 'control characters'),
        ('{[1]: 2}', 'unhashable key'),
    ],
)
def test_bombs_are_refused_at_once(text: str, message: str) -> None:
    begun = time.process_time()
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)
    assert time.process_time() - begun < 5


def test_values_up_to_the_limits() -> None:
    depth = 99
    value = parse_yaml('[' * depth + ']' * depth)
    for _ in range(depth - 1):
        (value,) = value
    assert value == []
    assert parse_yaml('a: &x [1, 2]\nb: *x\nc: {<<: {d: 3}}') == {
        'a': [1, 2],
        'b': [1, 2],
        'c': {'d': 3},
    }
    assert parse_yaml('betas: !!python/tuple [0.5, 0.999]') == {'betas': (0.5, 0.999)}
    assert parse_yaml('x' * MAX_BYTES) == 'x' * MAX_BYTES
    assert parse_yaml('9' * 100) == int('9' * 100)
    assert parse_json('{"a": [1, 2.5, null]}') == {'a': [1, 2.5, None]}
    with pytest.raises(ValueError, match='nests too deep'):
        parse_json('[' * 100_000)


def test_a_large_file_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'subnet.yaml'
    with path.open('w') as file:
        for number in range(600_000):
            file.write(f'space_{number}:\n  chosen: [skip_connect, sep]\n')
    assert path.stat().st_size > 25 * 2**20
    begun = time.process_time()
    assert cli.main(['show', str(path)]) == 2
    assert 'larger than 1,048,576 bytes' in capsys.readouterr().err
    assert time.process_time() - begun < 2
    refused(path.rename(tmp_path / 'config.yaml'), 'a: 1\n' * 300_000, 'larger than 1,048,576')
    with pytest.raises(SubnetError, match='larger than'):
        read_yaml('/dev/zero', 'subnet file', SubnetError)


def test_a_subnet_of_ten_thousand_choices_is_read(tmp_path: Path) -> None:
    subnet = {
        f'space_{i}': {'chosen': ['sep_conv_3x3'], 'chosen_probs': [0.125]}
        for i in range(10_000)
    }
    dump_subnet(subnet, tmp_path / 'subnet.yaml')
    assert load_subnet(tmp_path / 'subnet.yaml') == subnet


@pytest.mark.parametrize(
    'content',
    [
        '[' * 100_000,
        '{}',
        '[]',
        '3',
        '{"found": 3, "random": []}',
        '{"found": {"name": 1, "accuracy": "x", "parameters": null}, "random": []}',
        '{"found": {"name": "found", "accuracy": 1.0, "parameters": 3}, "random": [4]}',
        '{"found": {"name": "found", "accuracy": 1.0, "parameters": 3}, "random": null}',
        '\0\1',
        '9' * 5000,
    ],
)
def test_results_that_are_none(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'results.json'
    path.write_text(content)
    assert cli.main(['show', str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert 'results.json' in line
