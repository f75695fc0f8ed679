"""Steps in the form of MMRazor v0.2.0, which mmcv 1.x's runners drive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..errors import ConfigError, InputError
from .batches import size_of

__all__ = [
    'LEGACY_GRAD_CLIP',
    'forward_arguments',
    'is_legacy_step',
    'outputs_of',
    'pair_of_search',
    'refuse_pruning',
]

LEGACY_GRAD_CLIP = 5.0
"""Largest norm of the weights' gradient in a search of v0.2.0, which has no option for it."""


def is_legacy_step(optimizer: Any) -> bool:
    """Say whether a step got bare optimizers, or none, in place of mmengine's wrappers.

    >>> is_legacy_step(None), is_legacy_step({})
    (True, True)
    """
    return optimizer is None or isinstance(optimizer, (Optimizer, Mapping))


def pair_of_search(data: Any, optimizer: Any) -> tuple[Any, Any]:
    """Return ``(train_batch, arch_batch)`` of the data of a search step of v0.2.0.

    Args:
        data: ``(arch_batch, train_batch)``: v0.2.0 has them in this order.
        optimizer: Should be ``{'architecture': ..., 'mutator': ...}``.

    Raises:
        InputError: Something else.
    """
    if not isinstance(optimizer, Mapping):
        raise InputError(
            'Expected the optimizers of a search to be dict(architecture=..., mutator=...), '
            f'but got {type(optimizer).__name__}'
        )
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InputError(
            'Expected the data of a search step to be a pair (arch_batch, train_batch) with a '
            f'dict of optimizers, but got {type(data).__name__}'
        )
    return data[1], data[0]


def outputs_of(loss: Tensor, logs: Mapping[str, Any], batch: Any) -> dict[str, Any]:
    """Return what a step of v0.2.0 returns: the loss, numbers to log, and their weight.

    >>> import torch
    >>> outputs_of(torch.tensor(0.5), {'loss': torch.tensor(0.5)}, (torch.rand(3, 2), None))
    {'loss': tensor(0.5000), 'log_vars': {'loss': 0.5}, 'num_samples': 3}
    """
    log_vars = {name: float(torch.as_tensor(value).detach()) for name, value in logs.items()}
    return {'loss': loss, 'log_vars': log_vars, 'num_samples': size_of(batch)}


def refuse_pruning(**parts: Any) -> None:
    """Refuse what v0.2.0's algorithms may have beside a mutator.

    Raises:
        ConfigError: One of them is not ``None``.

    >>> refuse_pruning(pruner=None)
    """
    for name, part in parts.items():
        if part is not None:
            raise ConfigError(
                f'Expected `{name}` to be None, since there is no pruning and no distillation '
                f'here, but got {part!r}'
            )


def forward_arguments(
    inputs: Any, targets: Any, mode: str | None, batch: Mapping[str, Any]
) -> tuple[Any, str]:
    """Return the batch and the mode that the arguments of a forward pass mean.

    Args:
        inputs: Images, or ``None``.
        targets: What belongs to them, or ``None``.
        mode: ``'tensor'``, ``'loss'`` or ``'predict'``, or ``None``.
        batch: The arguments by other names; ``return_loss`` says the mode.

    Returns:
        A pair ``(inputs, targets)`` or a dict, and the mode.

    Raises:
        InputError: Another mode.

    >>> forward_arguments(None, None, None, {'img': 1, 'gt_label': 2, 'return_loss': True})
    ({'img': 1, 'gt_label': 2}, 'loss')
    >>> forward_arguments(1, 2, None, {})
    ((1, 2), 'tensor')
    """
    data = {key: value for key, value in batch.items() if key != 'return_loss'}
    if 'return_loss' in batch:
        mode = 'loss' if batch['return_loss'] else 'predict'
    elif mode is None:
        mode = 'loss' if 'img' in data else 'tensor'
    if mode not in ('tensor', 'loss', 'predict'):
        raise InputError(
            f"Expected `mode` to be 'tensor', 'loss' or 'predict', but got {mode!r}"
        )
    if 'img' not in data and 'return_loss' not in batch and not data:
        return (inputs, targets), mode
    if 'img' not in data:
        data = {'inputs' if 'data_samples' in data else 'img': inputs, **data}
    return data, mode
