"""Configs with parts inside of parts, as a caller or a host brings them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators import host

SEP_CONV = {'type': 'DartsSepConv', 'in_channels': 3, 'out_channels': 4, 'kernel_size': 5}


def test_configs_with_nested_parts_are_never_changed() -> None:
    ready = nn.Linear(4, 4)
    cfg = {
        'type': 'DifferentiableOP',
        'space_id': 'a',
        'choices': {
            'none': {'type': 'DartsZero'},
            'conv': {'type': 'DartsSepConv', 'kernel_size': 3, 'norm_cfg': {'type': 'BN'}},
            'ready': ready,
        },
        'choice_args': {'in_channels': 3, 'out_channels': 4, 'stride': 2},
    }
    snapshot = {**cfg, 'choices': copy.deepcopy({**cfg['choices'], 'ready': None})}
    first, other = mm.build_mutable(cfg), mm.build_mutable(cfg)
    assert first.choices['ready'] is other.choices['ready'] is ready
    assert first.choices['conv'] is not other.choices['conv']
    assert first.choices['conv'](torch.randn(2, 3, 6, 6)).shape == (2, 4, 3, 3)
    assert {**cfg, 'choices': {**cfg['choices'], 'ready': None}} == snapshot


def test_configs_of_the_host_are_accepted(tmp_path: Any) -> None:
    cfg = host.ConfigDict(SEP_CONV)
    assert mm.build_op(cfg).out_channels == 4
    assert cfg == SEP_CONV
    file = tmp_path / 'config.py'
    file.write_text(
        "op = dict(type='mmrazor_mutators.DartsSepConv', in_channels=3, out_channels=4,\n"
        '          kernel_size=3)\n'
        "mutable = dict(type='DifferentiableOP', space_id='a', choices=dict(a=op, b=op))\n"
    )
    loaded = host.Config.fromfile(file)
    mutable = mm.build_mutable(loaded.mutable)
    assert [choice.out_channels for choice in mutable.choice_modules] == [4, 4]
    assert loaded.mutable.choices.a == loaded.op
