"""Where logits start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError, SearchSpaceError, did_you_mean

__all__ = ['LogitInit', 'check_init', 'start_logits']

LogitInit = Mapping[str, Mapping[str, float]]
"""``{wildcard of space ids: {choice: logit}}``."""

_ORIGINAL = 'original'


def check_init(init: Any) -> dict[str, dict[str, float]]:
    """Return ``init`` as a dict of dicts, empty for ``None``.

    Raises:
        ConfigError: Another form, or a logit that is no finite number.
    """
    if init is None:
        return {}
    if not isinstance(init, Mapping) or not all(isinstance(v, Mapping) for v in init.values()):
        raise ConfigError(
            "Expected `init` to be {space ids: {choice: logit}}, such as {'*': {'original': "
            f'2.0}}}}, but got {init!r}'
        )
    for pattern, logits in init.items():
        for name, logit in logits.items():
            number = isinstance(logit, (int, float)) and not isinstance(logit, bool)
            if not number or not math.isfinite(logit):
                raise ConfigError(
                    f'Expected init[{pattern!r}][{name!r}] to be a finite number, but got '
                    f'{logit!r}'
                )
    return {str(pattern): dict(logits) for pattern, logits in init.items()}


def start_logits(
    mutator: Any, built: nn.ParameterDict, init: Mapping[str, Mapping[str, float]]
) -> None:
    """Let new logits start where ``init`` says.

    Args:
        mutator: Knows the spaces.
        built: New parameters, changed in place.
        init: See :func:`check_init`.

    Raises:
        ConfigError: Architecture parameters that are no logits.
        SearchSpaceError: A wildcard that fits no space, or a choice that none of the spaces
            that it fits has.
    """
    if init and not getattr(mutator, 'has_logits', True):
        raise ConfigError(
            f'`init` gives logits, which the architecture parameters of '
            f'{type(mutator).__name__} are not'
        )
    spaces = [space_id for space_id in built if space_id in mutator.search_spaces]
    for pattern, logits in init.items():
        fitting = [space_id for space_id in spaces if fnmatchcase(space_id, pattern)]
        if not fitting:
            raise SearchSpaceError(
                f'`init` names the spaces {pattern!r}, but there is none; '
                f'{did_you_mean(pattern, spaces)}'
            )
        for name, logit in logits.items():
            known: list[str] = []
            found = False
            for space_id in fitting:
                space = mutator.search_spaces[space_id]
                names = space['choice_names']
                own = getattr(space['modules'][0], 'original', None)
                choice = own if name == _ORIGINAL and name not in names else name
                known.extend(names)
                if choice in names:
                    found = True
                    with torch.no_grad():
                        built[space_id][names.index(choice)] = logit
            if not found:
                raise SearchSpaceError(
                    f'`init` names the choice {name!r}, which no space {pattern!r} has; '
                    f'{did_you_mean(name, dict.fromkeys(known))}'
                )
