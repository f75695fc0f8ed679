"""What one call of a layer reads, computes and returns, whichever sizes it has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..mutables.layers import CONVS, TRANSPOSED, features_of

__all__ = ['Call', 'LayerShape', 'feature_dim', 'layer_shape']

Shape = tuple[int, ...]
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True)
class Call:
    """One call of a module in a forward pass.

    Attributes:
        inputs: Shapes of its tensors.
        output: Shape of the first tensor that it returns.
        itemsize: Bytes of a number in it.
    """

    inputs: tuple[Shape, ...]
    output: Shape
    itemsize: int = 4


@dataclass(frozen=True)
class LayerShape:
    """What a layer is in one network of the search space; what a metric of a user's gets.

    Attributes:
        kind: Name of its class, as ``'Conv2d'``.
        in_features: Channels or features that it reads; 0 where nobody knows.
        out_features: Those that it returns.
        kernel_size: Of a convolution, else empty.
        stride: Of a convolution, else empty.
        groups: Of a convolution, else 1.
        inputs: Shapes of its inputs.
        output: Shape of its output.
        params: How many numbers it learns.
        macs: Multiply-adds of one call: convolutions and matrix products.
        memory: Bytes of its first input and its output.
        settings: What else its class says of it, as ``'padding=(1, 1)'``.
    """

    kind: str
    in_features: int
    out_features: int
    kernel_size: Shape
    stride: Shape
    groups: int
    inputs: tuple[Shape, ...]
    output: Shape
    params: int
    macs: float
    memory: int
    settings: str = ''


def feature_dim(module: nn.Module, shape: Shape) -> int:
    """Return which dimension of a map holds the features of a layer."""
    if isinstance(module, CONVS):
        return len(shape) - 1 - len(module.kernel_size)
    if isinstance(module, TRANSPOSED):
        return len(shape) - 1 - len(module.kernel_size)
    batch = nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm
    return 1 if isinstance(module, batch) and len(shape) > 1 else len(shape) - 1


def _resized(module: nn.Module, shape: Shape, features: int) -> Shape:
    """Return a shape with another number of features, where the layer knows of any."""
    if not features or not shape or isinstance(module, _EMBEDDINGS):
        return shape
    dim = feature_dim(module, shape)
    return (*shape[:dim], features, *shape[dim + 1 :])


def layer_shape(module: Any, call: Call, own: Any = None) -> LayerShape:
    """Return what a layer is, after its features were cut.

    Args:
        module: The layer of the network, as it is there; it may lie on the meta device.
        call: How it is called in the network before anything was cut: its positions stay,
            its features are those of ``module``.
        own: Multiply-adds of code that is no layer, where they are known.

    >>> layer_shape(nn.Conv2d(4, 8, 3, padding=1), Call(((1, 9, 5, 5),), (1, 9, 5, 5))).macs
    7200.0
    """
    ins, outs = features_of(module)
    if isinstance(module, _EMBEDDINGS):
        ins = 1
    inputs = list(call.inputs)
    if inputs:
        inputs[0] = _resized(module, inputs[0], ins)
    output = call.output
    if isinstance(module, _EMBEDDINGS):
        output = (*output[:-1], outs)
    else:
        output = _resized(module, output, outs)
    macs = 0.0 if own is None else float(own)
    if isinstance(module, CONVS) and output:
        taps = math.prod(module.kernel_size) * ins // module.groups
        macs = float(math.prod(output) * taps)
    elif isinstance(module, TRANSPOSED) and inputs:
        macs = float(math.prod(inputs[0]) * math.prod(module.kernel_size) * outs)
        macs /= module.groups
    elif isinstance(module, nn.Linear) and output:
        macs = float(math.prod(output) * ins)
    read = math.prod(inputs[0]) if inputs else 0
    if isinstance(module, nn.MultiheadAttention) and output:
        # What its heads return is read as well, by the layer that puts it together.
        read = max(read, math.prod(output) // outs * module.num_heads * module.head_dim)
    return LayerShape(
        kind=_class_name(module),
        in_features=ins,
        out_features=outs,
        kernel_size=tuple(getattr(module, 'kernel_size', ())) if _is_conv(module) else (),
        stride=tuple(getattr(module, 'stride', ())) if _is_conv(module) else (),
        groups=getattr(module, 'groups', 1) if _is_conv(module) else 1,
        inputs=tuple(inputs),
        output=output,
        params=sum(p.numel() for p in module.parameters(recurse=False)),
        macs=macs,
        memory=(read + math.prod(output)) * call.itemsize if output else 0,
        settings=module.extra_repr(),
    )


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, (*CONVS, *TRANSPOSED))


def _class_name(module: nn.Module) -> str:
    return type(module).__name__
