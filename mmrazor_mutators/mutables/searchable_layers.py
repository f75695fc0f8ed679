"""Layers of a user's model that choose among their own values, in their own place.

Such a layer stays the object that it was, with its names and parameters.  It gets a subclass
of its class, whose ``weight`` is the parameter times the masks of its mutables: whoever
reads the weight sees what is chosen.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import CONVS, NORMS, numeric_padding, original_class
from .sizes import DifferentiableKernel
from .value import DifferentiableValue

__all__ = [
    'SearchableLayer',
    'call_norms',
    'make_searchable_layer',
    'restore_layer',
]

_CALLS = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


class SearchableLayer(nn.Module):
    """What a layer with mutables of its own has on top of its class.

    Attributes:
        mutables: ``nn.ModuleDict`` of :class:`DifferentiableValue`: ``'kernel'``, and
            ``'in0'``, ``'in1'`` ... for each tie of features that it reads.
    """

    mutables: nn.ModuleDict
    _original: type[nn.Module]

    def chosen(self, name: str) -> Tensor:
        """Return the parameter of a name, as far as it is chosen."""
        value = self._parameters[name]
        for mutable in self.mutables.values():
            value = mutable(value)
        return cast(Tensor, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made here, so that pickle would not find it.
        return _rebuild, (original_class(self),), self.__dict__.copy()


class _SearchableWeight(SearchableLayer):
    """A layer whose weight has what it reads on its second dimension, or on its first."""

    @property
    def weight(self) -> Tensor:
        """The parameter of that name, as far as it is chosen."""
        return self.chosen('weight')


class _SearchableConv(_SearchableWeight):
    """A convolution whose kernel can be larger than it was.

    What is larger is a convolution of its own, so that the original is computed as it is.

    Attributes:
        outer: The weight around the original kernel, in the shape of the largest; or ``None``.
    """

    outer: nn.Parameter | None

    @property
    def weight(self) -> Tensor:
        """The parameter of that name, as far as it is chosen."""
        if self._parameters.get('outer') is None:
            return super().weight
        return self._middle(self._largest())

    def whole_weight(self) -> Tensor:
        """Return the largest kernel, whatever is chosen."""
        own, outer = self._parameters['weight'], cast(Tensor, self.outer)
        return outer.masked_fill(self._is_middle(), 0) + F.pad(cast(Tensor, own), self._ring())

    def _largest(self) -> Tensor:
        """Return the largest kernel, as far as it is chosen."""
        weight = self.whole_weight()
        for mutable in self.mutables.values():
            weight = mutable(weight)
        return weight

    def _ring(self) -> list[int]:
        """Return by how much the largest kernel is larger, as ``F.pad`` takes it."""
        own, outer = cast(Tensor, self._parameters['weight']), cast(Tensor, self.outer)
        sides = zip(reversed(own.shape[2:]), reversed(outer.shape[2:]), strict=True)
        return [(large - small) // 2 for small, large in sides for _ in range(2)]

    def _is_middle(self) -> Tensor:
        own, outer = cast(Tensor, self._parameters['weight']), cast(Tensor, self.outer)
        middle = torch.ones(own.shape[2:], dtype=torch.bool, device=outer.device)
        return F.pad(middle, self._ring())

    def _middle(self, weight: Tensor) -> Tensor:
        ring = self._ring()
        for dim in range(2, weight.dim()):
            cut = ring[2 * (weight.dim() - 1 - dim)]
            weight = weight.narrow(dim, cut, weight.shape[dim] - 2 * cut)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved map."""
        if self._parameters.get('outer') is None:
            return cast(Tensor, super().forward(x))
        conv = cast(Any, self)
        largest = self._largest()
        inner = conv._conv_forward(x, self._middle(largest), self.bias)
        ring = largest.masked_fill(self._is_middle(), 0)
        return cast(Tensor, inner + self._around(x, ring))

    def _around(self, x: Tensor, weight: Tensor) -> Tensor:
        conv = cast(Any, self)
        padding = tuple(
            side + cut * dilation
            for side, cut, dilation in zip(
                numeric_padding(conv), reversed(self._ring()[::2]), conv.dilation, strict=True
            )
        )
        call = next(call for kind, call in _CALLS.items() if isinstance(self, kind))
        return call(x, weight, None, conv.stride, padding, conv.dilation, conv.groups)


class _SearchableNorm(SearchableLayer):
    """A norm over features of which some may be dead: its statistics are of the others."""

    def alive(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return how much of each feature is chosen, from 0 to 1, shape ``(features,)``."""
        masks = cast(Tensor, next(iter(self.mutables.values())).masks)
        alive = torch.ones(masks.shape[1:], dtype=dtype, device=masks.device)
        for mutable in self.mutables.values():
            alive = mutable(alive)
        return alive

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map."""
        alive = self.alive(x.dtype)
        norm = cast(Any, self)
        whole = (alive == 1).all()
        exact = super().forward(x)
        count = alive.sum()
        centred = x
        if isinstance(self, nn.LayerNorm):
            centred = x - (x * alive).sum(-1, keepdim=True) / count
        variance = (centred.square() * alive).sum(-1, keepdim=True) / count
        eps = norm.eps if norm.eps is not None else torch.finfo(x.dtype).eps
        out = centred * (variance + eps).rsqrt()
        if self._parameters['weight'] is not None:
            out = out * norm._parameters['weight']
        if self._parameters.get('bias') is not None:
            out = out + norm._parameters['bias']
        # Where all are alive, the value is that of the norm itself, to the last bit.
        return torch.where(whole, exact.detach() + (out - out.detach()), out)


class _SearchableAttention(SearchableLayer):
    """An ``nn.MultiheadAttention`` that reads features of which some may be dead."""

    @property
    def in_proj_weight(self) -> Tensor:
        """The parameter of that name, as far as it is chosen."""
        return self.chosen('in_proj_weight')


def _while_whole(name: str) -> property:
    """Return an attribute that is off while features are dead in the norms of a module."""

    def get(self: Any) -> Any:
        if name not in self.__dict__:
            raise AttributeError(name)
        return self.__dict__[name] if self.is_whole() else 0

    def put(self: Any, value: Any) -> None:
        self.__dict__[name] = value

    return property(get, put)


class _CallsNorms(SearchableLayer):
    """A transformer of PyTorch, with norms that have to be called while features are dead.

    In eval mode it is computed past the modules in it, as long as these attributes say so.
    """

    activation_relu_or_gelu = _while_whole('activation_relu_or_gelu')
    use_nested_tensor = _while_whole('use_nested_tensor')

    def is_whole(self) -> bool:
        """Whether all features are alive in every norm."""
        norms = (part for part in self.modules() if isinstance(part, _SearchableNorm))
        return all(bool((norm.alive() == 1).all()) for norm in norms)


_classes: dict[type, type] = {}
_MIXINS: dict[tuple[type, ...], type[SearchableLayer]] = {
    CONVS: _SearchableConv,
    NORMS: _SearchableNorm,
    (nn.MultiheadAttention,): _SearchableAttention,
    (nn.TransformerEncoder, nn.TransformerEncoderLayer): _CallsNorms,
}


def _class_of(cls: type) -> Any:
    if cls in _classes:
        return _classes[cls]
    fitting = (mixin for kinds, mixin in _MIXINS.items() if issubclass(cls, kinds))
    mixin = next(fitting, _SearchableWeight)
    name = f'Searchable{cls.__name__}'
    made = _classes[cls] = type(name, (mixin, cls), {'__module__': __name__, '_original': cls})
    return made


def _rebuild(cls: type[nn.Module]) -> nn.Module:
    made = _class_of(cls)
    return made.__new__(made)


def _make_searchable(module: nn.Module) -> SearchableLayer:
    if not isinstance(module, SearchableLayer):
        module.add_module('mutables', nn.ModuleDict())
        module.__class__ = _class_of(type(module))
    return cast(SearchableLayer, module)


def make_searchable_layer(module: nn.Module, name: str, mutable: DifferentiableValue) -> None:
    """Let a layer choose by one more mutable, in place."""
    _make_searchable(module).mutables[name] = mutable
    largest = getattr(mutable, 'largest', ())
    weight: Any = module._parameters.get('weight')
    has_kernel = isinstance(mutable, DifferentiableKernel) and weight is not None
    if has_kernel and tuple(weight.shape[2:]) != largest:
        outer = weight.new_zeros(*weight.shape[:2], *largest)
        module.register_parameter('outer', nn.Parameter(outer))


def call_norms(model: nn.Module) -> None:
    """Let transformers of PyTorch call their norms where features may be dead, in place."""
    for module in model.modules():
        kinds = nn.TransformerEncoder, nn.TransformerEncoderLayer
        parts = module.modules() if isinstance(module, kinds) else ()
        if any(isinstance(part, _SearchableNorm) for part in parts):
            _make_searchable(module)


def restore_layer(module: nn.Module) -> None:
    """Give a layer its class back, without mutables, in place."""
    if isinstance(module, SearchableLayer):
        cast(Any, module).__class__ = original_class(module)
        module._modules.pop('mutables', None)
        module._parameters.pop('outer', None)
