from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

import mmrazor_mutators as mm
from mmrazor_mutators.architectures import AuxiliaryModule
from mmrazor_mutators.errors import BindingError, ConfigError, InputError

MAPPING = mm.DartsSupernet(1, 2).default_placeholder_mapping


def prepared(**arguments: Any) -> mm.DartsBackbone:
    defaults = {'in_channels': 2, 'base_channels': 2, 'num_layers': 3, 'num_nodes': 2}
    backbone = mm.build_architecture({'type': 'DartsBackbone', **defaults, **arguments})
    mm.DartsMutator(placeholder_mapping=MAPPING).prepare_from_supernet(backbone)
    return backbone


def test_spaces_have_the_names_of_v0_2_0() -> None:
    backbone = mm.DartsBackbone(3, 2)
    mutator = mm.DartsMutator(placeholder_mapping=MAPPING)
    mutator.prepare_from_supernet(backbone)
    nodes = [f'{kind}_n{i}' for kind in ('normal', 'reduce') for i in range(2, 6)]
    edges = [f'{node}_p{j}' for node in nodes for j in range(int(node[-1]))]
    assert set(mutator.search_spaces) == {*nodes, *edges}
    assert len(mutator.search_spaces['normal_n5']['modules']) == 6
    assert len(mutator.search_spaces['reduce_n5']['modules']) == 2


@pytest.mark.parametrize(
    'key',
    [
        'stem.1.weight',
        'cells.1.preproc0.net.1.weight',
        'cells.2.preproc0.conv2.weight',
        'cells.2.preproc0.bn.running_var',
        'cells.0.nodes.1.edges.choices.normal_n3_p2.0.choices.sep_conv_5x5.conv2.1.weight',
        'cells.0.nodes.0.edges.choices.normal_n2_p0.0.choices.dil_conv_3x3.conv1.2.weight',
        'cells.1.nodes.0.edges.choices.reduce_n2_p1.0.choices.skip_connect.conv1.weight',
        'cells.1.nodes.0.edges.choices.reduce_n2_p0.0.choices.max_pool_3x3.bn.running_mean',
        'auxliary_module.net.5.weight',
    ],
)
def test_checkpoints_of_v0_2_0_fit(key: str) -> None:
    assert key in prepared(auxliary=True, aux_channels=2, aux_out_channels=2).state_dict()


@pytest.mark.parametrize(
    ('num_layers', 'reductions'),
    [(1, [0]), (2, [0, 1]), (3, [1, 2]), (8, [2, 5]), (20, [6, 13])],
)
def test_cells_at_one_and_two_thirds_reduce(num_layers: int, reductions: list[int]) -> None:
    cells = mm.DartsBackbone(3, 2, num_layers).cells
    assert [i for i, cell in enumerate(cells) if cell.reduction] == reductions


@pytest.mark.parametrize('size', [(8, 8), (7, 9), (5, 6)])
def test_outputs(size: tuple[int, int]) -> None:
    backbone = prepared(out_indices=(0, 2), auxliary=True, aux_channels=3, aux_out_channels=5)
    half, quarter = ([-(-side // step) for side in size] for step in (2, 4))
    images = torch.randn(2, 2, *size)
    shapes = [tuple(out.shape) for out in backbone(images)]
    assert shapes == [(2, 5, 1, 1), (2, 4, *size), (2, 16, *quarter)]
    assert [tuple(out.shape) for out in backbone.eval()(images)] == shapes[1:]
    assert tuple(prepared(num_layers=1)(images)[0].shape) == (2, 8, *half)
    assert backbone.out_channels == 16


def test_stem_and_auxiliary_keep_affine_norms() -> None:
    backbone = prepared(
        norm_cfg={'type': 'BN', 'affine': False},
        auxliary=True,
        aux_channels=3,
        aux_out_channels=5,
    )
    assert backbone.stem[1].affine
    assert backbone.auxliary_module.net[6].affine
    assert not backbone.cells[0].preproc0.net[2].affine


@pytest.mark.parametrize(('size', 'stride'), [(8, 3), (7, 2)])
def test_auxiliary_pools_as_the_authors_do(size: int, stride: int) -> None:
    pool = AuxiliaryModule(3, 2, 2).net[1]
    x = torch.randn(2, 3, size, size)
    for i in range(2):
        for j in range(2):
            top, left = i * stride, j * stride
            window = x[:, :, top : top + 5, left : left + 5]
            assert_close(pool(x)[:, :, i, j], window.mean((2, 3)))


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (2, 2), (3, 2), (16, 8)])
def test_auxiliary_reads_every_pixel_of_other_sizes(height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width, requires_grad=True)
    pooled = AuxiliaryModule(3, 2, 2).net[1](x)
    assert pooled.shape == (2, 3, 2, 2)
    pooled.sum().backward()
    assert (x.grad > 0).all()


def test_auxiliary_needs_two_images_for_its_batch_norm() -> None:
    module, x = AuxiliaryModule(3, 2, 2), torch.randn(1, 3, 4, 4)
    with pytest.raises(InputError, match=r'Expected at least 2 images .* but got 1'):
        module(x)
    assert module.eval()(x).shape == (1, 2, 1, 1)
    other = AuxiliaryModule(3, 2, 2, norm_cfg={'type': 'GN', 'num_groups': 1})
    assert other(x).shape == (1, 2, 1, 1)


def test_placeholders_refuse_to_run() -> None:
    backbone = mm.DartsBackbone(3, 2, num_layers=1)
    with pytest.raises(BindingError, match="'reduce_n2'"):
        backbone(torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'in_channels': 0}, '`in_channels` to be an int of at least 1, but got 0'),
        ({'base_channels': 1.5}, '`base_channels` .* but got 1.5'),
        ({'num_layers': 0}, '`num_layers` .* but got 0'),
        ({'num_nodes': -1}, '`num_nodes` .* but got -1'),
        ({'stem_multiplier': '3'}, "`stem_multiplier` .* but got '3'"),
        ({'auxliary': True}, '`aux_channels` .* but got None'),
        ({'auxliary': True, 'aux_channels': 8}, '`aux_out_channels` .* but got None'),
        ({'out_indices': (0,)}, r'end with 2, the last of 3, but got \(0,\)'),
        ({'out_indices': (2, 1)}, r'ascending .* but got \(2, 1\)'),
        ({'out_indices': (2, 3)}, r'ascending .* but got \(2, 3\)'),
        ({'out_indices': ()}, r'ascending .* but got \(\)'),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepared(**arguments)
