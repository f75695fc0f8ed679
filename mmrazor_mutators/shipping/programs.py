"""Networks as programs of ``torch.export``."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..blame import one_line
from ..errors import ConfigError

__all__ = ['batch_shapes', 'contiguous', 'program_of']


def contiguous(network: nn.Module) -> nn.Module:
    """Return a copy whose weights lie as usual; exporters warn of others."""
    return copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def batch_shapes(example: tuple[Tensor, ...], batch: Any) -> Any:
    """Return that the first dimension of every input is the size of the batch."""
    return tuple({0: batch} for _ in example)


def program_of(network: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """Export a network for batches of any size.

    Args:
        network: In eval mode.
        example: Its inputs, of at least two samples.

    Raises:
        ConfigError: A network that ``torch.export`` cannot follow.
    """
    batch = torch.export.Dim('batch', min=1)
    shapes = batch_shapes(example, batch)
    try:
        return torch.export.export(contiguous(network), example, dynamic_shapes=shapes)
    except Exception as error:  # It raises whatever the code of a network leads to.
        raise ConfigError(
            f'The network cannot be written as a program, since torch.export cannot follow it: '
            f'{one_line(error)}; .pt takes every network'
        ) from error
