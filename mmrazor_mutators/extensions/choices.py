"""What several extensions ask a mutator about its choices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from ..errors import ConfigError, did_you_mean
from ..mutables import MutableModule, holder_of

__all__ = [
    'check_choice_names',
    'check_finite',
    'check_logits',
    'check_names_occur',
    'check_scores',
    'check_stages',
    'choice_scores',
    'named_candidates',
]


def check_finite(name: str, value: Any, minimum: float = -math.inf) -> float:
    """Return ``value`` if it is a finite number of at least ``minimum``.

    Raises:
        ConfigError: It is not.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < minimum:
        least = '' if minimum == -math.inf else f' of at least {minimum:g}'
        raise ConfigError(f'Expected `{name}` to be a finite number{least}, but got {value!r}')
    return float(value)


def check_stages(name: str, stages: Any) -> dict[float, Any]:
    """Return ``stages`` if it is ``{start: value}`` with epochs or parts of all epochs.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(stages, Mapping) or not stages:
        raise ConfigError(
            f'Expected `{name}` to be a mapping of epochs (ints) or parts of all epochs '
            f'(floats between 0 and 1), but got {stages!r}'
        )
    for start in stages:
        whole = isinstance(start, int) and not isinstance(start, bool) and start >= 0
        if not whole and not (isinstance(start, float) and 0 < start < 1):
            raise ConfigError(
                f'Expected the keys of `{name}` to be epochs (ints from 0 on) or parts of all '
                f'epochs (floats between 0 and 1), but got {start!r}'
            )
    return dict(stages)


def check_choice_names(names: Any) -> tuple[str, ...]:
    """Return ``names`` as a tuple, if it is a list of names of choices.

    Raises:
        ConfigError: It is not.
    """
    listed = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else ()
    if not listed or not all(isinstance(name, str) for name in listed):
        raise ConfigError(f'Expected `names` to be a list of choice names, but got {names!r}')
    return listed


def check_names_occur(mutator: Any, names: tuple[str, ...], prefix: str = '') -> None:
    """Refuse names that no space has among its choices.

    Raises:
        ConfigError: The search space has none of them.
    """
    spaces = {sid: s for sid, s in mutator.search_spaces.items() if sid.startswith(prefix)}
    known = dict.fromkeys(name for space in spaces.values() for name in space['choice_names'])
    if not spaces:
        raise ConfigError(
            f'Expected `prefix` to begin the id of a space, but got {prefix!r}; '
            f'{did_you_mean(prefix, mutator.search_spaces)}'
        )
    if not set(names) & set(known):
        raise ConfigError(
            f'Expected `names` to hold the name of a choice, but got {names}; '
            f'{did_you_mean(names[0], known)}'
        )


def check_scores(extension: object, mutator: Any) -> None:
    """Refuse a mutator that cannot say how good a choice is.

    Raises:
        ConfigError: It has no ``choice_probs``.
    """
    if not hasattr(mutator, 'choice_probs'):
        raise ConfigError(
            f'{type(extension).__name__} compares choices by `choice_probs`, which '
            f'{type(mutator).__name__} lacks; derive it from DartsMutator'
        )


def check_logits(extension: object, mutator: Any) -> None:
    """Refuse a mutator whose architecture parameters are no logits.

    Raises:
        ConfigError: They are something else, such as probabilities.
    """
    if not getattr(mutator, 'has_logits', True):
        raise ConfigError(
            f'{type(extension).__name__} needs logits, which the architecture parameters of '
            f'{type(mutator).__name__} are not'
        )


def choice_scores(mutator: Any, temperature: float = 1.0) -> dict[str, dict[str, float]]:
    """Return for every space how good each choice is that was not dropped.

    Args:
        mutator: Has ``choice_probs``.
        temperature: What the logits are divided by, above 0.
    """
    scores = {}
    for space_id, logits in mutator.kept_arch_params().items():
        probs = mutator.choice_probs(logits.detach() / temperature)
        scores[space_id] = dict(
            zip(mutator.kept_choices(space_id), probs.tolist(), strict=True)
        )
    return scores


def named_candidates(
    mutator: Any, names: tuple[str, ...]
) -> Iterator[tuple[MutableModule, nn.Module]]:
    """Yield each mutable that has a choice of one of ``names``, with each such choice."""
    for space in mutator.search_spaces.values():
        for mutable in space['modules']:
            for name in names:
                choices = holder_of(mutable)
                if choices is not None and name in choices:
                    yield mutable, choices[name]
