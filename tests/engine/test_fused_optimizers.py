"""Optimizers that the library builds run fused, with the results of those that do not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mmrazor_mutators.engine.optimizers import (
    SeparateOptimWrapperConstructor,
    choose_kernel,
    lay_out_state,
)
from mmrazor_mutators.search.moves import move

SGD = {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 3e-4}
ADAM = {'type': 'Adam', 'lr': 0.01, 'betas': (0.5, 0.999), 'weight_decay': 1e-3}
CONFIGS = [SGD, {**SGD, 'nesterov': True}, ADAM, {'type': 'AdamW', 'lr': 0.01}]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.architecture = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2)
        )
        self.architecture(torch.randn(2, 3, 5, 5))
        self.double()


def optimizer_over(model: Model, optimizer: dict[str, Any]) -> Any:
    build = SeparateOptimWrapperConstructor({'architecture': {'optimizer': optimizer}})
    return build(model)['architecture'].optimizer


def gradients_of(model: Model, step: int, memory_format: Any) -> list[torch.Tensor]:
    torch.manual_seed(step)
    grads = [
        torch.randn_like(p, memory_format=torch.contiguous_format) for p in model.parameters()
    ]
    return [g.contiguous(memory_format=memory_format) if g.dim() == 4 else g for g in grads]


@pytest.mark.parametrize('weights', [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize('grads', [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize('cfg', CONFIGS, ids=lambda cfg: cfg['type'])
def test_fused_steps_are_the_same(cfg: dict[str, Any], grads: Any, weights: Any) -> None:
    """Trap: the kernel reads memory in its own order, whatever the strides say."""
    models = [Model().to(memory_format=weights) for _ in range(2)]
    given = copy.deepcopy(cfg)
    fused = optimizer_over(models[0], cfg)
    plain = optimizer_over(models[1], {**cfg, 'fused': False})
    assert cfg == given
    assert (fused.defaults['fused'], plain.defaults['fused']) == (True, False)
    for step in range(4):
        for model in models:
            of_step = gradients_of(model, step, grads)
            for param, grad in zip(model.parameters(), of_step, strict=True):
                param.grad = grad
        fused.step()
        plain.step()
        if step == 1:  # As from the checkpoint of a search in the other layout.
            for state in fused.state.values():
                for key, value in state.items():
                    if value.dim() == 4:
                        state[key] = value.contiguous(memory_format=grads)
    for mine, expected in zip(*(model.parameters() for model in models), strict=True):
        assert_close(mine, expected, rtol=1e-12, atol=1e-12)


def test_the_layout_of_the_state_is_mended_in_place() -> None:
    weight = nn.Parameter(torch.randn(2, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    lay_out_state(optimizer)  # Neither a gradient nor a state yet.
    weight.grad = torch.randn(2, 3, 2, 2)
    values = weight.grad.clone()
    optimizer.state[weight]['momentum_buffer'] = values.clone()
    lay_out_state(optimizer)
    for tensor in (weight.grad, optimizer.state[weight]['momentum_buffer']):
        assert tensor.stride() == weight.stride()
        assert_close(tensor, values, rtol=0, atol=0)


@pytest.mark.parametrize(
    'option', [{'fused': False}, {'foreach': True}, {'differentiable': True}]
)
def test_what_a_config_says_stays(option: dict[str, Any]) -> None:
    assert choose_kernel({**SGD, **option}, Model()) == {**SGD, **option}


@pytest.mark.parametrize(
    ('cfg', 'part'),
    [
        ({'type': 'RMSprop', 'lr': 0.1}, nn.Linear(2, 2)),
        ({'type': 'mmrazor_mutators.ExponentiatedGradient'}, nn.Linear(2, 2)),
        (SGD, nn.Linear(2, 2).bfloat16()),
        (SGD, nn.Linear(2, 2, device='meta')),
    ],
    ids=['kind', 'own', 'dtype', 'device'],
)
def test_where_there_is_no_such_kernel(cfg: dict[str, Any], part: nn.Module) -> None:
    assert choose_kernel(cfg, part) == cfg


def test_classes_are_known_as_well() -> None:
    cfg = {**SGD, 'type': torch.optim.SGD}
    assert choose_kernel(cfg, nn.Linear(2, 2)) == {**cfg, 'fused': True}


@pytest.mark.parametrize('nesterov', [False, True])
def test_weights_that_come_late_begin_as_they_do_unfused(nesterov: bool) -> None:
    """Trap: torch's fused SGD fails where some weights have a momentum and others none."""
    models = [Model() for _ in range(2)]
    cfg = {**SGD, 'nesterov': nesterov}
    optimizers = [
        optimizer_over(models[0], cfg),
        optimizer_over(models[1], {**cfg, 'fused': False}),
    ]
    for step, used in enumerate([(0,), (0, 2), (2, 3), (0, 1, 2, 3)]):
        for model, optimizer in zip(models, optimizers, strict=True):
            grads = gradients_of(model, step, torch.contiguous_format)
            given = [grad if index in used else None for index, grad in enumerate(grads)]
            move(optimizer, list(model.parameters()), given)
        for fused, plain in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert_close(fused, plain, rtol=1e-12, atol=1e-14)


def test_dampening_is_left_to_the_unfused_kernel() -> None:
    assert 'fused' not in choose_kernel({**SGD, 'dampening': 0.1}, Model())
    assert choose_kernel({**SGD, 'dampening': 0}, Model())['fused']
