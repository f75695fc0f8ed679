"""The inputs of the nodes of NAS-Bench-201: summed, or weighed by a search."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.architectures import arch_string_to_subnet, subnet_to_arch_string
from mmrazor_mutators.errors import SubnetError

EDGES = ('n1_p0', 'n2_p0', 'n2_p1', 'n3_p0', 'n3_p1', 'n3_p2')
ARCH = '|none~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|nor_conv_1x1~1|avg_pool_3x3~2|'
NODES = {f'n{i}': {'chosen': [f'n{i}_p{j}' for j in range(i)]} for i in (1, 2, 3)}
WEIGHED = {'node_edge': {'type': 'DifferentiableEdge', 'with_arch_param': True}}


def prepare(weighed: bool = False, seed: int = 0) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    supernet = mm.NasBench201Supernet(2, 3, base_channels=4, num_cells=1)
    mapping = supernet.default_placeholder_mapping
    mutator = mm.DartsMutator(placeholder_mapping={**mapping, **WEIGHED} if weighed else None)
    mutator.prepare_from_supernet(supernet)
    with torch.no_grad():
        for logits in mutator.arch_params.values():
            logits.normal_()
    return supernet, mutator


def naive_cell(cell: Any, x: Tensor, logits: Any, weighed: bool) -> Tensor:
    nodes = [x]
    for i in (1, 2, 3):
        beta = logits[f'n{i}'].softmax(-1) if weighed else torch.ones(i)
        total: Any = 0
        for j in range(i):
            name = f'n{i}_p{j}'
            ops = cell.nodes[f'n{i}'].choices[name].choices.values()
            alpha = logits[name].softmax(-1)
            mixed = sum(w * op(nodes[j]) for w, op in zip(alpha, ops, strict=True))
            total = total + beta[j] * mixed
        nodes.append(total)
    return nodes[-1]


@pytest.mark.parametrize('weighed', [False, True])
def test_a_search_without_and_with_weights_of_inputs(weighed: bool) -> None:
    supernet, mutator = prepare(weighed)
    expected = [space for i in '123' for space in (f'n{i}', *(e for e in EDGES if e[1] == i))]
    spaces = [s for s in expected if weighed or s in EDGES]
    assert list(mutator.search_spaces) == spaces == list(mutator.arch_params)
    assert 'node_edge' not in supernet.default_placeholder_mapping
    supernet.double(), mutator.double()
    images = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    x = supernet.stem(images)
    for cell in supernet.cells:
        is_cell = hasattr(cell, 'nodes')
        x = naive_cell(cell, x, mutator.arch_params, weighed) if is_cell else cell(x)
    assert_close(supernet(images), supernet.head(supernet.last_act(x)))


@pytest.mark.parametrize('weighed', [False, True])
def test_checkpoints_fit_whether_or_not_inputs_are_weighed(weighed: bool) -> None:
    supernet, _ = prepare(weighed)
    for other in (prepare(not weighed, seed=1)[0], copy.deepcopy(supernet)):
        nn.init.zeros_(other.stem[0].weight)
        other.load_state_dict(supernet.state_dict(), strict=True)
        assert list(other.state_dict()) == list(supernet.state_dict())
        for mine, theirs in zip(other.parameters(), supernet.parameters(), strict=True):
            assert_close(mine, theirs, rtol=0, atol=0)
            assert mine is not theirs


def test_found_networks_have_the_same_keys_and_outputs() -> None:
    supernet, mutator = prepare()
    weighed, other = prepare(weighed=True)
    subnet = arch_string_to_subnet(ARCH)
    net = mutator.export_subnet(supernet, subnet)
    twin = other.export_subnet(weighed, {**subnet, **NODES})
    assert list(net.state_dict()) == list(twin.state_dict())
    images = torch.randn(3, 2, 8, 8)
    assert_close(net(images), twin(images), rtol=0, atol=0)
    for copied in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert list(copied.state_dict()) == list(net.state_dict())
        assert_close(copied(images), net(images), rtol=0, atol=0)


def test_strings_of_subnets_that_name_all_inputs() -> None:
    subnet = arch_string_to_subnet(ARCH)
    assert subnet_to_arch_string({**NODES, **subnet}) == ARCH
    backward = {'n3': {'chosen': ['n3_p2', 'n3_p0', 'n3_p1'], 'chosen_probs': [0.5, 0.3, 0.2]}}
    assert subnet_to_arch_string({**subnet, **backward}) == ARCH


@pytest.mark.parametrize(
    ('node', 'entry', 'message'),
    [
        (
            'n2',
            {'chosen': ['n2_p1']},
            r"'n2': .*'n2_p0', 'n2_p1'.* got {'chosen': \['n2_p1'\]}",
        ),
        ('n3', {'chosen': ['n3_p0', 'n3_p1', 'n2_p1']}, "'n3': .*but got .*'n2_p1'"),
        ('n1', {'chosen': ['n1_p0'] * 2}, "'n1': .*but got .*'n1_p0', 'n1_p0'"),
        ('n1', {'chosen': 'n1_p0'}, "'n1': .*but got {'chosen': 'n1_p0'}"),
        ('n1', ['n1_p0'], r"'n1': .*but got \['n1_p0'\]"),
        ('n4', {'chosen': ['n4_p0']}, "the spaces .* but got .*'n4'"),
        ('n0', {'chosen': []}, "the spaces .* but got .*'n0'"),
    ],
)
def test_strings_of_subnets_that_drop_inputs(node: str, entry: Any, message: str) -> None:
    with pytest.raises(SubnetError, match=message):
        subnet_to_arch_string({**NODES, **arch_string_to_subnet(ARCH), node: entry})
