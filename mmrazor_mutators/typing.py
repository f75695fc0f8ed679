"""Names for the types that travel between the floors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ['ConfigDict', 'LossFn', 'Mixture', 'Relax', 'SearchSpaces', 'Subnet']

ConfigDict = Mapping[str, Any]
"""A config: ``{'type': name, argument: value, ...}``."""

SearchSpaces = dict[str, dict[str, Any]]
"""``{space_id: {'modules', 'choice_names', 'num_chosen', 'space_mask'}}``."""

Subnet = dict[str, dict[str, Any]]
"""``{space_id: {'chosen': [choice names], ...}}``, safe to write as YAML."""

LossFn = Callable[[Any, Any], Tensor]
"""``(outputs, targets) -> scalar``."""


class Mixture(NamedTuple):
    """How the choices of one space are mixed in one forward pass.

    Attributes:
        weights: What multiplies each choice, shape ``(num_choices,)``.
        paths: Indices of the choices that are run, or ``None`` for all of
            them.  A choice that is not run must have the weight 0; it lends the
            gradient of that weight, so that a straight-through estimator
            reaches its logit.
        silent: Indices of further choices that run without a graph: their
            outputs give the exact gradient of their weights, which are 0,
            and nothing is learnt in them.
    """

    weights: Tensor
    paths: tuple[int, ...] | None = None
    silent: tuple[int, ...] = ()


Relax = Callable[[Tensor], Mixture]
"""``arch_param -> Mixture``: what a mutator lends to the mutables of a space."""
