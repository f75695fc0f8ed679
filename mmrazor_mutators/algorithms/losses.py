"""The loss of a classifier, built from a config and with readable errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError, InputError, did_you_mean
from ..registry import MODELS
from ..typing import ConfigDict, LossFn

__all__ = ['accuracy_of', 'build_loss', 'evaluate_loss']


def build_loss(loss: LossFn | ConfigDict | None) -> LossFn:
    """Return a loss function ``(outputs, targets) -> scalar``.

    Args:
        loss: A callable; or a config whose ``type`` is a loss of ``torch.nn``
            or a registered model; cross entropy if left out.

    Raises:
        ConfigError: Neither of these.

    >>> build_loss(dict(type='CrossEntropyLoss', label_smoothing=0.1))
    CrossEntropyLoss()
    """
    if loss is None:
        return nn.CrossEntropyLoss()
    if not isinstance(loss, Mapping):
        if callable(loss):
            return loss
        raise ConfigError(f'Expected `loss` to be a callable or a config, but got {loss!r}')
    arguments = dict(loss)
    name = arguments.get('type')
    if not isinstance(name, str) or '.' in name:
        return MODELS.build(arguments)
    losses = sorted(key for key in vars(nn) if key.endswith('Loss'))
    if name not in losses:
        if name in MODELS:
            return MODELS.build(arguments)
        raise ConfigError(
            f'There is no loss {name!r} in torch.nn; {did_you_mean(name, losses)}'
        )
    arguments.pop('type')
    try:
        return getattr(nn, name)(**arguments)
    except TypeError as error:
        raise ConfigError(f'The config of the loss does not fit: {error}') from error


def accuracy_of(outputs: Tensor, targets: Any) -> dict[str, Tensor]:
    """Return ``{'accuracy': share}`` of class indices, nothing for other targets.

    >>> import torch
    >>> accuracy_of(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([1, 1]))
    {'accuracy': tensor(0.5000)}
    """
    if not isinstance(targets, Tensor) or targets.shape != outputs.shape[:1]:
        return {}
    return {'accuracy': (outputs.detach().argmax(1) == targets).float().mean()}


def evaluate_loss(loss_fn: LossFn, outputs: Tensor, targets: Any) -> Tensor:
    """Return ``loss_fn(outputs, targets)``.

    Raises:
        InputError: The loss does not take them, as when there are more
            classes in the data than the network tells apart.
    """
    try:
        return loss_fn(outputs, targets)
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        # A device that runs out of memory is no matter of shapes.
        if 'memory' in str(error):
            raise
        shapes = ' and '.join(
            f'{name} of shape {tuple(value.shape)}'
            if isinstance(value, Tensor)
            else f'{name} {value!r}'
            for name, value in (('outputs', outputs), ('targets', targets))
        )
        raise InputError(f'The loss does not take {shapes}: {error}') from error
