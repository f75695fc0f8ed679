"""Subnets: the files that hold them, and whether they fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import toys
import yaml
from hypothesis import given, settings

import mmrazor_mutators as mm
from mmrazor_mutators.errors import SubnetError
from mmrazor_mutators.mutables import find_mutables, match_subnet

SUBNET = {
    'widen': {'chosen': ['linear']},
    'shared': {'chosen': ['norm'], 'chosen_probs': [0.4]},
    'node': {'chosen': ['p2', 'p0']},
    'node_p0': {'chosen': ['deep']},
    'node_p2': {'chosen': ['linear']},
}
OF_DROPPED = {'node_p1': {'chosen': ['norm']}}

# As version 0.2.0 wrote it: every space of a node, dropped or not.
OLD_FILE = """\
widen:
  chosen:
  - linear
shared:
  chosen:
  - norm
  chosen_probs:
  - 0.4
node:
  chosen:
  - p2
  - p0
node_p0:
  chosen: [deep]
node_p1:
  chosen: [norm]
node_p2:
  chosen: [linear]
"""

NAMES = st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=6)
AWKWARD = st.sampled_from(
    ['no', 'null', '1', '1e3', '~', 'a: b', '# x', ' x', '2001-01-01', '\n']
)
SUBNETS = st.dictionaries(
    NAMES | AWKWARD,
    st.fixed_dictionaries(
        {'chosen': st.lists(NAMES | AWKWARD, min_size=1, max_size=3)},
        optional={'chosen_probs': st.lists(st.floats(allow_nan=False), max_size=3)},
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(subnet=SUBNETS)
def test_a_file_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, subnet: Any
) -> None:
    file = tmp_path_factory.getbasetemp() / 'round' / 'trip.yaml'
    mm.dump_subnet(subnet, file)
    loaded = mm.load_subnet(str(file))
    assert loaded == subnet
    assert list(loaded) == list(subnet)  # In the order of the search.
    assert [path.name for path in file.parent.iterdir()] == ['trip.yaml']


def test_files_of_version_0_2_0_and_json(tmp_path: Path) -> None:
    supernet = toys.ToySupernet()
    for name, text in [('old.yaml', OLD_FILE), ('json.yaml', yaml.dump(SUBNET | OF_DROPPED))]:
        (tmp_path / name).write_text(text)
        subnet = mm.load_subnet(tmp_path / name)
        assert subnet == SUBNET | OF_DROPPED
        matched = {(m.space_id, chosen) for m, chosen in match_subnet(supernet, subnet)}
        assert matched == {(key, tuple(entry['chosen'])) for key, entry in SUBNET.items()}
    mm.BaseMutator().prepare_from_supernet(supernet)


def test_folders_are_made_and_files_replaced(tmp_path: Path) -> None:
    file = tmp_path / 'work' / 'run 1' / 'subnet.yaml'
    for subnet in (SUBNET, OF_DROPPED):
        mm.dump_subnet(subnet, file)
        assert mm.load_subnet(file) == subnet
        assert os.listdir(file.parent) == ['subnet.yaml']


@pytest.mark.parametrize(
    'bad', [{'a': {'chosen': torch.ones(1)}}, {'a': {'chosen': [mm.DartsMutator]}}]
)
def test_a_subnet_that_cannot_be_written_leaves_the_file(bad: Any, tmp_path: Path) -> None:
    file = tmp_path / 'subnet.yaml'
    mm.dump_subnet(SUBNET, file)
    with pytest.raises(SubnetError, match=r'subnet\.yaml.*(tensor|DartsMutator)'):
        mm.dump_subnet(bad, file)
    assert mm.load_subnet(file) == SUBNET
    assert os.listdir(tmp_path) == ['subnet.yaml']


@pytest.mark.parametrize('step', ['write_bytes', 'replace'])
def test_a_failing_disk_leaves_the_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / 'subnet.yaml'
    mm.dump_subnet(SUBNET, file)

    def half_a_file(path: Path, data: bytes, **_: Any) -> None:
        with open(path, 'wb') as stream:
            stream.write(data[:9])
        raise OSError(28, 'No space left on device')

    def no_rename(*_: Any) -> None:
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(
            *{
                'write_bytes': (Path, 'write_bytes', half_a_file),
                'replace': (os, 'replace', no_rename),
            }[step]
        )
        with pytest.raises(SubnetError, match=r'subnet\.yaml.*No space left'):
            mm.dump_subnet(OF_DROPPED, file)
    assert mm.load_subnet(file) == SUBNET
    assert os.listdir(tmp_path) == ['subnet.yaml']  # No draft is left behind.


@pytest.mark.parametrize('path', ['file', 'file/subnet.yaml', 'file/run/subnet.yaml'])
def test_a_path_through_a_file_or_onto_a_folder(path: str, tmp_path: Path) -> None:
    (tmp_path / 'file').mkdir() if path == 'file' else (tmp_path / 'file').write_text('x')
    with pytest.raises(SubnetError, match=f'Cannot write .*{path}'):
        mm.dump_subnet(SUBNET, tmp_path / path)
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, r'Cannot read .*subnet\.yaml.*No such file.*subnet\.yaml into its work'),
        (b'a: [1', r'subnet\.yaml.* is not valid YAML: .*line'),
        (b'a: !!python/object:os.system x', r'not valid YAML: .*python/object'),
        (b'\xff\xfe\x00a', r'subnet\.yaml.* is no text in UTF-8'),
        (b'', r'subnet\.yaml.* hold a mapping .* holds NoneType'),
        (b'{}', 'hold a mapping .* holds dict'),
        (b'- a\n- b\n', 'hold a mapping .* holds list'),
        (b'just words', 'hold a mapping .* holds str'),
    ],
)
def test_files_that_hold_no_subnet(content: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / 'subnet.yaml'
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SubnetError, match=f'(?s){message}'):
        mm.load_subnet(file)


def test_the_version_is_a_comment_and_later_ones_are_refused(tmp_path: Path) -> None:
    file = tmp_path / 'subnet.yaml'
    mm.dump_subnet(SUBNET, file)
    first, rest = file.read_text().split('\n', 1)
    assert first == '# mmrazor_mutators subnet, version 1'
    assert yaml.safe_load(file.read_text()) == yaml.safe_load(rest) == SUBNET
    for text in (rest, f'# by hand, version 7\n{rest}', f'{rest}{first[:-1]}2\n'):
        file.write_text(text)
        assert mm.load_subnet(file) == SUBNET
    file.write_text(f'{first[:-1]}2\n{rest}')
    with pytest.raises(SubnetError, match=r'subnet\.yaml.* has version 2, .* up to version 1'):
        mm.load_subnet(file)


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ('norm', r"'chosen': .*, but it holds 'norm'"),
        ({'chose': ['norm']}, "but it holds {'chose': "),
        ({'chosen': 'norm'}, "`chosen` to be a list .*, but it holds 'norm'"),
        ({'chosen': []}, r'at least one choice, but it holds \[\]'),
        ({'chosen': [['norm']]}, r"names of choices, but one of them is \['norm'\]"),
        ({'chosen': ['norm'], 'chosen_probs': 0.5}, '`chosen_probs` .*, but it holds 0.5'),
        ({'chosen': ['norm'], 'chosen_probs': ['high']}, r"but it holds \['high'\]"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_by_space(
    entry: Any, message: str, tmp_path: Path
) -> None:
    file = tmp_path / 'subnet.yaml'
    file.write_text(yaml.safe_dump({**SUBNET, 'node_p1': entry}))
    with pytest.raises(SubnetError, match=rf"subnet\.yaml', space 'node_p1': .*{message}"):
        mm.load_subnet(file)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SubnetError, match=r'Cannot read .*Is a directory'):
        mm.load_subnet(tmp_path)


def without(space_id: str) -> dict[str, Any]:
    return {key: entry for key, entry in SUBNET.items() if key != space_id}


@pytest.mark.parametrize(
    ('subnet', 'message'),
    [
        (['widen'], 'to be a mapping .*but got list'),
        (None, 'to be a mapping .*but got NoneType'),
        ({**SUBNET, 'widne': {'chosen': ['norm']}}, "space 'widne' .*did you mean 'widen'"),
        ({**SUBNET, 7: {'chosen': ['norm']}}, 'a space 7 .*Known: widen, shared, node, '),
        (without('shared'), "lacks the space 'shared', .*none, linear, norm, deep"),
        (without('node_p2'), "lacks the space 'node_p2'"),
        ({}, "lacks the space 'widen'"),
        ({**SUBNET, 'widen': ['norm']}, r"'widen': .*'chosen'.*but got \['norm'\]"),
        ({**SUBNET, 'widen': None}, "'widen': .*'chosen'.*but got None"),
        ({**SUBNET, 'widen': {'chose': ['norm']}}, "'widen': .*but got {'chose': "),
        ({**SUBNET, 'widen': {'chosen': ['nrom']}}, "'widen': .*'nrom'; did you mean 'norm'"),
        ({**SUBNET, 'widen': {'chosen': 'norm'}}, "'widen': .*list .*but got 'norm'"),
        ({**SUBNET, 'widen': {'chosen': []}}, r"'widen': .*at least one.*but got \[\]"),
        ({**SUBNET, 'widen': {'chosen': None}}, "'widen': .*list .*but got None"),
        ({**SUBNET, 'widen': {'chosen': [['norm']]}}, r"'widen': .*\['norm'\]"),
        (
            {**SUBNET, 'widen': {'chosen': ['norm', 'deep']}},
            r"'widen': .*at most 1 .*but got \['norm', 'deep'\]",
        ),
        (
            {**SUBNET, 'node': {'chosen': ['p0', 'p0']}},
            r"'node': .*each named once, but got \['p0', 'p0'\]",
        ),
    ],
)
def test_subnets_that_do_not_fit(subnet: Any, message: str) -> None:
    supernet, mutator = toys.prepared()
    before = str(supernet)
    for act in (match_subnet, mutator.deploy_subnet, mutator.export_subnet):
        with pytest.raises(SubnetError, match=message):
            act(supernet, subnet)
    assert str(supernet) == before


def test_spaces_of_dropped_choices_may_be_there_or_not() -> None:
    supernet = toys.ToySupernet()
    expected = [
        ('widen', ('linear',)),
        ('shared', ('norm',)),
        ('shared', ('norm',)),
        ('node', ('p2', 'p0')),
        ('node_p0', ('deep',)),
        ('node_p2', ('linear',)),
    ]
    for subnet in (SUBNET, SUBNET | OF_DROPPED):
        matched = match_subnet(supernet, subnet)
        assert [(mutable.space_id, chosen) for mutable, chosen in matched] == expected
    assert len(list(find_mutables(supernet))) == 7


def test_fewer_choices_than_a_node_keeps_are_fine() -> None:
    supernet = toys.ToySupernet()
    subnet = {**without('node_p2'), 'node': {'chosen': ['p0']}}
    kept = [mutable.space_id for mutable, _ in match_subnet(supernet, subnet)]
    assert kept == ['widen', 'shared', 'shared', 'node', 'node_p0']
