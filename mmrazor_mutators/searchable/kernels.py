"""Choices of the size of a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..errors import SearchSpaceError
from ..mutables import DifferentiableKernel, make_searchable_layer
from ..mutables.layers import CONVS, numeric_padding, original_class
from .rules import Place

__all__ = ['add_kernel']


def add_kernel(place: Place, model: nn.Module) -> None:
    """Let the size of the kernel of a convolution be chosen, in place.

    Args:
        place: Where.
        model: In which no other module may have the same weight.

    Raises:
        SearchSpaceError: A place, or sizes, for which this is impossible.
    """
    conv: Any = place.module
    if not isinstance(conv, CONVS):
        raise SearchSpaceError(
            f'At {place}: expected a convolution (not a transposed one), whose kernel has a '
            f'size, but got {type(conv).__name__}'
        )
    original = tuple(conv.kernel_size)
    sizes: dict[str, tuple[int, ...]] = {_name(original): original}
    values = place.value
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence) or not values:
        raise SearchSpaceError(f'At {place}: expected a list of sizes, such as [1, 3, 5]')
    for value in values:
        size: tuple[Any, ...] = (
            tuple(value) if isinstance(value, (list, tuple)) else (value,) * len(original)
        )
        whole = all(isinstance(side, int) and not isinstance(side, bool) for side in size)
        if not whole or len(size) != len(original) or min(size) < 1:
            raise SearchSpaceError(
                f'At {place}: expected sizes to be whole numbers of at least 1, one for each '
                f'of {len(original)} dimensions or one for all, but got {value!r}'
            )
        _check_size(place, conv, size)
        sizes[_name(size)] = size
    if len(sizes) < 2:
        raise SearchSpaceError(f'At {place}: expected another size than {original}')
    if conv._parameters.get('weight') is None:
        raise SearchSpaceError(
            f'At {place}: its weight is computed of something else, as by weight_norm; remove '
            'that first'
        )
    others = [
        name
        for name, module in model.named_modules()
        if module is not conv and any(p is conv.weight for p in module._parameters.values())
    ]
    if others:
        raise SearchSpaceError(
            f'At {place}: its weight is also that of {", ".join(map(repr, others))}, and a '
            'kernel of another size would untie them; leave it out, or let one convolution '
            'stand in all of these places, which then have one choice'
        )
    mutable = DifferentiableKernel(
        dict(sorted(sizes.items(), key=lambda pair: tuple(pair[1]))),
        original=_name(original),
        space_id=place.space_id,
    )
    mutable.to(device=conv.weight.device).train(conv.training)
    make_searchable_layer(conv, 'kernel', mutable)


def _name(size: Sequence[int]) -> str:
    return f'k{size[0]}' if len(set(size)) == 1 else 'k' + 'x'.join(map(str, size))


def _check_size(place: Place, conv: Any, size: Sequence[int]) -> None:
    sides = zip(size, conv.kernel_size, numeric_padding(conv), conv.dilation, strict=True)
    for side, own, padding, dilation in sides:
        if (own - side) % 2:
            raise SearchSpaceError(
                f'At {place}: expected sizes that share their middle with the original, '
                f'{own}: all odd or all even, but got {side}'
            )
        if padding - (own - side) // 2 * dilation < 0:
            raise SearchSpaceError(
                f'At {place}: a kernel of {side} would need a padding below 0 to keep the '
                f'size of the map; pad the original by at least '
                f'{(own - side) // 2 * dilation}, or leave {side} out'
            )
    larger = any(side > own for side, own in zip(size, conv.kernel_size, strict=True))
    plain = original_class(conv).forward in (kind.forward for kind in CONVS)
    if larger and (conv.padding_mode != 'zeros' or not plain):
        raise SearchSpaceError(
            f'At {place}: a kernel larger than the original needs a convolution of PyTorch '
            "itself with padding_mode='zeros'; leave larger sizes out"
        )


def is_convolution(module: nn.Module) -> bool:
    """Whether a kernel can be chosen in a module."""
    return isinstance(module, CONVS)
