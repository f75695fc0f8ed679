"""Networks as ONNX, and what onnxruntime makes of them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ..blame import one_line
from ..errors import ConfigError, HostError
from .programs import batch_shapes, contiguous

__all__ = ['RTOL', 'onnx_of', 'run_onnx']

RTOL = 1e-4
"""Onnxruntime folds norms into convolutions and sums in another order."""


def onnx_of(network: nn.Module, example: tuple[Tensor, ...]) -> bytes:
    """Return a network as ONNX, for batches of any size.

    Args:
        network: In eval mode.
        example: Its inputs, of at least two samples.

    Raises:
        ConfigError: A network that cannot be expressed.
        HostError: What this needs is not installed.
    """
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        _import(name)
    shapes = batch_shapes(example, torch.export.Dim('batch', min=1))
    names = ['input'] if len(example) == 1 else [f'input{i}' for i in range(len(example))]
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                contiguous(network),
                example,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=names,
                verbose=False,
            )
        return program.model_proto.SerializeToString()
    except Exception as error:  # It raises whatever the code of a network leads to.
        raise ConfigError(
            f'The network cannot be written as ONNX: {one_line(error)}; .pt takes every network'
        ) from error


def run_onnx(content: bytes, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run a network in ONNX on a CPU."""
    runtime = _import('onnxruntime')
    session = runtime.InferenceSession(content, providers=['CPUExecutionProvider'])
    names = [entry.name for entry in session.get_inputs()]
    arrays = {name: x.numpy(force=True) for name, x in zip(names, inputs, strict=True)}
    return [torch.from_numpy(array) for array in session.run(None, arrays)]


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise HostError(
            f'Writing .onnx needs {name}, which cannot be imported here ({error}). Install it '
            'with: pip install "mmrazor-mutators[onnx]"'
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which tells of itself; what it cannot do it raises."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
