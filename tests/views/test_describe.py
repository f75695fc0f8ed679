"""Subnets in words: every edge with its operation and weight, and no other."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

import mmrazor_mutators as mm
from mmrazor_mutators.architectures import arch_string_to_subnet
from mmrazor_mutators.errors import SubnetError
from mmrazor_mutators.views.describe import Cell, Choice, describe_subnet, subnet_table

# In the form of the files of MMRazor v0.2.0: inputs in any order, no probabilities,
# and spaces of inputs that were not chosen.
OLD_FILE = """\
normal_n2: {chosen: [normal_n2_p1, normal_n2_p0]}
normal_n2_p0: {chosen: [sep_conv_3x3]}
normal_n2_p1: {chosen: [sep_conv_5x5]}
normal_n3: {chosen: [normal_n3_p0, normal_n3_p1]}
normal_n3_p0: {chosen: [skip_connect]}
normal_n3_p1: {chosen: [sep_conv_3x3]}
normal_n3_p2: {chosen: [avg_pool_3x3]}
normal_n4: {chosen: [normal_n4_p3, normal_n4_p0]}
normal_n4_p0: {chosen: [none]}
normal_n4_p1: {chosen: [dropped]}
normal_n4_p2: {chosen: [dropped]}
normal_n4_p3: {chosen: [dil_conv_3x3]}
reduce_n2: {chosen: [reduce_n2_p0, reduce_n2_p1]}
reduce_n2_p0: {chosen: [max_pool_3x3]}
reduce_n2_p1: {chosen: [dil_conv_5x5]}
"""
NORMAL = [
    ('c_{k-2}', '0', 'sep_conv_3x3', None),
    ('c_{k-1}', '0', 'sep_conv_5x5', None),
    ('c_{k-2}', '1', 'skip_connect', None),
    ('c_{k-1}', '1', 'sep_conv_3x3', None),
    ('c_{k-2}', '2', 'none', None),
    ('1', '2', 'dil_conv_3x3', None),
    ('0', 'output', 'concat', None),
    ('1', 'output', 'concat', None),
    ('2', 'output', 'concat', None),
]
REDUCE = [
    ('c_{k-2}', '0', 'max_pool_3x3', None),
    ('c_{k-1}', '0', 'dil_conv_5x5', None),
    ('0', 'output', 'concat', None),
]


def shown(subnet: Any) -> list[list[str]]:
    """Return the words of each line of the table that has any."""
    console = Console(file=io.StringIO(), width=100)
    console.print(subnet_table(subnet))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [line.split() for line in lines if line.strip(' ─')]


@pytest.fixture
def old(tmp_path: Any) -> Any:
    (tmp_path / 'old.yaml').write_text(OLD_FILE)
    return mm.load_subnet(tmp_path / 'old.yaml')


def test_an_old_darts_file_shows_only_what_was_chosen(old: Any) -> None:
    description = describe_subnet(old)
    assert [cell.name for cell in description.cells] == ['normal', 'reduce']
    assert [list(cell.edges) for cell in description.cells] == [NORMAL, REDUCE]
    assert description.others == ()
    assert description.cells[0].nodes == ('c_{k-2}', 'c_{k-1}', '0', '1', '2', 'output')


def test_the_order_of_a_file_does_not_matter(old: Any) -> None:
    backward = dict(reversed(old.items()))
    cells = describe_subnet(backward).cells
    assert {cell.name: list(cell.edges) for cell in cells} == {
        'normal': NORMAL,
        'reduce': REDUCE,
    }


def test_weights_are_those_of_the_operations() -> None:
    subnet = {
        'normal_n2': {
            'chosen': ['normal_n2_p1', 'normal_n2_p0'],
            'chosen_probs': [0.9, 0.8],
        },
        'normal_n2_p0': {'chosen': ['a'], 'chosen_probs': [0.31]},
        'normal_n2_p1': {'chosen': ['b', 'c'], 'chosen_probs': [0.52, 0.25]},
    }
    (cell,) = describe_subnet(subnet).cells
    assert list(cell.edges[:-1]) == [
        ('c_{k-2}', '0', 'a', 0.31),
        ('c_{k-1}', '0', 'b', 0.52),
        ('c_{k-1}', '0', 'c', 0.25),
    ]


def test_every_subnet_of_a_darts_supernet_is_described() -> None:
    supernet = mm.build_architecture(
        {'type': 'DartsSupernet', 'in_channels': 1, 'num_classes': 2, 'base_channels': 4}
    )
    mutator = mm.build_mutator({'type': 'DartsMutator'})
    mutator.prepare_from_supernet(supernet)
    for subnet in (mutator.search_subnet(), mutator.random_subnet(3)):
        cells = describe_subnet(subnet).cells
        assert [(cell.name, len(cell.edges)) for cell in cells] == [
            ('normal', 12),
            ('reduce', 12),
        ]
        inputs = ['c_{k-2}', 'c_{k-1}', '0', '1', '2', '3']
        for cell in cells:
            for source, target, operation, weight in cell.edges[:8]:
                space_id = f'{cell.name}_n{inputs.index(target)}_p{inputs.index(source)}'
                assert subnet[space_id]['chosen'] == [operation]
                assert subnet[space_id].get('chosen_probs', [None]) == [weight]
                assert space_id in subnet[space_id[:-3]]['chosen']


def test_nasbench201() -> None:
    subnet = arch_string_to_subnet(
        '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|'
    )
    subnet['n2_p1']['chosen_probs'] = [0.75]
    (cell,) = describe_subnet(subnet).cells
    assert cell == Cell(
        'cell',
        (
            ('input', '1', 'nor_conv_3x3', None),
            ('input', '2', 'none', None),
            ('1', '2', 'skip_connect', 0.75),
            ('input', 'output', 'avg_pool_3x3', None),
            ('1', 'output', 'nor_conv_1x1', None),
            ('2', 'output', 'none', None),
        ),
    )
    assert cell.nodes == ('input', '1', '2', 'output')


@pytest.mark.parametrize(
    'subnet',
    [
        {'layer1': {'chosen': ['wide', 'deep']}, 'layer2': {'chosen': ['wide']}},
        {'n1_p0': {'chosen': ['a']}, 'n2_p1': {'chosen': ['b']}},  # n2_p0 is missing.
        {'n1_p1': {'chosen': ['a']}},
        {'conv_n2': {'chosen': ['big']}, 'conv_n2_p0': {'chosen': ['a']}},
        {'conv_n2': {'chosen': ['conv_n2_p0']}},  # Its inputs hold no operation.
        {'conv_n2': {'chosen': ['conv_n2_p2']}, 'conv_n2_p2': {'chosen': ['a']}},
        {'conv_n1': {'chosen': ['conv_n1_p0']}, 'conv_n1_p0': {'chosen': ['a']}},
        {'normal_n2_p0': {'chosen': ['a']}},
    ],
)
def test_other_spaces_are_a_flat_list(subnet: Any) -> None:
    description = describe_subnet(subnet)
    assert description.cells == ()
    assert list(description.others) == [
        (space_id, name, None) for space_id, entry in subnet.items() for name in entry['chosen']
    ]


def test_cells_and_other_spaces_side_by_side(old: Any) -> None:
    stem = {'stem': {'chosen': ['wide'], 'chosen_probs': [0.5]}}
    description = describe_subnet(stem | old)
    assert [cell.name for cell in description.cells] == ['normal', 'reduce']
    assert description.others == (Choice('stem', 'wide', 0.5),)


def test_the_table_of_an_old_file(old: Any) -> None:
    assert shown(old) == [
        ['normal'],
        ['node', 'input', 'operation'],
        ['0', 'c_{k-2}', 'sep_conv_3x3'],
        ['c_{k-1}', 'sep_conv_5x5'],
        ['1', 'c_{k-2}', 'skip_connect'],
        ['c_{k-1}', 'sep_conv_3x3'],
        ['2', 'c_{k-2}', 'none'],
        ['1', 'dil_conv_3x3'],
        ['output', '0,', '1,', '2', 'concat'],
        ['reduce'],
        ['node', 'input', 'operation'],
        ['0', 'c_{k-2}', 'max_pool_3x3'],
        ['c_{k-1}', 'dil_conv_5x5'],
        ['output', '0', 'concat'],
    ]


def test_the_table_shows_weights_and_names_as_they_are() -> None:
    subnet = {
        'n1_p0': {'chosen': ['conv'], 'chosen_probs': [0.12345]},
        '[b]stem': {'chosen': ['[red]wide', '[/x]'], 'chosen_probs': [1, 0.5]},
        'tail': {'chosen': ['plain']},
    }
    assert shown(subnet) == [
        ['cell'],
        ['node', 'input', 'operation', 'weight'],
        ['output', 'input', 'conv', '0.123'],
        ['other', 'spaces'],
        ['space', 'choice', 'weight'],
        ['[b]stem', '[red]wide', '1.000'],
        ['[b]stem', '[/x]', '0.500'],
        ['tail', 'plain'],
    ]
    assert shown({'tail': {'chosen': ['plain']}}) == [['space', 'choice'], ['tail', 'plain']]


@pytest.mark.parametrize(
    ('subnet', 'message'),
    [
        (None, 'to be a mapping .*at least one space, but got None'),
        ({}, 'to be a mapping .*but got {}'),
        (['a'], r"to be a mapping .*but got \['a'\]"),
        ({'a': ['b']}, r"'a': expected {'chosen': .*but got \['b'\]"),
        ({'a': {'chosen': 'b'}}, "'a': expected {'chosen': .*but got {'chosen': 'b'}"),
        ({'a': {'chosen': []}}, r"'a': expected {'chosen': .*but got {'chosen': \[\]}"),
        (
            {'a': {'chosen': ['b'], 'chosen_probs': [0.1, 0.2]}},
            r"'a': .*`chosen_probs`.*\['b'\], but got \[0.1, 0.2\]",
        ),
        ({'a': {'chosen': ['b'], 'chosen_probs': ['x']}}, r"'a': .*but got \['x'\]"),
        ({'a': {'chosen': ['b'], 'chosen_probs': 0.5}}, "'a': .*but got 0.5"),
        (
            {
                'normal_n2': {'chosen': ['normal_n2_p0', 'normal_n2_p1']},
                'normal_n2_p0': {'chosen': ['conv']},
            },
            "'normal_n2': .*'normal_n2_p1' is chosen, but the subnet lacks",
        ),
    ],
)
def test_what_is_no_subnet(subnet: Any, message: str) -> None:
    for act in (describe_subnet, subnet_table):
        with pytest.raises(SubnetError, match=message):
            act(subnet)
