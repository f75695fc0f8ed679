"""Where logits start."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, SearchSpaceError, did_you_mean

__all__ = ['PREFERRED', 'LogitInit', 'check_init', 'keep_fitting', 'start_logits']

LogitInit = str | Callable[..., Any] | Mapping[str, Any]
"""``{wildcard of space ids: start}``, or a start for all spaces, see :func:`check_init`."""

PREFERRED = 2.0
"""The logit of a choice that is named alone; among eight it then weighs one half."""

_ORIGINAL = 'original'

_FORMS = (
    "{choice: logit}, such as {'original': 2.0}, a list or a tensor of all logits, the name "
    'of a choice, or a function of (space_id, choice_names) that returns one of these'
)


def check_init(init: Any) -> dict[str, Any]:
    """Return ``init`` as ``{wildcard of space ids: start}``, empty for ``None``.

    A start is ``{choice: logit}``, a sequence or a tensor of all logits of a space, the name
    of a choice, or a function of ``(space_id, choice_names)`` that returns one of these.

    Raises:
        ConfigError: Another form, or a logit that is no finite number.
    """
    if init is None:
        return {}
    if isinstance(init, str) or callable(init):
        return {'*': init}
    if not isinstance(init, Mapping):
        raise ConfigError(
            f'Expected `init` to be {{space ids: {{choice: logit}}}}, or in the place of '
            f'{{choice: logit}} one of {_FORMS}, but got {init!r}'
        )
    return {
        str(pattern): start if callable(start) else _check_start(start, f'init[{pattern!r}]')
        for pattern, start in init.items()
    }


def _check_start(start: Any, where: str) -> str | dict[str, float] | list[float]:
    """Return a start as a name, a dict or a list.

    Raises:
        ConfigError: Another form, or a logit that is no finite number.
    """
    if isinstance(start, str):
        return start
    if isinstance(start, Mapping):
        return {str(name): _check_logit(v, f'{where}[{name!r}]') for name, v in start.items()}
    if isinstance(start, Tensor):
        start = start.tolist()
    if not isinstance(start, Sequence):
        raise ConfigError(f'Expected {where} to be {_FORMS}, but got {start!r}')
    return [_check_logit(value, f'{where}[{i}]') for i, value in enumerate(start)]


def _check_logit(logit: Any, where: str) -> float:
    number = isinstance(logit, (int, float)) and not isinstance(logit, bool)
    if not number or not math.isfinite(logit):
        raise ConfigError(f'Expected {where} to be a finite number, but got {logit!r}')
    return float(logit)


def start_logits(mutator: Any, built: nn.ParameterDict, init: Mapping[str, Any]) -> None:
    """Let new logits start where ``init`` says.

    Args:
        mutator: Knows the spaces.
        built: New parameters, changed in place.
        init: See :func:`check_init`.

    Raises:
        ConfigError: Architecture parameters that are no logits, or a function that returns
            no start.
        SearchSpaceError: A wildcard that fits no space, a choice that none of the spaces
            that it fits has, or logits of another number of choices.
    """
    if init and not getattr(mutator, 'has_logits', True):
        raise ConfigError(
            f'`init` gives logits, which the architecture parameters of '
            f'{type(mutator).__name__} are not'
        )
    spaces = [space_id for space_id in built if space_id in mutator.search_spaces]
    for pattern, start in init.items():
        fitting = [space_id for space_id in spaces if fnmatchcase(space_id, pattern)]
        if not fitting:
            raise SearchSpaceError(
                f'`init` names the spaces {pattern!r}, but there is none; '
                f'{did_you_mean(pattern, spaces)}'
            )
        found: set[str] = set()
        wanted: set[str] = set()
        for space_id in fitting:
            space, value = mutator.search_spaces[space_id], start
            if callable(start):
                returned = start(space_id, tuple(space['choice_names']))
                value = _check_start(returned, f'what init[{pattern!r}] returns for {space_id}')
            _start_space(space_id, space, built[space_id], value, found, wanted)
        for name in sorted(wanted - found):
            known = dict.fromkeys(
                choice
                for sid in fitting
                for choice in mutator.search_spaces[sid]['choice_names']
            )
            raise SearchSpaceError(
                f'`init` names the choice {name!r}, which no space {pattern!r} has; '
                f'{did_you_mean(name, known)}'
            )


def keep_fitting(ours: nn.ParameterDict, built: nn.ParameterDict) -> None:
    """Take over ``built``, but keep each parameter of ours that still fits."""
    for name in list(ours):
        if name not in built or built[name].shape != ours[name].shape:
            del ours[name]
    for name, arch_param in built.items():
        if name not in ours:
            ours[name] = arch_param


def _start_space(
    space_id: str,
    space: Mapping[str, Any],
    arch_param: Tensor,
    start: str | Mapping[str, float] | Sequence[float],
    found: set[str],
    wanted: set[str],
) -> None:
    """Set the logits of a space; note the names that were given and those that it has."""
    names = list(space['choice_names'])
    if isinstance(start, str):
        start = {start: PREFERRED}
    if not isinstance(start, Mapping):
        if (len(start),) != tuple(arch_param.shape):
            raise SearchSpaceError(
                f'In space {space_id!r}: `init` gives {len(start)} logits, but there are '
                f'{len(names)} choices ({", ".join(names)})'
            )
        with torch.no_grad():
            arch_param.copy_(arch_param.new_tensor(start))
        return
    for name, logit in start.items():
        wanted.add(name)
        own = getattr(space['modules'][0], 'original', None)
        choice = own if name == _ORIGINAL and name not in names else name
        if choice in names:
            found.add(name)
            with torch.no_grad():
                arch_param[names.index(choice)] = logit
