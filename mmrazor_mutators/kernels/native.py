"""The compiled kernels in ``csrc/``, where they were built; everything works without them.

The library is plain C, called with the addresses of tensors.  Set the environment
variable ``MMRAZOR_MUTATORS_NATIVE=0`` to leave it alone.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .graph_nodes import is_plain

__all__ = [
    'SWITCH',
    'ConvShape',
    'available',
    'call',
    'conv',
    'norm_backward',
    'norm_forward',
    'read_address',
    'usable',
]

SWITCH = 'MMRAZOR_MUTATORS_NATIVE'
"""The environment variable that turns the library off."""

_DTYPES = {torch.float32: 0, torch.float64: 1}


class ConvShape(NamedTuple):
    """A depthwise convolution from ``(batch, channels, height, width)``, in the order of C."""

    batch: int
    channels: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    padding_h: int
    padding_w: int
    dilation_h: int
    dilation_w: int


def _load(folder: Path) -> Any:
    """Return the library in a folder, or ``None``."""
    if os.environ.get(SWITCH, '1') == '0':
        return None
    for suffix in EXTENSION_SUFFIXES:
        path = folder / f'_native{suffix}'
        if not path.is_file():
            continue
        try:
            library = ctypes.CDLL(str(path))
            _declare(library)
        except (AttributeError, OSError):  # Of another machine or another version.
            continue
        library.kernels_use_variant(-1)
        return library
    return None


def _declare(library: Any) -> None:
    """Tell ctypes what the functions take."""
    number, size, real, address = (
        ctypes.c_int,
        ctypes.c_int64,
        ctypes.c_double,
        ctypes.c_void_p,
    )
    common = [number, number]
    for name in _CONVS:
        getattr(library, f'kernels_conv_{name}').argtypes = [*common, *[address] * 4]
    separable = [*common, address, number, size]
    library.kernels_separable_forward.argtypes = [*separable, *[address] * 5]
    library.kernels_separable_backward.argtypes = [*separable, *[address] * 8]
    library.kernels_norm_forward.argtypes = [*common, size, size, real, real, *[address] * 6]
    library.kernels_norm_backward.argtypes = [*common, size, size, *[address] * 6]
    library.kernels_sum_forward.argtypes = [*common, size, size, size, *[address] * 8]
    library.kernels_sum_backward.argtypes = [*common, size, size, size, *[address] * 7]
    library.kernels_average_pool.argtypes = [*common, *[size] * 4, number, *[address] * 2]
    library.kernels_edge_forward.argtypes = [*common, address, size, *[address] * 12]
    library.kernels_edge_backward.argtypes = [*common, address, size, *[address] * 12]
    library.kernels_use_variant.argtypes = [number]


_CONVS = ('forward', 'input', 'weight')
_library = _load(Path(__file__).resolve().parent)


def available() -> bool:
    """Whether there are compiled kernels, and they are not switched off."""
    return _library is not None


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels can replace an operation on these tensors right now.

    See :func:`~.graph_nodes.is_plain`.
    """
    return _library is not None and is_plain(*tensors)


_shapes: dict[ConvShape, Any] = {}


def _shape_of(shape: ConvShape) -> Any:
    """Return a shape as C sees it."""
    found = _shapes.get(shape)
    if found is None:
        if len(_shapes) > 1000:  # Sizes that change all the time are not worth keeping.
            _shapes.clear()
        found = _shapes[shape] = (ctypes.c_int64 * len(shape))(*shape)
    return found


def _check(failed: int) -> None:
    if failed:
        raise MemoryError('Expected memory for the sums of a kernel, but there is none left')


# The usual way to ask for an address makes PyTorch copy what several tensors share.
read_address: Callable[[Tensor], int] = getattr(Tensor, 'const_data_ptr', Tensor.data_ptr)


def call(name: str, dtype: torch.dtype, *arguments: Any) -> None:
    """Call ``kernels_<name>`` of the library, with the threads that torch has.

    Args:
        name: Of a function that begins with the dtype and the number of threads.
        dtype: Of all tensors.
        *arguments: The others: numbers, shapes, and tensors or ``None``, dense as the
            function wants them.  A tensor is read, or is new.

    Raises:
        MemoryError: No memory is left.
    """
    values = [
        read_address(a)
        if isinstance(a, Tensor)
        else _shape_of(a)
        if isinstance(a, ConvShape)
        else a
        for a in arguments
    ]
    function = getattr(_library, f'kernels_{name}')
    _check(function(_DTYPES[dtype], torch.get_num_threads(), *values))


def conv(kind: str, shape: ConvShape, first: Tensor, second: Tensor, out: Tensor) -> Tensor:
    """Fill ``out`` with a depthwise convolution, or with one of its two derivatives.

    Args:
        kind: ``'forward'`` of map and weight, ``'input'`` of the gradient of the output and
            the weight, ``'weight'`` of that gradient and the map.
        shape: Of the convolution, the same one for all three kinds.
        first: Dense, maps with the channels last; so are the other two.
        second: Its partner.
        out: What is overwritten, and returned.

    Raises:
        MemoryError: No memory is left.
    """
    function = getattr(_library, f'kernels_conv_{kind}')
    failed = function(
        _DTYPES[first.dtype],
        torch.get_num_threads(),
        _shape_of(shape),
        read_address(first),
        read_address(second),
        out.data_ptr(),
    )
    _check(failed)
    return out


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def norm_forward(
    x: Tensor,
    scale: Tensor | None,
    running: tuple[Tensor, Tensor] | None,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Normalise a map over its batch, and multiply it by a number.

    Args:
        x: Shape ``(N, C, H, W)``, dense with the channels last.
        scale: The number as a tensor; ``None`` for 1.
        running: Mean and variance that follow in place, shape ``(C,)`` each.
        momentum: By how much.
        eps: What is added to the variance.

    Returns:
        The new map, and mean and inverse deviation of the batch, shape ``(2, C)``.

    Raises:
        MemoryError: No memory is left.
    """
    channels = x.shape[1]
    out, saved = torch.empty_like(x), x.new_empty((2, channels))
    mean, var = (None, None) if running is None else running
    failed = _library.kernels_norm_forward(
        _DTYPES[x.dtype],
        torch.get_num_threads(),
        x.numel() // channels,
        channels,
        eps,
        momentum,
        read_address(x),
        _address(scale),
        _address(mean),
        _address(var),
        saved.data_ptr(),
        out.data_ptr(),
    )
    _check(failed)
    return out, saved


def norm_backward(
    grad: Tensor, x: Tensor, scale: Tensor | None, saved: Tensor, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of :func:`norm_forward` that are needed.

    Args:
        grad: Of its output, dense with the channels last.
        x: Its input.
        scale: Its number.
        saved: What it returned.
        needs: Whether the gradient of ``x`` is needed, and that of ``scale``.

    Raises:
        MemoryError: No memory is left.
    """
    channels = x.shape[1]
    grad_x = torch.empty_like(x) if needs[0] else None
    grad_scale = torch.empty_like(scale) if needs[1] and scale is not None else None
    failed = _library.kernels_norm_backward(
        _DTYPES[x.dtype],
        torch.get_num_threads(),
        x.numel() // channels,
        channels,
        read_address(grad),
        read_address(x),
        _address(scale),
        saved.data_ptr(),
        _address(grad_x),
        _address(grad_scale),
    )
    _check(failed)
    return grad_x, grad_scale
