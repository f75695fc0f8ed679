"""Where PyTorch computes transformers past the modules that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..errors import SearchSpaceError
from ..mutables import SearchPlan
from .proof import run
from .rules import MODULE_KINDS, Place

__all__ = ['check_fast_paths']


class _IsNested(Exception):
    pass


def check_fast_paths(model: nn.Module, places: Sequence[Place], plan: SearchPlan) -> None:
    """Refuse places that PyTorch would pass by in eval mode.

    Layers whose weights are chosen are computed right on these paths as well: other modules
    in their place would not be called, and nested tensors fit neither fewer heads nor a block
    that is left out.

    Raises:
        SearchSpaceError: Which place, and how to turn the path off.
    """
    for name, module in model.named_modules():
        inside = [place for place in places if place.name.startswith(f'{name}.')]
        if isinstance(module, nn.TransformerEncoderLayer):
            _check_layer(name, module, inside)
        if isinstance(module, nn.TransformerEncoder) and inside:
            _check_encoder(name, module, inside[0], model, plan)


def _check_layer(name: str, layer: Any, inside: Sequence[Place]) -> None:
    own = type(layer).forward is not nn.TransformerEncoderLayer.forward
    if own or not layer.activation_relu_or_gelu:
        return
    for place in inside:
        if place.kind in MODULE_KINDS:
            raise SearchSpaceError(
                f'At {place}: it stands in {name!r}, an nn.TransformerEncoderLayer, which '
                'PyTorch computes in eval mode without calling the modules in it; set '
                '`activation_relu_or_gelu = 0` on that layer first, or leave this place out'
            )


def _check_encoder(
    name: str, encoder: Any, place: Place, model: nn.Module, plan: SearchPlan
) -> None:
    if not getattr(encoder, 'use_nested_tensor', False) or not len(encoder.layers):
        return

    def look(module: nn.Module, args: Any, kwargs: Any) -> None:
        if any(getattr(value, 'is_nested', False) for value in (*args, *kwargs.values())):
            raise _IsNested

    handle = encoder.layers[0].register_forward_pre_hook(look, with_kwargs=True)
    try:
        run(model, plan)
    except _IsNested:
        raise SearchSpaceError(
            f'At {place}: it stands in {name!r}, an nn.TransformerEncoder, which packs padded '
            'sequences into nested tensors in eval mode, in which nothing can be chosen; build '
            'it with enable_nested_tensor=False, or set `use_nested_tensor = False` on it first'
        ) from None
    finally:
        handle.remove()
