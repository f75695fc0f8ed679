"""Write the network found as a file that needs no search any more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..blame import reason_of
from ..errors import ConfigError, InputError
from ..registry import DATASETS
from ..search.fields import check_names
from ..shipping import files_of, write_network
from ..typing import Subnet
from .config import retrain_config
from .jobs import build_model
from .runner import allow_checkpoint_types
from .seals import check_whole

__all__ = ['example_of', 'export', 'load_weights']


def export(
    cfg: Config,
    subnet: Subnet,
    checkpoint: Path,
    out: Path,
    input_shape: Sequence[int] | None = None,
) -> nn.Module:
    """Build the network of a subnet, load its weights and write it as a plain module.

    Args:
        cfg: The config of the search or of the retraining.
        subnet: Which network.
        checkpoint: Of the retraining, or of the search, whose supernet's
            weights are then carried over.
        out: Ends in ``.pt``, ``.pt2``, ``.onnx`` or ``.py``; see :func:`.write_network`.
        input_shape: Of an image, ``(C, H, W)``; by default that of the first
            test image.

    Returns:
        The network, in eval mode.

    Raises:
        ConfigError: An unknown format, a checkpoint that cannot be read or does not fit,
            or a network that the format cannot express.
        HostError: What ``.onnx`` needs is not installed.
        SubnetError: The subnet does not fit the config.
    """
    files_of(out)
    state = load_weights(checkpoint)
    if any(key.startswith('mutator.') for key in state) or _is_supernet(cfg, state):
        model = build_model(cfg, cfg.model)
        _load(model, state, checkpoint)
        net = model.mutator.export_subnet(model.architecture, subnet)
    else:
        cfg = retrain_config(cfg)
        model = build_model(cfg, {**cfg.model, 'retraining': True, 'mutable_cfg': subnet})
        _load(model, state, checkpoint)
        net = model.architecture
    net.eval()
    write_network(net, out, example_of(retrain_config(cfg), input_shape))
    return net


def load_weights(checkpoint: Path) -> dict[str, Any]:
    """Return the state of the model in a checkpoint.

    Raises:
        ConfigError: A file that is missing or is no checkpoint.
    """
    if not checkpoint.is_file():
        raise ConfigError(
            f'There is no checkpoint {str(checkpoint)!r}; search and retrain write last.pth '
            'into their work directories'
        )
    allow_checkpoint_types()
    try:
        with open(checkpoint, 'rb') as file:
            is_archive = file.read(2) == b'PK'
        if is_archive:  # As all versions of PyTorch write by default that are in use.
            check_whole(checkpoint)
        content = torch.load(checkpoint, map_location='cpu', weights_only=True)
    except ConfigError as error:
        raise ConfigError(
            f'The checkpoint {str(checkpoint)!r} cannot be read: {error}'
        ) from error
    except Exception as error:  # Unpickling raises whatever a broken file leads to.
        raise ConfigError(
            f'The checkpoint {str(checkpoint)!r} cannot be read: {reason_of(error)}'
        ) from error
    state = content.get('state_dict', content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state:
        raise ConfigError(f'The file {str(checkpoint)!r} holds no weights of a model')
    check_names(state)
    return state


def _is_supernet(cfg: Config, state: dict[str, Any]) -> bool:
    """Whether a state is that of the supernet, whose mutator may have none of its own."""
    if cfg.model.get('retraining') or not cfg.model.get('mutator'):
        return False
    return build_model(cfg, cfg.model).state_dict().keys() == state.keys()


def _load(model: nn.Module, state: dict[str, Any], checkpoint: Path) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise ConfigError(
            f'The checkpoint {str(checkpoint)!r} does not fit the network of the config and '
            f'the subnet: {" ".join(line.strip() for line in lines[1:3])}'
        ) from error


def example_of(cfg: Config, input_shape: Sequence[int] | None) -> Tensor:
    """Return two images to run a network on: the first of the test data, or random ones.

    Raises:
        InputError: A shape that is not ``(C, H, W)``.
    """
    if input_shape is not None:
        if len(input_shape) != 3:
            raise InputError(f'Expected an input shape C H W, but got {list(input_shape)}')
        return torch.randn(2, *input_shape)
    dataset = DATASETS.build(cfg['test_dataloader']['dataset'])
    return torch.stack([dataset[0][0], dataset[1][0]])
