"""The names of MMRazor v0.2.0: each is in the table of the docs, and is what the table says."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators import host

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'mmrazor_v0_2_0.md'


class Names(NamedTuple):
    """What a class has there: arguments, public methods, attributes; is it registered."""

    arguments: str
    methods: str
    attributes: str
    registered: bool


KEPT = {
    'mmrazor.__version__': None,
    'mmrazor.core.hooks.DropPathProbHook': Names(
        'max_prob interval by_epoch', 'before_train_epoch', 'by_epoch interval max_prob', True
    ),
    'mmrazor.core.hooks.SearchSubnetHook': Names(
        'interval by_epoch out_dir max_keep_ckpts save_last',
        'before_run after_train_epoch after_train_iter',
        'args by_epoch interval max_keep_ckpts out_dir save_last',
        True,
    ),
    'mmrazor.models.algorithms.Darts': Names('unroll', 'train_step', 'unroll', True),
    'mmrazor.models.algorithms.SPOS': Names(
        'input_shape bn_training_mode',
        'get_subnet_flops train_step train',
        'bn_training_mode input_shape',
        True,
    ),
    'mmrazor.models.algorithms.base.BaseAlgorithm': Names(
        'architecture mutator pruner distiller retraining init_cfg mutable_cfg channel_cfg',
        'load_subnet with_mutator with_pruner with_distiller forward simple_test '
        'show_result train_step val_step',
        'architecture channel_cfg deployed distiller mutable_cfg mutator pruner retraining',
        True,
    ),
    'mmrazor.models.architectures.MMClsArchitecture': Names(
        '', 'forward_dummy cal_pseudo_loss', '', True
    ),
    'mmrazor.models.architectures.MMDetArchitecture': Names('', 'cal_pseudo_loss', '', True),
    'mmrazor.models.architectures.MMSegArchitecture': Names('', '', '', True),
    'mmrazor.models.architectures.base.BaseArchitecture': Names(
        'model', 'forward_dummy forward simple_test show_result', 'model', False
    ),
    'mmrazor.models.architectures.components.backbones.DartsBackbone': Names(
        'in_channels base_channels num_layers num_nodes stem_multiplier out_indices '
        'auxliary aux_channels aux_out_channels act_cfg norm_cfg',
        'forward',
        'act_cfg aux_channels aux_out_channels auxliary_indice auxliary_module '
        'base_channels cells in_channels norm_cfg num_layers num_nodes out_channels '
        'out_indices stem stem_multiplier',
        True,
    ),
    'mmrazor.models.architectures.components.backbones.SearchableMobileNet': Names(
        'first_channels last_channels widen_factor out_indices frozen_stages conv_cfg '
        'norm_cfg act_cfg norm_eval with_cp arch_setting_type init_cfg',
        'make_layer forward train',
        'act_cfg arch_settings arch_settings_dict conv1 conv_cfg frozen_stages '
        'in_channels layers norm_cfg norm_eval out_channel out_indices widen_factor '
        'with_cp',
        True,
    ),
    'mmrazor.models.architectures.components.backbones.SearchableShuffleNetV2': Names(
        'stem_multiplier widen_factor out_indices frozen_stages with_last_layer conv_cfg '
        'norm_cfg act_cfg norm_eval with_cp',
        'init_weights forward train',
        'act_cfg conv1 conv_cfg frozen_stages in_channels layers norm_cfg norm_eval '
        'out_indices stage_blocks widen_factor with_cp',
        True,
    ),
    'mmrazor.models.architectures.components.backbones.darts_backbone.AuxiliaryModule': Names(
        'in_channels base_channels out_channels norm_cfg', 'forward', 'net norm_cfg', False
    ),
    'mmrazor.models.architectures.components.backbones.darts_backbone.Cell': Names(
        'num_nodes channels prev_channels prev_prev_channels reduction prev_reduction '
        'act_cfg norm_cfg',
        'forward',
        'act_cfg nodes norm_cfg num_nodes preproc0 preproc1 reduction',
        False,
    ),
    'mmrazor.models.architectures.components.backbones.darts_backbone.FactorizedReduce': Names(
        'in_channels out_channels act_cfg norm_cfg',
        'forward',
        'act_cfg bn conv1 conv2 in_channels norm_cfg out_channels relu',
        False,
    ),
    'mmrazor.models.architectures.components.backbones.darts_backbone.Node': Names(
        'node_id num_prev_nodes channels num_downsample_nodes', 'forward', 'edges', False
    ),
    'mmrazor.models.architectures.components.backbones.darts_backbone.StandardConv': Names(
        'in_channels out_channels kernel_size stride padding act_cfg norm_cfg',
        'forward',
        'act_cfg in_channels kernel_size net norm_cfg out_channels padding stride',
        False,
    ),
    'mmrazor.models.architectures.components.heads.DartsSubnetClsHead': Names(
        'aux_in_channels aux_loss', 'forward_train', 'aux_linear compute_aux_loss', True
    ),
    'mmrazor.models.architectures.utils.Placeholder': Names(
        'group space_id choices choice_args', '', 'placeholder_group placeholder_kwargs', False
    ),
    'mmrazor.models.builder.ALGORITHMS': None,
    'mmrazor.models.builder.ARCHITECTURES': None,
    'mmrazor.models.builder.MODELS': None,
    'mmrazor.models.builder.MUTABLES': None,
    'mmrazor.models.builder.MUTATORS': None,
    'mmrazor.models.builder.OPS': None,
    'mmrazor.models.builder.build_algorithm': None,
    'mmrazor.models.builder.build_architecture': None,
    'mmrazor.models.builder.build_mutable': None,
    'mmrazor.models.builder.build_mutator': None,
    'mmrazor.models.builder.build_op': None,
    'mmrazor.models.mutables.DifferentiableEdge': Names(
        'with_arch_param',
        'build_arch_param compute_arch_probs forward',
        'with_arch_param',
        True,
    ),
    'mmrazor.models.mutables.DifferentiableOP': Names(
        'with_arch_param',
        'build_arch_param compute_arch_probs forward',
        'with_arch_param',
        True,
    ),
    'mmrazor.models.mutables.GumbelEdge': Names(
        '', 'set_temperature compute_arch_probs', 'temperature', True
    ),
    'mmrazor.models.mutables.GumbelOP': Names(
        'tau hard', 'set_temperature compute_arch_probs', 'hard tau temperature', True
    ),
    'mmrazor.models.mutables.MutableEdge': Names(
        'choices', 'build_choices', 'choice_mask choices full_choice_names', False
    ),
    'mmrazor.models.mutables.MutableModule': Names(
        'space_id num_chosen init_cfg',
        'forward build_choices build_choice_mask set_choice_mask num_choices choice_names '
        'choice_modules build_space_mask export',
        'choice_mask num_chosen space_id',
        False,
    ),
    'mmrazor.models.mutables.MutableOP': Names(
        'choices choice_args', 'build_choices', 'choice_mask choices full_choice_names', False
    ),
    'mmrazor.models.mutables.OneShotOP': Names('', 'forward', '', True),
    'mmrazor.models.mutators.DartsMutator': Names(
        'ignore_choices', 'search_subnet', 'ignore_choices', True
    ),
    'mmrazor.models.mutators.DifferentiableMutator': Names(
        '',
        'prepare_from_supernet build_arch_params modify_supernet_forward search_subnet',
        'arch_params',
        True,
    ),
    'mmrazor.models.mutators.OneShotMutator': Names(
        '',
        'get_random_mask sample_subnet set_subnet reset_in_subnet set_chosen_subnet '
        'mutation crossover',
        '',
        True,
    ),
    'mmrazor.models.mutators.base.BaseMutator': Names(
        'placeholder_mapping init_cfg',
        'prepare_from_supernet build_search_spaces convert_placeholder deploy_subnet',
        'placeholder_mapping search_spaces',
        True,
    ),
    'mmrazor.models.ops.DartsDilConv': Names(
        'kernel_size use_drop_path norm_cfg',
        'forward',
        'conv1 dilation drop_path kernel_size norm_cfg',
        True,
    ),
    'mmrazor.models.ops.DartsPoolBN': Names(
        'pool_type kernel_size norm_cfg use_drop_path',
        'forward',
        'bn drop_path kernel_size norm_cfg pool',
        True,
    ),
    'mmrazor.models.ops.DartsSepConv': Names(
        'kernel_size use_drop_path norm_cfg',
        'forward',
        'conv1 conv2 drop_path kernel_size norm_cfg',
        True,
    ),
    'mmrazor.models.ops.DartsSkipConnect': Names(
        'use_drop_path norm_cfg', 'forward', 'bn conv1 conv2 drop_path norm_cfg relu', True
    ),
    'mmrazor.models.ops.DartsZero': Names('', 'forward', '', True),
    'mmrazor.models.ops.Identity': Names(
        'conv_cfg norm_cfg act_cfg', 'forward', 'act_cfg conv_cfg downsample norm_cfg', True
    ),
    'mmrazor.models.ops.MBBlock': Names(
        'kernel_size expand_ratio se_cfg conv_cfg norm_cfg act_cfg drop_path_rate with_cp',
        'forward',
        'act_cfg conv_cfg depthwise_conv drop_path expand_conv kernel_size linear_conv '
        'mid_channels norm_cfg se with_cp with_expand_conv with_res_shortcut with_se',
        True,
    ),
    'mmrazor.models.ops.ShuffleBlock': Names(
        'kernel_size conv_cfg norm_cfg act_cfg with_cp',
        'forward',
        'act_cfg branch1 branch2 conv_cfg kernel_size norm_cfg with_cp',
        True,
    ),
    'mmrazor.models.ops.ShuffleXception': Names(
        'conv_cfg norm_cfg act_cfg with_cp',
        'forward',
        'act_cfg branch1 branch2 conv_cfg mid_channels norm_cfg with_cp',
        True,
    ),
    'mmrazor.models.ops.base.BaseOP': Names(
        'in_channels out_channels stride', '', 'in_channels out_channels stride', False
    ),
}

LEFT_OUT = [
    'mmrazor.apis.mmcls.set_random_seed',
    'mmrazor.apis.mmcls.train_model',
    'mmrazor.apis.mmdet.set_random_seed',
    'mmrazor.apis.mmdet.train_detector',
    'mmrazor.apis.mmseg.set_random_seed',
    'mmrazor.apis.mmseg.train_segmentor',
    'mmrazor.core.DistributedDataParallelWrapper',
    'mmrazor.core.build_searcher',
    'mmrazor.core.builder.SEARCHERS',
    'mmrazor.core.hooks.DistSamplerSeedHook',
    'mmrazor.core.optimizer.build_optimizers',
    'mmrazor.core.runners.MultiLoaderEpochBasedRunner',
    'mmrazor.core.runners.MultiLoaderIterBasedRunner',
    'mmrazor.core.runners.epoch_based_runner.EpochMultiLoader',
    'mmrazor.core.runners.iter_based_runner.IterMultiLoader',
    'mmrazor.core.searcher.EvolutionSearcher',
    'mmrazor.core.searcher.GreedySearcher',
    'mmrazor.core.utils.broadcast_object_list',
    'mmrazor.core.utils.set_lr',
    'mmrazor.datasets.split_dataset',
    'mmrazor.digit_version',
    'mmrazor.mmcv_maximum_version',
    'mmrazor.mmcv_minimum_version',
    'mmrazor.mmcv_version',
    'mmrazor.models.algorithms.AlignMethodDistill',
    'mmrazor.models.algorithms.AutoSlim',
    'mmrazor.models.algorithms.DetNAS',
    'mmrazor.models.algorithms.GeneralDistill',
    'mmrazor.models.architectures.components.heads.no_bias_fc_head.LinearNoBiasClsHead',
    'mmrazor.models.builder.DISTILLERS',
    'mmrazor.models.builder.LOSSES',
    'mmrazor.models.builder.PRUNERS',
    'mmrazor.models.builder.QUANTIZERS',
    'mmrazor.models.builder.build_distiller',
    'mmrazor.models.builder.build_loss',
    'mmrazor.models.builder.build_pruner',
    'mmrazor.models.distillers.SelfDistiller',
    'mmrazor.models.distillers.SingleTeacherDistiller',
    'mmrazor.models.losses.ChannelWiseDivergence',
    'mmrazor.models.losses.KLDivergence',
    'mmrazor.models.losses.WSLD',
    'mmrazor.models.pruners.RatioPruner',
    'mmrazor.models.pruners.StructurePruner',
    'mmrazor.models.pruners.utils.SwitchableBatchNorm2d',
    'mmrazor.models.utils.add_prefix',
    'mmrazor.utils.setup_multi_processes',
    'mmrazor.version.parse_version_info',
    'mmrazor.version.version_info',
]

# Where the path of v0.2.0 with another prefix is not ours.
ELSEWHERE = {
    'mmrazor.models.architectures.base.BaseArchitecture': 'architectures.BaseArchitecture',
    **{
        f'mmrazor.models.architectures.components.backbones.darts_backbone.{name}': ours
        for name, ours in {
            'AuxiliaryModule': 'architectures.AuxiliaryModule',
            'Cell': 'architectures.DartsCell',
            'FactorizedReduce': 'ops.FactorizedReduce',
            'Node': 'architectures.DartsNode',
            'StandardConv': 'ops.StandardConv',
        }.items()
    },
}


def place_of(name: str) -> str:
    """Return our path for a path of v0.2.0."""
    if name in ELSEWHERE:
        return f'mmrazor_mutators.{ELSEWHERE[name]}'
    for there, here in (('.models.', '.'), ('.core.', '.engine.')):
        name = name.replace(f'mmrazor{there}', f'mmrazor_mutators{here}')
    return re.sub(r'^mmrazor\.', 'mmrazor_mutators.', name)


def part_at(path: str) -> Any:
    module, _, name = path.rpartition('.')
    return getattr(importlib.import_module(module), name)


class Row(NamedTuple):
    """A line of the table."""

    place: str
    said: str


def rows() -> dict[str, Row]:
    found: dict[str, Row] = {}
    for line in PAGE.read_text(encoding='utf-8').splitlines():
        match = re.fullmatch(r'\| `(mmrazor\.[\w.]+)` \| (.*?) \| (.*) \|', line)
        if match:
            name, place, said = match.groups()
            assert name not in found, f'{name} has two rows'
            found[name] = Row(place, said)
    return found


TABLE = rows()
NOT_KEPT = {'act_cfg', 'conv_cfg', 'norm_cfg'}
CLASSES = [name for name, names in KEPT.items() if names is not None]


def choices() -> dict[str, nn.Module]:
    return {'a': nn.Identity(), 'b': nn.ReLU()}


def op_of(kind: type, **arguments: Any) -> Any:
    return kind(in_channels=4, out_channels=4, **arguments)


def mutator_of(kind: Any) -> Any:
    mutator = kind()
    differentiable = issubclass(kind, mm.DifferentiableMutator)
    mutable = mm.DifferentiableOP if differentiable else mm.OneShotOP
    mutator.prepare_from_supernet(mutable(space_id='a', choices=choices()))
    return mutator


def edge_of(kind: Any, **arguments: Any) -> Any:
    return kind(space_id='a', choices=nn.ModuleDict(choices()), **arguments)


def spos(kind: Any) -> Any:
    return kind(architecture=nn.ReLU())


def edge_with_forward() -> Any:
    class Edge(mm.MutableEdge):
        def forward(self, x: Any) -> Any:
            return x

    return edge_of(Edge)


LOSS = {'type': 'CrossEntropyLoss'}
INSTANCES: dict[str, Callable[[Any], Any]] = {
    'AuxiliaryModule': lambda kind: kind(4, 2, 3),
    'BaseAlgorithm': spos,
    'BaseArchitecture': lambda kind: kind(model=nn.ReLU()),
    'Cell': lambda kind: kind(2, 4, 4, 4, False, False),
    'Darts': lambda kind: kind(architecture=nn.ReLU(), unroll=False),
    'DartsBackbone': lambda kind: kind(
        3, 4, 3, 2, auxliary=True, aux_channels=2, aux_out_channels=3
    ),
    'DartsDilConv': lambda kind: op_of(kind, kernel_size=3),
    'DartsPoolBN': lambda kind: op_of(kind, pool_type='max'),
    'DartsSepConv': lambda kind: op_of(kind, kernel_size=3),
    'DartsSkipConnect': lambda kind: op_of(kind, stride=2),
    'DartsSubnetClsHead': lambda kind: kind(
        aux_in_channels=3, aux_loss=LOSS, num_classes=2, in_channels=4
    ),
    'DifferentiableEdge': lambda kind: edge_of(kind, with_arch_param=True),
    'DifferentiableMutator': lambda kind: mutator_of(mm.DartsMutator),
    'DropPathProbHook': lambda kind: kind(max_prob=0.2),
    'FactorizedReduce': lambda kind: kind(4, 4),
    'GumbelEdge': edge_of,
    'MBBlock': lambda kind: op_of(kind, kernel_size=3, expand_ratio=2, se_cfg={'ratio': 2}),
    'MutableModule': lambda kind: edge_with_forward(),
    'MutableEdge': lambda kind: edge_with_forward(),
    'MutableOP': lambda kind: mm.OneShotOP(space_id='a', choices=choices()),
    'Node': lambda kind: kind('n', 2, 4, 0),
    'Placeholder': lambda kind: kind(group='a', space_id='b'),
    'SPOS': spos,
    'SearchSubnetHook': lambda kind: kind(),
    'SearchableMobileNet': lambda kind: kind(widen_factor=0.1),
    'SearchableShuffleNetV2': lambda kind: kind(widen_factor=0.1),
    'ShuffleBlock': lambda kind: op_of(kind, kernel_size=3, stride=2),
    'ShuffleXception': lambda kind: op_of(kind, stride=2),
    'StandardConv': lambda kind: kind(4, 4),
}


def instance_of(name: str) -> Any:
    kind, short = part_at(place_of(name)), name.rpartition('.')[2]
    if short in INSTANCES:
        return INSTANCES[short](kind)
    if short.endswith('Mutator'):
        return mutator_of(kind)
    if '.mutables.' in name:
        return kind(space_id='a', choices=choices())
    if short.endswith('Architecture'):
        return kind(model=nn.ReLU())
    return op_of(kind)


def needs_mmengine(name: str) -> None:
    if place_of(name).startswith('mmrazor_mutators.engine') and host.NAME != 'mmengine':
        pytest.skip('hooks need mmengine')


def accepted(kind: type) -> set[str]:
    """Return the names of arguments that reach a constructor."""
    names: set[str] = set()
    for base in kind.__mro__:
        if '__init__' not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        names |= {p.name for p in parameters}
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return names


def test_the_table_has_these_names_and_no_others() -> None:
    assert TABLE.keys() == {*KEPT, *LEFT_OUT}


@pytest.mark.parametrize('name', KEPT)
def test_what_is_there_says_where(name: str) -> None:
    needs_mmengine(name)
    row = TABLE[name]
    assert re.match(r'same($|[,;:] )', row.said), row.said
    assert row.place == f'`{place_of(name)}`'
    part_at(place_of(name))


@pytest.mark.parametrize('name', LEFT_OUT)
def test_what_is_left_out_says_why(name: str) -> None:
    row = TABLE[name]
    assert row.place == '-'
    assert row.said.startswith('left out: ')
    module, _, short = place_of(name).rpartition('.')
    try:
        there = hasattr(importlib.import_module(module), short)
    except ImportError:
        there = False
    assert not there


def without(name: str) -> set[str]:
    """Return what the table says that a class does not have."""
    match = re.search(r'without ((?:`\w+`(?:, | and )?)+)', TABLE[name].said)
    return {*re.findall(r'`(\w+)`', match[1])} if match else set()


@pytest.mark.parametrize('name', CLASSES)
def test_all_but_what_the_table_says_is_there(name: str) -> None:
    needs_mmengine(name)
    torch.manual_seed(0)
    made, names = instance_of(name), KEPT[name]
    parts = {*f'{names.methods} {names.attributes}'.split()} - NOT_KEPT
    missing = {part for part in parts if not hasattr(made, part)}
    missing |= {*names.arguments.split()} - accepted(part_at(place_of(name)))
    assert missing == without(name)


@pytest.mark.parametrize('name', [name for name in CLASSES if KEPT[name].registered])
def test_configs_find_them_by_their_names(name: str) -> None:
    needs_mmengine(name)
    kind, short = part_at(place_of(name)), name.rpartition('.')[2]
    if '.hooks.' in name:
        from mmrazor_mutators.registry import HOOKS

        assert HOOKS.get(short) is kind
    elif short != 'BaseAlgorithm':
        assert mm.MODELS.get(short) is kind
