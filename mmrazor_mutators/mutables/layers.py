"""Layers of a user's model that choose among their own values, in their own place.

Such a layer stays the object that it was, with its names and parameters.  It gets a subclass
of its class, whose ``weight`` is the parameter times the masks of its mutables: whoever
reads the weight sees what is chosen.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .sizes import DifferentiableKernel
from .value import DifferentiableValue

__all__ = [
    'SearchableLayer',
    'features_of',
    'make_searchable_layer',
    'original_class',
    'restore_layer',
]

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS: tuple[type, ...] = (nn.LayerNorm, *filter(None, [getattr(nn, 'RMSNorm', None)]))
_CALLS = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


def features_of(module: Any) -> tuple[int, int]:
    """Return how many features a layer reads and returns, 0 where nobody knows.

    >>> features_of(nn.Linear(3, 4)), features_of(nn.LayerNorm(5)), features_of(nn.ReLU())
    ((3, 4), (5, 5), (0, 0))
    """
    if isinstance(module, (*CONVS, *TRANSPOSED)):
        return module.in_channels, module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    for name in ('num_features', 'num_channels', 'embedding_dim', 'embed_dim'):
        if isinstance(getattr(module, name, None), int):
            return (getattr(module, name),) * 2
    shape = getattr(module, 'normalized_shape', None)
    return (int(shape[-1]),) * 2 if shape else (0, 0)


class SearchableLayer(nn.Module):
    """What a layer with mutables of its own has on top of its class.

    Attributes:
        mutables: ``nn.ModuleDict`` of :class:`DifferentiableValue`: ``'kernel'``, and
            ``'in0'``, ``'in1'`` ... for each tie of features that it reads.
    """

    mutables: nn.ModuleDict
    _original: type[nn.Module]

    @property
    def weight(self) -> Tensor:
        """The parameter of that name, as far as it is chosen."""
        weight = self._parameters['weight']
        for mutable in self.mutables.values():
            weight = mutable(weight)
        return cast(Tensor, weight)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made here, so that pickle would not find it.
        return _rebuild, (original_class(self),), self.__dict__.copy()


class _SearchableConv(SearchableLayer):
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

    @property
    def weight(self) -> Tensor:
        """The parameter of that name: what is dead is left out by whoever reads the map."""
        return cast(Tensor, self._parameters['weight'])

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map."""
        alive = torch.ones(x.shape[-1:], dtype=x.dtype, device=x.device)
        for mutable in self.mutables.values():
            alive = mutable(alive)
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


def numeric_padding(conv: Any) -> tuple[int, ...]:
    """Return the padding of a convolution on one side of each dimension, as numbers."""
    if conv.padding == 'valid':
        return (0,) * len(conv.kernel_size)
    if conv.padding == 'same':
        sides = zip(conv.kernel_size, conv.dilation, strict=True)
        return tuple(dilation * (side - 1) // 2 for side, dilation in sides)
    return tuple(conv.padding)


def is_norm(module: nn.Module) -> bool:
    """Whether a layer normalises over its last dimension.

    A subclass may do it over another one, as ``LayerNorm2d`` of some libraries over channels.

    >>> is_norm(nn.LayerNorm(3)), is_norm(nn.BatchNorm1d(3))
    (True, False)
    """
    cls: Any = original_class(module)
    kind: Any = next((kind for kind in _NORMS if issubclass(cls, kind)), None)
    if kind is None or cls.forward is kind.forward:
        return kind is not None
    norm = cast(Any, module)
    like = next(module.parameters(recurse=False), torch.empty(()))
    count = 30 * math.prod(norm.normalized_shape)
    x = torch.arange(count, device=like.device).sin().to(like.dtype)
    x = x.reshape(2, 3, 5, *norm.normalized_shape)
    try:
        with torch.no_grad():
            return torch.allclose(cls.forward(norm, x), kind.forward(norm, x), atol=1e-4)
    except Exception:  # It asks for another shape.
        return False


_classes: dict[type, type] = {}


def _class_of(cls: type) -> Any:
    if cls in _classes:
        return _classes[cls]
    if issubclass(cls, CONVS):
        mixin: type[SearchableLayer] = _SearchableConv
    else:
        mixin = _SearchableNorm if issubclass(cls, _NORMS) else SearchableLayer
    name = f'Searchable{cls.__name__}'
    made = _classes[cls] = type(name, (mixin, cls), {'__module__': __name__, '_original': cls})
    return made


def _rebuild(cls: type[nn.Module]) -> nn.Module:
    made = _class_of(cls)
    return made.__new__(made)


def original_class(module: nn.Module) -> type[nn.Module]:
    """Return the class that a layer had before it was made searchable."""
    return type(module)._original if isinstance(module, SearchableLayer) else type(module)


def make_searchable_layer(module: nn.Module, name: str, mutable: DifferentiableValue) -> None:
    """Let a layer choose by one more mutable, in place."""
    if not isinstance(module, SearchableLayer):
        mutables = nn.ModuleDict()
        module.add_module('mutables', mutables)
        module.__class__ = _class_of(type(module))
    layer = cast(SearchableLayer, module)
    layer.mutables[name] = mutable
    largest = getattr(mutable, 'largest', ())
    weight: Any = module._parameters.get('weight')
    has_kernel = isinstance(mutable, DifferentiableKernel) and weight is not None
    if has_kernel and tuple(weight.shape[2:]) != largest:
        outer = weight.new_zeros(*weight.shape[:2], *largest)
        module.register_parameter('outer', nn.Parameter(outer))


def restore_layer(module: nn.Module) -> None:
    """Give a layer its class back, without mutables, in place."""
    if isinstance(module, SearchableLayer):
        cast(Any, module).__class__ = original_class(module)
        module._modules.pop('mutables', None)
        module._parameters.pop('outer', None)
