"""What a saved state holds, checked field by field before any of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..errors import ConfigError
from .checks import check_optimizer_state

__all__ = [
    'check_counter',
    'check_fields',
    'check_names',
    'check_optimizer_fields',
    'shortened',
]

_LIKE_PARAMS = {
    'acc_delta',
    'exp_avg',
    'exp_avg_sq',
    'exp_inf',
    'grad_avg',
    'max_exp_avg_sq',
    'momentum_buffer',
    'square_avg',
    'sum',
}
"""What PyTorch's optimizers keep in the shape of a parameter."""


_NOT_NEGATIVE = {'betas', 'eps', 'lr', 'momentum', 'weight_decay'}


def check_counter(name: str, value: Any) -> int:
    """Return a number of epochs or steps.

    Raises:
        ConfigError: It is no int of at least 0.

    >>> check_counter('epoch', 3)
    3
    """
    if type(value) is not int or value < 0:
        raise ConfigError(
            f'Expected `{name}` of the saved state to be an int of at least 0, but got '
            f'{shortened(value)}'
        )
    return value


def check_fields(name: str, given: Any, ours: Any) -> None:
    """Refuse a saved value that is not of the kind of ours; numbers may have other values.

    Args:
        name: Where it stands, for messages.
        given: What was saved.  Keys that only one of both has are left to its user.
        ours: What would be saved now.

    Raises:
        ConfigError: Another type, shape or length.

    >>> check_fields('lr', 0.1, 1)
    >>> check_fields('lr', 'x', 1)
    Traceback (most recent call last):
    ...
    mmrazor_mutators.errors.ConfigError: Expected `lr` of the saved state to be a number, but \
got 'x'
    """
    fits = True
    if isinstance(ours, Tensor):
        what = f'a tensor of shape {tuple(ours.shape)} and {ours.dtype}'
        fits = (
            isinstance(given, Tensor)
            and given.shape == ours.shape
            and given.layout == ours.layout
        )
        fits = fits and given.is_floating_point() == ours.is_floating_point()
    elif isinstance(ours, Mapping):
        what = 'a dict'
        fits = isinstance(given, Mapping)
        for key in ours if fits else ():
            if key in given:
                check_fields(f'{name}.{key}', given[key], ours[key])
    elif isinstance(ours, (list, tuple)):
        what = f'{len(ours)} values'
        fits = isinstance(given, (list, tuple)) and len(given) == len(ours)
        for number, (theirs, own) in enumerate(zip(given, ours, strict=True) if fits else ()):
            check_fields(f'{name}[{number}]', theirs, own)
    elif isinstance(ours, bool) or ours is None:
        what = 'True, False or None'
        fits = given is None or isinstance(given, bool)
    elif isinstance(ours, (int, float)):
        what = 'a number'
        fits = isinstance(given, (int, float)) and not isinstance(given, bool)
        if type(ours) is int and isinstance(given, float):
            fits = fits and abs(given) != float('inf') and given == given
    else:
        what = f'a {type(ours).__name__}'
        fits = isinstance(given, type(ours))
    if not fits:
        raise ConfigError(
            f'Expected `{name}` of the saved state to be {what}, but got {shortened(given)}'
        )


def check_names(state: Mapping[Any, Any]) -> None:
    """Refuse the weights of a module of which one has no name.

    Raises:
        ConfigError: A key that is no string.
    """
    for key in state:
        if not isinstance(key, str):
            raise ConfigError(
                f'Expected the weights of the saved state to have names, but one has {key!r}'
            )


def check_optimizer_fields(name: str, optimizer: Optimizer, given: Any) -> None:
    """Refuse a state that ``optimizer`` cannot go on from.

    Raises:
        ConfigError: Which field, what was expected there, and what came.
    """
    ours = optimizer.state_dict()
    check_fields(name, given, {'state': {}, 'param_groups': ours['param_groups']})
    for key in ('state', 'param_groups'):
        if key not in given:
            raise ConfigError(f'Expected the state of the {name} to have `{key}`')
    for number, group in enumerate(given['param_groups']):
        for key in ('params', *optimizer.defaults):
            needed = key in ours['param_groups'][number] and key not in group
            if needed and not _has_a_default(optimizer, group, key):
                raise ConfigError(f'Expected `{name}.param_groups[{number}]` to have `{key}`')
        for key in _NOT_NEGATIVE & group.keys():
            _check_range(f'{name}.param_groups[{number}].{key}', group[key], key == 'betas')
    check_optimizer_state(name, optimizer, given)
    numbered = [n for group in ours['param_groups'] for n in group['params']]
    params = [param for group in optimizer.param_groups for param in group['params']]
    shapes = dict(zip(numbered, params, strict=True))
    groups = {n: group for group in given['param_groups'] for n in group['params']}
    for number, entry in given['state'].items():
        path = f'{name}.state.{number}'
        check_fields(path, entry, {})
        lacking = _kept_by(optimizer, groups.get(number)) - entry.keys() if entry else ()
        if lacking:
            raise ConfigError(
                f'Expected `{path}` of the saved state to have {", ".join(sorted(lacking))}, '
                f'but it has {shortened([*entry])}'
            )
        for key, value in entry.items():
            if key == 'momentum_buffer' and value is None:
                continue
            if key in _LIKE_PARAMS and number in shapes:
                check_fields(f'{path}.{key}', value, shapes[number].detach())
            elif key == 'step':
                is_one = isinstance(value, Tensor) and value.numel() == 1
                _check_range(f'{path}.step', value.item() if is_one else value)
            elif not isinstance(value, (Tensor, int, float, bool, type(None))):
                check_fields(f'{path}.{key}', value, torch.zeros(()))


def _has_a_default(optimizer: Optimizer, group: Mapping[str, Any], key: str) -> bool:
    """Whether an optimizer sets an option that a state of an earlier version has not."""
    kind: Any = type(optimizer)
    options = {**group, 'params': [0]}
    with suppress(Exception):  # What it does not take so has no default either.
        probe: Optimizer = kind([torch.zeros(1, requires_grad=True)], **optimizer.defaults)
        probe.load_state_dict({'state': {}, 'param_groups': [options]})
        return key in probe.param_groups[0]
    return False


def _kept_by(optimizer: Optimizer, group: Mapping[str, Any] | None) -> set[str]:
    """Return what an optimizer of PyTorch keeps of a parameter once it has moved it."""
    kind: Any = type(optimizer)
    if group is None or kind.__module__.partition('.')[0] != 'torch':
        return set()
    param = torch.zeros(1, requires_grad=True)
    param.grad = torch.ones(1)
    options = {key: value for key, value in group.items() if key in optimizer.defaults}
    options.update(fused=False, capturable=False)
    known = {key: value for key, value in options.items() if key in optimizer.defaults}
    with suppress(Exception):  # Not all of them take their options so; then nothing is known.
        probe: Optimizer = kind([param], **known)
        probe.step()
        return {*probe.state[param]}
    return set()


def _check_range(name: str, value: Any, is_share: bool = False) -> None:
    for number in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(number, Tensor) and number.numel() == 1:
            number = number.item()
        check_fields(name, number, 0)
        if not 0 <= number < (1 if is_share else float('inf')):
            raise ConfigError(
                f'Expected `{name}` of the saved state to be at least 0'
                f'{" and below 1" if is_share else ""}, but got {value!r}'
            )


def shortened(value: Any) -> str:
    """Return what a message shows of a value.

    >>> shortened(torch.zeros(2))
    'a tensor of shape (2,) and torch.float32'
    """
    if isinstance(value, Tensor):
        sparse = '' if value.layout == torch.strided else 'sparse '
        return f'a {sparse}tensor of shape {tuple(value.shape)} and {value.dtype}'
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
