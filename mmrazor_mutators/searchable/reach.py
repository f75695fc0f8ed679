"""Whether features that shall be chosen reach only layers in which they can be."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import SearchSpaceError
from ..mutables.attention import reads_alike
from ..mutables.layers import CONVS, TRANSPOSED, is_norm
from .rules import Place
from .ties import Linked, num_features

__all__ = ['READERS', 'check_linked']

READERS = (*CONVS, *TRANSPOSED, nn.Linear)
"""Layers that read all of their features at once."""

_ALIKE = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.PReLU,
    nn.Embedding,
)
"""Layers that treat each feature, or each group of them, by itself."""


def check_linked(place: Place, model: nn.Module, linked: Sequence[Linked]) -> None:
    """Refuse features that reach a layer in which they cannot be chosen.

    Raises:
        SearchSpaceError: Which layer that is.
    """
    names = {id(module): name for name, module in model.named_modules()}
    owners: dict[int, set[int]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), set()).add(id(module))
    for part in linked:
        module, name = part.module, names.get(id(part.module), '?')
        if part.parameter is not None:
            count = module._parameters[part.parameter].shape[part.dim]  # type: ignore[union-attr]
            if part.own and max(part.own) >= count:
                raise SearchSpaceError(
                    f'At {place}: its channels reach the parameter {part.parameter!r} of '
                    f'{name!r} ({type(module).__name__}) through a reshape that mixes them '
                    'with something else; leave this place out'
                )
            continue
        attends = reads_alike(module)
        reads = part.axis == 'in' and (isinstance(module, READERS) or attends)
        writes = part.axis == 'out' and isinstance(module, (*READERS, *_ALIKE))
        if not (reads or writes or is_norm(module) or isinstance(module, _ALIKE)):
            raise SearchSpaceError(
                f'At {place}: its channels reach {name!r} ({type(module).__name__}), whose '
                'features cannot be chosen; choose the width of a layer inside of a block, or '
                '`heads` of attention'
            )
        count = num_features(module, part.axis)
        if part.own and max(part.own) >= count:
            raise SearchSpaceError(
                f'At {place}: its channels reach {name!r} ({type(module).__name__}) through a '
                f'reshape that mixes them with something else, so that its {count} features '
                'cannot be told apart; leave this place out'
            )
        weight = module._parameters.get('in_proj_weight' if attends else 'weight')
        if weight is not None and len(owners[id(weight)]) > 1:
            raise SearchSpaceError(
                f'At {place}: its channels reach {name!r}, which shares its weight with '
                'another layer, as an embedding does with an output; leave this place out, or '
                'untie the weights first'
            )
