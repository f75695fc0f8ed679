"""PC-DARTS against loops, on both of its spaces, and what is trained afterwards."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import toys
from naive_channels import partial_mixture
from torch import Tensor, nn
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.architectures import (
    NASBENCH201_OPERATIONS,
    arch_string_to_subnet,
    subnet_to_arch_string,
)
from mmrazor_mutators.architectures.darts_cell import DartsNode
from mmrazor_mutators.errors import ConfigError, SearchSpaceError
from mmrazor_mutators.mutables import PartialChannels, SelectedSum, find_mutables

DARTS = {'type': 'DartsSupernet', 'in_channels': 2, 'num_classes': 3, 'base_channels': 4}
DARTS |= {'num_layers': 3, 'num_nodes': 3}
NB201 = {'type': 'NasBench201Supernet', 'in_channels': 2, 'num_classes': 3}
NB201 |= {'base_channels': 4, 'num_cells': 1}
both = pytest.mark.parametrize('architecture', [DARTS, NB201], ids=['darts', 'nasbench201'])


def prepare(architecture: Any, proportion: int = 2, seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    supernet = mm.build_architecture(architecture)
    kwargs['channel_proportion'] = proportion
    supernet, mutator = toys.prepared('PCDartsMutator', supernet, **kwargs)
    return supernet.double(), mutator  # What the placeholders have become as well.


def naive_node(node: Any, inputs: list[Tensor], logits: Any, proportion: int) -> Tensor:
    """Add up the inputs, each by its beta, of which each is mixed by its alpha."""
    beta, total = logits[node.space_id].softmax(-1), 0
    for j, choice in enumerate(node.choices.values()):
        op = choice[0] if isinstance(choice, nn.Sequential) else choice
        alpha = logits[op.space_id].softmax(-1)
        total = total + beta[j] * partial_mixture(
            list(op.choices.values()), alpha, inputs[j], proportion
        )
    return total


def assert_same_gradients(mine: Tensor, naive: Tensor, leaves: list[Tensor]) -> None:
    assert_close(mine, naive)
    slope = torch.randn_like(mine)
    gradients = [
        torch.autograd.grad((y * slope).sum(), leaves, allow_unused=True) for y in (mine, naive)
    ]
    assert_close(*gradients)


@pytest.mark.parametrize('proportion', [1, 2, 4])
def test_nasbench201_and_its_gradients(proportion: int) -> None:
    supernet, mutator = prepare(NB201, proportion)
    images = torch.randn(3, 2, 5, 6, dtype=torch.float64)
    x = supernet.stem(images)
    for cell in supernet.cells:
        if not hasattr(cell, 'nodes'):
            x = cell(x)
            continue
        states = [x]
        for node in cell.nodes.values():
            states.append(naive_node(node, states, mutator.arch_params, proportion))
        x = states[-1]
    expected = supernet.head(supernet.last_act(x))
    leaves = toys.logits_and_weights(supernet, mutator)
    assert_same_gradients(supernet(images), expected, leaves)


@pytest.mark.parametrize('size', [(6, 8), (5, 7)])
@pytest.mark.parametrize('stride_inputs', [0, 2])
def test_a_node_of_darts_and_its_gradients(stride_inputs: int, size: tuple[int, int]) -> None:
    node = nn.Sequential(DartsNode('n2', 3, 8, stride_inputs))
    mapping = mm.build_architecture(DARTS).default_placeholder_mapping
    _, mutator = toys.prepared('PCDartsMutator', node, placeholder_mapping=mapping)
    node.double()
    sizes = [size] * 2 + [tuple(-(-s // 2) for s in size) if stride_inputs else size]
    inputs = [torch.randn(3, 8, *s, dtype=torch.float64, requires_grad=True) for s in sizes]
    expected = naive_node(node[0].edges, inputs, mutator.arch_params, 4)
    leaves = [*toys.logits_and_weights(node, mutator), *inputs]
    assert_same_gradients(node(inputs), expected, leaves)


@both
def test_weights_of_inputs_learn(architecture: Any) -> None:
    supernet, mutator = prepare(architecture)
    supernet(torch.randn(3, 2, 8, 8, dtype=torch.float64)).square().sum().backward()
    for logits in mutator.arch_params.values():
        assert logits.grad.any() == (len(logits) > 1)  # Node 1 of NAS-Bench-201 has one input.
    betas = [s for s in mutator.arch_params if '_p' not in s]
    assert betas == (
        ['n1', 'n2', 'n3']
        if architecture is NB201
        else [f'{kind}_n{i}' for kind in ('normal', 'reduce') for i in (2, 3, 4)]
    )


# How a subnet is read off.


def naive_subnet(logits: Any, ignored: set[str], names: Any, nodes: Any, keep: int) -> Any:
    """Choose as the authors' code does: a table of products, node by node."""
    chosen = {}
    for node, edges in nodes.items():
        beta = logits[node].softmax(-1).tolist()
        table = [
            [b * a for a in logits[edge].softmax(-1).tolist()]
            for b, edge in zip(beta, edges, strict=True)
        ]
        allowed = [k for k, name in enumerate(names) if name not in ignored]
        order = sorted(range(len(edges)), key=lambda j: -max(table[j][k] for k in allowed))
        chosen[node] = [edges[j] for j in order[: keep or len(edges)]]
        for j in order[: keep or len(edges)]:
            best = allowed[0]
            for k in allowed:
                if table[j][k] > table[j][best]:
                    best = k
            chosen[edges[j]] = [names[best]]
    return chosen


@both
@pytest.mark.parametrize('ignored', [('none',), ()])
def test_reading_off_random_logits(architecture: Any, ignored: tuple[str, ...]) -> None:
    keep = 2 if architecture is DARTS else 0
    _, mutator = prepare(architecture, ignore_choices=ignored)
    spaces = {key: list(space['choice_names']) for key, space in mutator.search_spaces.items()}
    nodes = {key: edges for key, edges in spaces.items() if '_p' not in key}
    names = next(names for key, names in spaces.items() if '_p' in key)
    by_one_factor = {'alpha': 0, 'beta': 0}
    for seed in range(20):
        torch.manual_seed(seed)
        toys.spread_logits(mutator)
        found = {key: entry['chosen'] for key, entry in mutator.search_subnet().items()}
        logits = dict(mutator.arch_params)
        assert found == naive_subnet(logits, {*ignored}, names, nodes, keep)
        for factor in by_one_factor:
            # As if the other one were the same everywhere.
            is_flat = {key: ('_p' in key) == (factor == 'beta') for key in logits}
            flat = {key: 0 * v if is_flat[key] else v for key, v in logits.items()}
            alone = naive_subnet(flat, {*ignored}, names, nodes, keep)
            by_one_factor[factor] += all(alone[key] == found[key] for key in nodes)
    assert max(by_one_factor.values()) < 15


def node_of(names: tuple[str, ...] = ('none', 'skip', 'conv')) -> Any:
    inputs: dict[str, nn.Module] = {
        f'e{i}': nn.Sequential(
            mm.DifferentiableOP(space_id=f'op{i}', choices={n: nn.Identity() for n in names})
        )
        for i in range(3)
    }
    return mm.DifferentiableEdge(
        space_id='node', num_chosen=2, choices={**inputs, 'fixed': nn.Identity()}
    )


def test_products_by_hand() -> None:
    node = node_of()
    mutator = mm.PCDartsMutator()
    mutator.prepare_from_supernet(node)
    probs = {
        'node': [0.5, 0.2, 0.25, 0.05],
        'op0': [0.90, 0.04, 0.06],  # 0.5 * 0.06: ``none`` counts for nothing.
        'op1': [0.10, 0.70, 0.20],  # 0.2 * 0.7
        'op2': [0.20, 0.40, 0.40],  # 0.25 * 0.4
    }
    with torch.no_grad():
        for space_id, values in probs.items():
            mutator.arch_params[space_id].copy_(torch.tensor(values).log())
    subnet = mutator.search_subnet()
    assert subnet['node']['chosen'] == ['e1', 'e2']
    assert subnet['node']['chosen_probs'] == [pytest.approx(0.14), pytest.approx(0.1)]
    assert subnet['op2']['chosen'] == ['skip']  # The first of equals.
    # An input with nothing to choose on it has its own weight alone.
    with torch.no_grad():
        mutator.arch_params['node'].copy_(torch.tensor([0.5, 0.1, 0.1, 0.3]).log())
    subnet = mutator.search_subnet()
    assert subnet['node']['chosen'] == ['fixed', 'e1']
    assert subnet['node']['chosen_probs'] == [pytest.approx(0.3), pytest.approx(0.07)]


def test_a_nan_is_no_weight() -> None:
    _, mutator = prepare(NB201)
    with torch.no_grad():
        mutator.arch_params['n3'][0] = float('nan')
    with pytest.raises(SearchSpaceError, match=r"'n3': .*nan.*diverged"):
        mutator.search_subnet()


# What the mapping becomes.


def types_of(mutator: Any) -> dict[str, tuple[str, int | None]]:
    mutables = {key: s['modules'][0] for key, s in mutator.search_spaces.items()}
    return {
        key: (type(m).__name__, getattr(m, 'channel_proportion', None))
        for key, m in mutables.items()
    }


@both
def test_the_callers_mapping_is_not_changed(architecture: Any) -> None:
    mapping = mm.build_architecture(architecture).default_placeholder_mapping
    before = copy.deepcopy(mapping)
    mutator = mm.PCDartsMutator(2, placeholder_mapping=mapping)
    mutator.prepare_from_supernet(mm.build_architecture(architecture))
    _, default = prepare(architecture)
    assert mapping == before
    assert mutator.placeholder_mapping is mapping
    assert types_of(mutator) == types_of(default)
    kinds = {'_p' in key: value for key, value in types_of(mutator).items()}
    assert kinds == {True: ('PartialChannelOP', 2), False: ('DifferentiableEdge', None)}
    spaces = mutator.search_spaces
    assert {s['modules'][0].with_arch_param for s in spaces.values()} == {True}
    assert {s['num_chosen'] for key, s in spaces.items() if '_p' not in key} == (
        {2} if architecture is DARTS else {1, 2, 3}
    )


@pytest.mark.parametrize(
    ('kind', 'expected'),
    [
        ('DifferentiableOP', ('PartialChannelOP', 2)),
        ('mmrazor_mutators.DifferentiableOP', ('PartialChannelOP', 2)),
        (mm.DifferentiableOP, ('PartialChannelOP', 2)),
        ('PartialChannelOP', ('PartialChannelOP', 2)),
        ('GumbelOP', ('GumbelOP', None)),
    ],
)
def test_types_in_the_mapping(kind: Any, expected: tuple[str, int | None]) -> None:
    mapping = mm.build_architecture(NB201).default_placeholder_mapping
    mapping['node']['type'] = kind
    _, mutator = prepare(NB201, placeholder_mapping=mapping)
    assert types_of(mutator)['n2_p1'] == expected


def test_a_proportion_in_the_mapping_counts_for_the_search_alone() -> None:
    mapping = mm.build_architecture(NB201).default_placeholder_mapping
    mapping['node'] |= {'type': 'PartialChannelOP', 'channel_proportion': 4}
    _, mutator = prepare(NB201, placeholder_mapping=mapping)
    assert types_of(mutator)['n2_p1'] == ('PartialChannelOP', 4)
    later = mutator.for_retraining()
    later.prepare_from_supernet(mm.build_architecture(NB201))
    assert types_of(later)['n2_p1'] == ('PartialChannelOP', 1)


def test_edges_of_the_callers_are_kept() -> None:
    mapping = mm.build_architecture(NB201).default_placeholder_mapping
    mapping['node_edge'] = {'type': 'GumbelEdge', 'with_arch_param': False}
    _, mutator = prepare(NB201, placeholder_mapping=mapping)
    assert types_of(mutator)['n3'] == ('GumbelEdge', None)
    mapping = mm.build_architecture(DARTS).default_placeholder_mapping
    del mapping['node_edge']  # Here nobody knows how many inputs stay.
    with pytest.raises(SearchSpaceError, match="'node_edge', which placeholder_mapping lacks"):
        prepare(DARTS, placeholder_mapping=mapping)


def test_mappings_that_do_not_fit() -> None:
    for value, message in [('conv', "'conv'"), ({'type': 'NoOP'}, "'NoOP' is not .*mutable")]:
        with pytest.raises(ConfigError, match=message):
            prepare(NB201, placeholder_mapping={'node': value})


def test_channels_that_do_not_fit() -> None:
    message = "'n1_p0': .*`in_channels` .*channel_proportion=3, but got 4"
    with pytest.raises(SearchSpaceError, match=message):
        prepare(NB201, 3)
    assert mm.PCDartsMutator().channel_proportion == 4


@pytest.mark.parametrize('proportion', [0, -4, 2.0, '4', None, True])
def test_illegal_proportions(proportion: Any) -> None:
    message = f'`channel_proportion` to be an int of at least 1, but got {proportion!r}'
    with pytest.raises(ConfigError, match=message):
        mm.PCDartsMutator(proportion)


# From the search to what is trained.


@both
@pytest.mark.parametrize('proportion', [1, 2])
def test_export_equals_deployed(architecture: Any, proportion: int) -> None:
    supernet, mutator = prepare(architecture, proportion)
    subnet = mutator.search_subnet()
    net = mutator.export_subnet(supernet, subnet)
    deployed, twin = copy.deepcopy((supernet, mutator))
    twin.deploy_subnet(deployed, subnet)
    x = torch.randn(3, 2, 7, 6, dtype=torch.float64)
    for mode in (True, False):
        assert_close(net.train(mode)(x), deployed.train(mode)(x), rtol=0, atol=0)
    kinds = {type(m) for m in net.modules()}
    assert (PartialChannels in kinds) == (proportion > 1)
    assert SelectedSum in kinds
    assert next(find_mutables(net), None) is None
    total = [p.double().sum() for p in net.parameters()]
    assert total == [p.double().sum() for p in deployed.parameters()]


def test_architecture_strings() -> None:
    _, mutator = prepare(NB201, ignore_choices=())
    for seed in range(5):
        torch.manual_seed(seed)
        toys.spread_logits(mutator)
        subnet = mutator.search_subnet()
        assert set(subnet) == set(mutator.search_spaces)
        six = arch_string_to_subnet(subnet_to_arch_string(subnet))
        assert six == {
            key: {'chosen': entry['chosen']} for key, entry in subnet.items() if '_p' in key
        }
        for space_id, entry in six.items():
            best = int(mutator.arch_params[space_id].argmax())
            assert entry['chosen'] == [NASBENCH201_OPERATIONS[best]]


@both
def test_retraining_has_all_channels_and_no_weights(architecture: Any, tmp_path: Any) -> None:
    _, mutator = prepare(architecture)
    subnet = mutator.search_subnet()
    mm.dump_subnet(subnet, tmp_path / 'subnet.yaml')
    cfg = {'type': 'PCDartsMutator', 'channel_proportion': 2}
    torch.manual_seed(5)
    model = mm.Darts(architecture, cfg, retraining=True, mutable_cfg=tmp_path / 'subnet.yaml')
    torch.manual_seed(5)
    spaces = mm.DartsMutator()
    supernet = mm.build_architecture(architecture)
    spaces.prepare_from_supernet(supernet)
    known = {key: entry for key, entry in subnet.items() if key in spaces.search_spaces}
    net = spaces.export_subnet(supernet, known)
    assert model.mutator is None
    assert not [m for m in model.modules() if isinstance(m, PartialChannels)]
    assert list(model.architecture.state_dict()) == list(net.state_dict())
    x = torch.randn(3, 2, 8, 8)
    assert_close(model(x), net(x))


def test_the_mutator_for_retraining() -> None:
    mapping = mm.build_architecture(DARTS).default_placeholder_mapping
    mutator = mm.PCDartsMutator(
        channel_proportion=2, ignore_choices=('none', 'skip'), placeholder_mapping=mapping
    )
    later = mutator.for_retraining()
    assert type(later) is mm.PCDartsMutator
    assert later is not mutator
    assert (later.channel_proportion, later.ignore_choices) == (1, ('none', 'skip'))
    assert later.placeholder_mapping is mapping
    assert len(later.extensions) == 0
    assert mutator.channel_proportion == 2


def test_dropped_choices_count_for_nothing() -> None:
    supernet, mutator = prepare(NB201)
    best = mutator.search_subnet()['n3_p1']['chosen']
    mutator.drop_choices('n3_p1', best)
    assert mutator.search_subnet()['n3_p1']['chosen'] != best
    kept = mutator.kept_indices('n3_p1')
    op = supernet.cells[0].nodes['n3'].choices['n3_p1']
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    alpha = mutator.arch_params['n3_p1'][list(kept)].softmax(-1)
    expected = partial_mixture([op.choice_modules[k] for k in kept], alpha, x, 2)
    assert_close(op(x), expected)


def test_a_search_goes_on_from_its_state() -> None:
    supernet, mutator = prepare(NB201)
    other, twin = prepare(NB201, seed=1)
    other.load_state_dict(supernet.state_dict())
    twin.load_state_dict(mutator.state_dict())
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    assert_close(other(x), supernet(x), rtol=0, atol=0)
    assert twin.search_subnet() == mutator.search_subnet()
