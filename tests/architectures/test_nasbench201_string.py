from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from mmrazor_mutators.architectures import (
    NASBENCH201_OPERATIONS,
    arch_string_to_subnet,
    subnet_to_arch_string,
)
from mmrazor_mutators.errors import SubnetError

SPACES = ('n1_p0', 'n2_p0', 'n2_p1', 'n3_p0', 'n3_p1', 'n3_p2')
RESNET = '|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|'


def test_a_known_architecture() -> None:
    names = (
        'nor_conv_3x3',
        'none',
        'nor_conv_3x3',
        'skip_connect',
        'none',
        'skip_connect',
    )
    subnet = arch_string_to_subnet(RESNET)
    assert subnet == {
        space: {'chosen': [name]} for space, name in zip(SPACES, names, strict=True)
    }
    assert subnet_to_arch_string(subnet) == RESNET


def test_all_architectures_go_there_and_back() -> None:
    strings = set()
    for names in product(NASBENCH201_OPERATIONS, repeat=6):
        subnet = {space: {'chosen': [name]} for space, name in zip(SPACES, names, strict=True)}
        strings.add(subnet_to_arch_string(subnet))
        assert arch_string_to_subnet(subnet_to_arch_string(subnet)) == subnet
    assert len(strings) == 5**6


def test_other_operations() -> None:
    arch_string = RESNET.replace('none', 'my_op')
    operations = (*NASBENCH201_OPERATIONS, 'my_op')
    subnet = arch_string_to_subnet(arch_string, operations)
    assert subnet_to_arch_string(subnet, operations) == arch_string


@pytest.mark.parametrize(
    ('arch_string', 'message'),
    [
        (None, 'architecture string of the form .* but got None'),
        ('', "3 nodes joined by '[+]'.* but got 1: ''"),
        ('|none~0|+|none~0|none~1|', "3 nodes joined by '[+]'.* but got 2"),
        (f'{RESNET}+|none~0|', "3 nodes joined by '[+]'.* but got 4"),
        (RESNET.replace('+|none~0', '+ |none~0'), 'Expected node 2 .* but got . |none~0'),
        (RESNET.replace('~0|+|none', '~0| +|none'), 'Expected node 1 .* got .*conv_3x3~0. .'),
        (RESNET.replace('+|none~0', '+'), 'Expected node 2 to have 2 operation.* but got'),
        (RESNET[:-1], 'Expected node 3 to have 3 operation.* but got .*skip_connect~2'),
        (RESNET[1:], 'Expected node 1 to have 1 operation.* but got .nor_conv_3x3~0'),
        (RESNET.replace('skip_connect~2', 'none~0'), "of node 3 .*'name~2', but got 'none~0'"),
        (RESNET.replace('none~1', 'none'), "of node 3 .*'name~1', but got 'none'"),
        (RESNET.replace('none~1', 'none~+1'), "nodes joined by '[+]'.* but got 4"),
        (RESNET.replace('none~1', 'none~01'), "'name~1', but got 'none~01'"),
        (RESNET.replace('none~1', 'non~1'), "'n3_p1'.* no operation 'non'.*mean 'none'"),
        (RESNET.replace('none~1', '~1'), "'n3_p1'.* no operation ''"),
        (RESNET.replace('none~1', 'none~1~1'), "'n3_p1'.* no operation 'none~1'"),
    ],
)
def test_malformed_strings(arch_string: Any, message: str) -> None:
    with pytest.raises(SubnetError, match=message):
        arch_string_to_subnet(arch_string)


def change(**spaces: Any) -> dict[str, Any]:
    return {**arch_string_to_subnet(RESNET), **spaces}


@pytest.mark.parametrize(
    ('subnet', 'message'),
    [
        (None, "the spaces .*'n1_p0'.* but got None"),
        ({'n1_p0': {'chosen': ['none']}}, r"the spaces .*'n3_p2'.* but got \['n1_p0'\]"),
        (change(n4_p0={'chosen': ['none']}), "the spaces .* but got .*'n4_p0'"),
        (change(n2_p1={'chosen': ['conv']}), "'n2_p1': there is no operation 'conv'"),
        (change(n2_p1={'chosen': []}), r"'n2_p1': expected .* but got \{'chosen': \[\]\}"),
        (change(n2_p1={'chosen': ['none'] * 2}), "'n2_p1': expected .* but got .*'none', 'no"),
        (change(n2_p1={'chosen': 'none'}), "'n2_p1': expected .* but got {'chosen': 'none'}"),
        (change(n2_p1=['none']), r"'n2_p1': expected .* but got \['none'\]"),
    ],
)
def test_subnets_of_another_space(subnet: Any, message: str) -> None:
    with pytest.raises(SubnetError, match=message):
        subnet_to_arch_string(subnet)
