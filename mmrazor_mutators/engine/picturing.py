"""What is needed to look at the network of a config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from torch import nn

from ..builder import build_architecture, build_mutator
from ..costs import find_arguments
from ..errors import InputError
from .config import retrain_config
from .exporting import example_of

__all__ = ['network_of_config']


def network_of_config(
    cfg: Config, input_shape: Sequence[int] | None = None
) -> tuple[nn.Module, Any]:
    """Build the supernet of a config, with all of its choices and nothing bound.

    Args:
        cfg: The config of a search.
        input_shape: Of one sample, ``(C, H, W)``; by default the supernet's own inputs, or
            those of the test data.

    Returns:
        The supernet and one input, ``None`` where the supernet knows what it is called with.
    """
    supernet = build_architecture(cfg.model['architecture'])
    # Extensions may ask for files or samples, and not every mutator takes any.
    given = cfg.model['mutator'].items()
    mutator = build_mutator({key: value for key, value in given if key != 'extensions'})
    mutator.prepare_from_supernet(supernet)
    mutator.release(supernet)
    if input_shape is None:
        try:
            find_arguments(supernet)
            return supernet, None
        except InputError:
            pass
    return supernet, example_of(retrain_config(cfg), input_shape)[:1]
