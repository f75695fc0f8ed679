"""Choices among modules: operations, activations, norms, and blocks that may be left out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..builder import build_op
from ..errors import SearchSpaceError, did_you_mean
from ..host import build_norm_layer
from ..mutables import DifferentiableOP, Skip
from .rules import Place

__all__ = ['SearchableModule', 'build_alternatives']

_NORMS = ('bn', 'gn', 'in', 'ln')


class SearchableModule(DifferentiableOP):
    """A module of a user's model with alternatives beside it.

    Its attributes are those of the original, where it has none of that name itself.

    Args:
        **kwargs: As for :class:`DifferentiableOP`, with ``original``.

    Attributes:
        stood_for: The original, alone in a tuple.
    """

    stood_for: tuple[nn.Module]

    reads_positional_logits = False

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # It is asked for what it stood for also where that was not chosen for good.
            stood_for = self.__dict__.get('stood_for')
            if stood_for is None:
                raise
            return getattr(stood_for[0], name)

    @property
    def choice_kinds(self) -> tuple[str, ...]:
        """Nothing: places of one space may have originals of different types."""
        return ()


def build_alternatives(place: Place, like: Tensor) -> SearchableModule:
    """Return what stands in a place where modules are chosen; the original is a choice.

    Args:
        place: Where.
        like: Of the device and dtype of new modules.

    Raises:
        SearchSpaceError: Choices that cannot be built, with what to say instead.
    """
    build = {'ops': _ops, 'activation': _activations, 'norm': _norms, 'depth': _depth}
    original, others = build[place.kind](place)
    if original in others:
        raise SearchSpaceError(
            f'At {place}: {original!r} is the name of the original itself; call the other '
            'choice something else'
        )
    if not others:
        raise SearchSpaceError(
            f'At {place}: expected another choice beside the original, but there is none'
        )
    for module in others.values():
        module.to(like)
        if not place.module.training:
            module.eval()
    choices = {original: place.module, **others}
    built = SearchableModule(space_id=place.space_id, choices=choices, original=original)
    built.stood_for = (place.module,)  # In a tuple, so that it is no child.
    built.training = place.module.training
    return built


def _ops(place: Place) -> tuple[str, dict[str, nn.Module]]:
    value = place.value
    if callable(value) and not isinstance(value, (Mapping, nn.Module)):
        value = value(place.module)
        given: Any = value
    else:
        # A ready module is a template: each place gets its own.
        given = copy.deepcopy(value)
    if not isinstance(given, Mapping):
        raise SearchSpaceError(
            f'At {place}: expected `ops` to be {{name: module or config}}, or a function of '
            f'the original that returns this, but got {value!r}'
        )
    built = {
        str(name): op if isinstance(op, nn.Module) else build_op(op)
        for name, op in given.items()
    }
    return 'original', built


def _names(place: Place) -> list[Any]:
    if isinstance(place.value, (str, Mapping)) or not isinstance(place.value, (list, tuple)):
        raise SearchSpaceError(
            f'At {place}: expected `{place.kind}` to be a list of names or configs'
        )
    return list(place.value)


def _activations(place: Place) -> tuple[str, dict[str, nn.Module]]:
    known = {
        name.lower(): cls
        for name, cls in vars(nn.modules.activation).items()
        if isinstance(cls, type) and issubclass(cls, nn.Module) and cls is not nn.Module
    }
    others: dict[str, nn.Module] = {}
    for name in _names(place):
        if isinstance(name, Mapping):
            others[str(name.get('type', 'activation')).lower()] = build_op(name)
            continue
        if str(name).lower() == 'identity':
            others['identity'] = nn.Identity()
            continue
        cls = known.get(str(name).lower())
        if cls is None:
            raise SearchSpaceError(
                f'At {place}: there is no activation {name!r}; '
                f'{did_you_mean(str(name).lower(), sorted(known))}'
            )
        if type(place.module) is not cls:
            others[str(name).lower()] = cls()
    return 'original', others


def _norms(place: Place) -> tuple[str, dict[str, nn.Module]]:
    norm: Any = place.module
    count = getattr(norm, 'num_features', None) or getattr(norm, 'num_channels', None)
    if not isinstance(count, int):
        raise SearchSpaceError(
            f'At {place}: expected a batch, group or instance norm, which knows its channels, '
            f'but got {type(norm).__name__}'
        )
    dims = next((d for d in '123' if type(norm).__name__.endswith(f'Norm{d}d')), '2')
    classes: dict[str, Any] = {
        'bn': lambda: getattr(nn, f'BatchNorm{dims}d')(count),
        'gn': lambda: nn.GroupNorm(_groups(count), count),
        'in': lambda: getattr(nn, f'InstanceNorm{dims}d')(count, affine=True),
        'ln': lambda: nn.GroupNorm(1, count),
    }
    own = {'BatchNorm': 'bn', 'InstanceNorm': 'in', 'GroupNorm': 'gn'}
    others: dict[str, nn.Module] = {}
    for name in _names(place):
        if isinstance(name, Mapping):
            others[str(name.get('type', 'norm')).lower()] = build_norm_layer(dict(name), count)[
                1
            ]
            continue
        if name not in classes:
            raise SearchSpaceError(
                f'At {place}: there is no norm {name!r}; {did_you_mean(str(name), _NORMS)}'
            )
        if own.get(type(norm).__name__.rstrip('123d')) != name:
            others[name] = classes[name]()
    return 'original', others


def _groups(count: int) -> int:
    """Return how many groups of at least 8 channels a group norm has, at most 32."""
    return max(g for g in range(1, 33) if count % g == 0 and (g == 1 or count // g >= 8))


def _depth(place: Place) -> tuple[str, dict[str, nn.Module]]:
    if place.value is not True:
        raise SearchSpaceError(f'At {place}: expected `depth` to be True')
    return 'keep', {'skip': Skip()}


def like_of(module: nn.Module, model: nn.Module) -> Tensor:
    """Return a tensor of the device and dtype of a module, or of the model around it."""
    for part in (module, model):
        for tensor in (*part.parameters(), *part.buffers()):
            if tensor.is_floating_point():
                return torch.empty(0, device=tensor.device, dtype=tensor.dtype)
    return torch.empty(0)
