"""Any model with choices in it, as an architecture that a config names."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..registry import ARCHITECTURES, MODELS
from ..typing import ConfigDict
from .convert import make_searchable
from .suggestions import suggest_rules

__all__ = ['build_searchable', 'example_tensors']


@ARCHITECTURES.register_module(name='Searchable')
def build_searchable(
    model: nn.Module | ConfigDict | str | Sequence[Any],
    rules: Sequence[Mapping[str, Any]] | str,
    example_inputs: Any,
) -> nn.Module:
    """Any model, with the choices that rules give it; see ``make_searchable``.

    The model itself is the architecture, so that its losses, if it computes some, its
    placeholders and its ``init_weights`` are what they are without this.

    Args:
        model: Config of a registered model, or of one that is imported by its path, as
            ``dict(type='torchvision.models.resnet18', num_classes=10)``, or that path alone;
            a list of these for one after another; or a module, which is copied.
        rules: As for ``make_searchable``, or ``'suggest'`` for those of ``suggest_rules``.
        example_inputs: What the model can be called with: a tensor by its shape, as
            ``[1, 3, 32, 32]``, or as ``dict(shape=[1, 6], below=11)`` for whole numbers from
            0 to 10; a list of these for several arguments, a dict of them by name; or
            tensors.

    Raises:
        ConfigError: A model, rules or inputs of another form.
        SearchSpaceError: A rule that matches nothing, or a choice that cannot work.

    >>> import mmrazor_mutators as mm
    >>> layers = [dict(type='torch.nn.Linear', in_features=4, out_features=8)]
    >>> layers += [dict(type='torch.nn.Linear', in_features=8, out_features=2)]
    >>> rules = [dict(match='0', width=[0.5, 1.0])]
    >>> cfg = dict(type='Searchable', model=layers, rules=rules, example_inputs=[1, 4])
    >>> mutator = mm.build_mutator(dict(type='DartsMutator'))
    >>> mutator.prepare_from_supernet(mm.build_architecture(cfg))
    >>> mutator.search_spaces['0']['choice_names']
    ('w4', 'w8')
    """
    built = _build(model)
    inputs = example_tensors(example_inputs)
    if isinstance(rules, str):
        if rules != 'suggest':
            raise ConfigError(
                f"Expected `rules` to be a list of rules or 'suggest', but got {rules!r}"
            )
        rules = found = suggest_rules(built, inputs)
        if not found:
            reasons = ''.join(f' ({reason})' for reason in found.left_out)
            raise ConfigError(
                f'Nothing is recognised in {type(built).__name__} that could be chosen'
                f'{reasons}; give `rules`, a list'
            )
    return make_searchable(built, rules, inputs)


def _build(model: Any) -> nn.Module:
    if isinstance(model, nn.Module):
        return copy.deepcopy(model)
    if isinstance(model, (list, tuple)) and model:
        return nn.Sequential(*map(_build, model))
    if isinstance(model, str):
        model = {'type': model}
    if not isinstance(model, Mapping):
        raise ConfigError(
            'Expected `model` to be a module, a config, a path such as '
            f"'torchvision.models.resnet18', or a list of these, but got {model!r}"
        )
    built = MODELS.build(model)
    if not isinstance(built, nn.Module):
        raise ConfigError(
            f'Expected {model.get("type")!r} to build an nn.Module, but it returns '
            f'{type(built).__name__}'
        )
    return built


def example_tensors(told: Any) -> Any:
    """Return example inputs from what a config says; the same ones each time.

    Args:
        told: See :func:`build_searchable`.

    Raises:
        ConfigError: Another form.

    >>> example_tensors([2, 3]).shape
    torch.Size([2, 3])
    >>> {
    ...     name: x.dtype
    ...     for name, x in example_tensors({'ids': dict(shape=[1], below=2)}).items()
    ... }
    {'ids': torch.int64}
    """
    generator = torch.Generator().manual_seed(0)
    if isinstance(told, Tensor) or _is_shape(told) or _is_tensor_config(told):
        return _tensor(told, generator)
    if isinstance(told, Mapping) and told:
        return {name: _tensor(value, generator) for name, value in told.items()}
    if isinstance(told, (list, tuple)) and told:
        return tuple(_tensor(value, generator) for value in told)
    raise _unknown(told)


def _is_shape(told: Any) -> bool:
    return (
        isinstance(told, (list, tuple))
        and bool(told)
        and all(isinstance(side, int) and not isinstance(side, bool) for side in told)
    )


def _is_tensor_config(told: Any) -> bool:
    return isinstance(told, Mapping) and 'shape' in told and set(told) <= {'shape', 'below'}


def _tensor(told: Any, generator: torch.Generator) -> Tensor:
    if isinstance(told, Tensor):
        return told
    shape = told['shape'] if _is_tensor_config(told) else told
    below = told.get('below') if _is_tensor_config(told) else None
    if not _is_shape(shape) or min(shape) < 1:
        raise _unknown(told)
    if below is None:
        return torch.randn(*shape, generator=generator)
    if not isinstance(below, int) or isinstance(below, bool) or below < 1:
        raise ConfigError(
            f'Expected `below` to be a whole number of at least 1, but got {below!r}'
        )
    return torch.randint(below, tuple(shape), generator=generator)


def _unknown(told: Any) -> ConfigError:
    return ConfigError(
        'Expected `example_inputs` to be a shape such as [1, 3, 32, 32], '
        'dict(shape=[1, 6], below=11) for whole numbers, tensors, or a list or dict of these, '
        f'but got {told!r}'
    )
