"""Taking modules apart: what makes two of them alike, and what is noticed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import mmrazor_mutators as mm
from mmrazor_mutators.search.anatomy import Anatomy


def separable(kernel_size: int = 3, **kwargs: Any) -> nn.Module:
    cfg = {'type': 'DartsSepConv', 'in_channels': 4, 'out_channels': 4}
    return mm.build_op({**cfg, 'kernel_size': kernel_size, **kwargs})


def test_modules_of_one_kind_have_one_form_whatever_their_values() -> None:
    first, second = separable(), separable()
    assert Anatomy(first).form() == Anatomy(second).form()
    assert hash(Anatomy(first).form()) == hash(Anatomy(second).form())


@pytest.mark.parametrize(
    'other',
    [
        lambda: separable(kernel_size=5),
        lambda: separable(stride=2),
        lambda: separable(in_channels=6),
        lambda: separable(use_drop_path=True),
        lambda: separable(norm_cfg=None),
        lambda: separable().double(),
        lambda: separable().eval(),
        lambda: separable().requires_grad_(False),
        lambda: mm.build_op(
            {'type': 'DartsDilConv', 'in_channels': 4, 'out_channels': 4, 'kernel_size': 3}
        ),
    ],
)
def test_modules_of_another_kind_have_another_form(other: Any) -> None:
    assert Anatomy(separable()).form() != Anatomy(other()).form()


def test_an_attribute_that_a_schedule_sets_is_noticed() -> None:
    module = separable(use_drop_path=True)
    anatomy = Anatomy(module)
    before = anatomy.form()
    module.drop_path.drop_prob = 0.2
    assert anatomy.form() != before
    module.drop_path.drop_prob = 0.0
    assert anatomy.form() == before


def test_an_attribute_that_is_no_plain_data_makes_a_module_one_of_its_kind() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    first.scale, second.scale = torch.ones(2), torch.ones(2)  # type: ignore[assignment]
    assert Anatomy(first).form() != Anatomy(second).form()
    second.scale = first.scale
    assert Anatomy(first).form() == Anatomy(second).form()


def test_tensors_are_those_of_just_now_in_the_order_of_the_names() -> None:
    module = nn.BatchNorm1d(3)
    anatomy = Anatomy(module)
    module.weight = nn.Parameter(torch.full((3,), 7.0))
    module.running_mean = torch.full((3,), 5.0)
    found = dict(zip(anatomy.names, anatomy.tensors(), strict=True))
    assert found['weight'] is module.weight
    assert found['running_mean'] is module.running_mean
    assert set(found) == {*dict(module.named_parameters()), *dict(module.named_buffers())}


def test_parts_that_come_or_go_are_noticed() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    anatomy = Anatomy(module)
    assert anatomy.is_whole()
    module.append(nn.ReLU())
    assert not anatomy.is_whole()
    del module[2]
    assert anatomy.is_whole()
    module[0].register_buffer('extra', torch.zeros(1))
    assert not anatomy.is_whole()


def test_hooks_on_a_part_are_noticed() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    anatomy = Anatomy(module)
    assert not anatomy.is_hooked()
    handle = module[1].register_forward_hook(lambda *_: None)
    assert anatomy.is_hooked()
    handle.remove()
    assert not anatomy.is_hooked()
