"""The models of MMRazor 1.0's configs, in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, did_you_mean
from ..registry import MODELS, OPS, SCOPE
from .v1_data import translate_runtime
from .v1_schedule import bare, without_scopes

__all__ = ['translate_1_0']

_ALGORITHMS = ('DSNAS', 'Darts', 'sub_model')
_MIXED = ('DiffMutableOP', 'OneHotMutableOP')
_WIDTHS = [[64, 4], [160, 4], [320, 8], [640, 4]]
"""Channels and number of blocks of the stages of our SearchableShuffleNetV2."""


def translate_1_0(cfg: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a config of MMRazor 1.0 as one of ours, and what to know about it.

    Args:
        cfg: For DARTS or DSNAS, a search or ``sub_model``; never changed.

    Raises:
        ConfigError: Another algorithm, or a part without a counterpart.
    """
    model = cfg.get('model')
    kind = bare(model.get('type')) if isinstance(model, Mapping) else None
    if not isinstance(model, Mapping) or kind not in _ALGORITHMS:
        came = f'a model of the type {kind!r}' if kind else f'the model {model!r}'
        raise ConfigError(
            f'Only DARTS and DSNAS of MMRazor 1.0 can be migrated, and configs of v0.2.0, but '
            f'this one has {came}; {did_you_mean(str(kind), _ALGORITHMS)}'
        )
    model, notes = dict(model), list[str]()
    searching = kind != 'sub_model'
    if searching and bare((model.get('mutator') or {}).get('type')) != 'NasMutator':
        raise ConfigError(
            'Expected the mutator of a config of MMRazor 1.0 to be a NasMutator, but got '
            f'{model.get("mutator")!r}'
        )
    task = model.pop('architecture' if searching else 'cfg', None)
    if not isinstance(task, Mapping) or not isinstance(task.get('backbone'), Mapping):
        raise ConfigError(
            f'Expected the architecture of {kind} to be a classifier with a backbone, but got '
            f'{task!r}'
        )
    task = without_scopes(task)
    backbone, mapping, mutable_cfg = _split_backbone(task['backbone'], notes)
    mutator: dict[str, Any] = {'type': 'DartsMutator', 'placeholder_mapping': mapping}
    if kind == 'DSNAS' or bare(mutable_cfg['type']) == 'OneHotMutableOP':
        threshold = mutable_cfg.get('fix_threshold', 1.0)
        mutator = {**mutator, 'type': 'DSNASMutator', 'fix_threshold': threshold}
    preprocessors = [part.pop('data_preprocessor', None) for part in (model, task)]
    classifier = {**task, 'type': 'mmcls.ImageClassifier', 'backbone': backbone}
    if bare(task.get('type')) != 'ImageClassifier':
        raise ConfigError(
            f'Expected the architecture to be an ImageClassifier, but got {task.get("type")!r}'
        )
    ours: dict[str, Any] = {
        'type': f'{SCOPE}.Darts',
        'architecture': {'type': 'MMClsArchitecture', 'model': classifier},
        'mutator': mutator,
    }
    _take_options(kind, model, ours, notes)
    if not searching:
        ours['retraining'] = True
    search_epochs = model.get('finetune_epochs', 80) if kind == 'DSNAS' else None
    runtime = translate_runtime(cfg, preprocessors, searching, search_epochs, notes)
    if searching and 'zero' in mutable_cfg['candidates']:
        notes.append('assumed: "zero" is never kept (ignore_choices); MMRazor 1.0 may keep it')
    return {'default_scope': SCOPE, 'model': ours, **runtime}, notes


def _take_options(
    kind: str, model: Mapping[str, Any], ours: dict[str, Any], notes: list[str]
) -> None:
    """Take over the arguments of an algorithm."""
    known = {'type', 'mutator', '_scope_'}
    groups = (model.get('mutator') or {}).get('custom_groups')
    if groups:
        notes.append(
            f'not taken over: custom_groups={groups!r}; spaces are those of the backbone'
        )
    if kind == 'Darts':
        ours['unroll'] = bool(model.get('unroll', False))
        known |= {'unroll'}
    elif kind == 'DSNAS':
        ours['single_level'] = True
        ours['arch_start_epoch'] = model.get('pretrain_epochs', 0)
        known |= {'pretrain_epochs', 'finetune_epochs', 'flops_constraints'}
        notes += [
            'not taken over: the loss of FLOPs above '
            f'flops_constraints={model.get("flops_constraints", 300.0)!r}; see ExpectedCost',
            'assumed: the search ends where finetuning began, and the network found is then '
            'trained from scratch with `retrain`; MMRazor 1.0 goes on with its weights',
        ]
    else:
        # The config of the search may be the base, whose model is merged into this one.
        known |= {'architecture', 'fix_subnet', 'finetune_epochs', 'pretrain_epochs', 'unroll'}
        file = model.get('fix_subnet')
        what = f'the file {file!r}' if isinstance(file, str) else 'a file of `fix_subnet`'
        notes.append(
            f'assumed: {what} is given to `retrain` as --subnet, as `migrate` rewrites it'
        )
    notes += [f'not taken over: model.{k}' for k, v in model.items() if k not in known and v]


def _split_backbone(
    backbone: Mapping[str, Any], notes: list[str]
) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, Any]]:
    """Return a backbone, what fills its placeholders, and the config of its mutables."""
    ours, kind = dict(backbone), bare(backbone.get('type'))
    if kind == 'DartsBackbone':
        mutable_cfg, route = ours.pop('mutable_cfg', None), ours.pop('route_cfg', None)
        mapping = {'node': _mixed_op(mutable_cfg, kind), 'node_edge': _edge(route, notes)}
    elif kind == 'SearchableShuffleNetV2':
        setting = ours.pop('arch_setting', None) or []
        stages = [list(stage[:2]) for stage in setting]
        mutable_cfg = setting[0][-1] if setting else None
        if stages != _WIDTHS or any(stage[-1] != mutable_cfg for stage in setting):
            raise ConfigError(
                'Expected `arch_setting` of SearchableShuffleNetV2 to have the channels and '
                f'blocks {_WIDTHS} with the same choices in all stages, but got {stages}'
            )
        mapping = {'all_blocks': _mixed_op(mutable_cfg, kind)}
    else:
        raise ConfigError(
            f'The backbone {backbone.get("type")!r} cannot be migrated; '
            f'{did_you_mean(str(kind), ("DartsBackbone", "SearchableShuffleNetV2"))}'
        )
    if (backbone.get('norm_cfg') or {}).get('affine') is False:
        notes.append('assumed: the norm of the stem has a scale and a shift, as in DARTS')
    return ours, mapping, mutable_cfg


def _mixed_op(cfg: Any, backbone: str) -> dict[str, Any]:
    kind = bare(cfg.get('type')) if isinstance(cfg, Mapping) else None
    candidates = cfg.get('candidates') if isinstance(cfg, Mapping) else None
    if kind not in _MIXED or not isinstance(candidates, Mapping):
        raise ConfigError(
            f'Expected the mutables of {backbone} to be one of {", ".join(_MIXED)} with '
            f'`candidates`, but got {cfg!r}'
        )
    for name, op in candidates.items():
        if not isinstance(op, Mapping) or op.get('type') not in OPS.module_dict:
            came = op.get('type') if isinstance(op, Mapping) else op
            MODELS.import_from_location()
            raise ConfigError(
                f'The candidate {name!r} is a {came!r}, which has no counterpart; '
                f'{did_you_mean(str(came), sorted(OPS.module_dict))}'
            )
    choices = {name: dict(op) for name, op in candidates.items()}
    return {'type': 'DifferentiableOP', 'with_arch_param': True, 'choices': choices}


def _edge(cfg: Any, notes: list[str]) -> dict[str, Any]:
    kinds = {'DiffChoiceRoute': 'DifferentiableEdge', 'GumbelChoiceRoute': 'GumbelEdge'}
    kind = bare(cfg.get('type')) if isinstance(cfg, Mapping) else None
    if kind not in kinds:
        raise ConfigError(
            f'Expected `route_cfg` to be one of {", ".join(kinds)}, but got {cfg!r}'
        )
    weighted = bool(cfg.get('with_arch_param', False))
    if weighted:
        notes.append(
            'assumed: edges have weights of their own (with_arch_param=True), as there; DARTS '
            'ranks them by their operations'
        )
    options = {key: cfg[key] for key in ('tau', 'hard') if key in cfg}
    num_chosen = cfg.get('num_chosen', 2)
    return {
        'type': kinds[kind],
        'num_chosen': num_chosen,
        'with_arch_param': weighted,
        **options,
    }
