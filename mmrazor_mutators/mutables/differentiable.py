"""What makes a mutable differentiable: an architecture parameter and its relaxation."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BindingError, InputError, SearchSpaceError
from ..functional import gumbel_softmax
from ..typing import Mixture, Relax
from .base import MutableModule

__all__ = ['DifferentiableMutable', 'GumbelMutable', 'sort_out']


_OURS = __name__.split('.')[0]


def sort_out(
    mutable: Any, inputs: tuple[Any, ...], arch_param: Any, relax: Any
) -> tuple[tuple[Any, ...], Tensor | None, Relax | None]:
    """Return further inputs of the choices, logits and relaxation.

    Code for MMRazor 0.x passes logits by position as well.  They are looked for there only
    where nobody has lent any, and where a mutable cannot do without, is fixed, or has a
    ``forward`` of its user's, which passes on what it got: all else by position goes to the
    choices.

    Raises:
        InputError: What came by the name of logits or of a relaxation is none.
    """
    _check_lent(mutable, arch_param, relax)
    by_position = getattr(mutable, 'reads_positional_logits', True)
    if arch_param is not None or not inputs or not by_position:
        return inputs, arch_param, relax
    first, *others = inputs
    needs_logits = (
        getattr(mutable, 'with_arch_param', True)
        and getattr(mutable, 'original', None) is None
        and not mutable.is_fixed
    )
    if needs_logits and _are_logits(mutable, first):
        if relax is None and others and callable(others[0]):
            relax = others.pop(0)
        return tuple(others), first, relax
    passes_on = not type(mutable).forward.__module__.startswith(f'{_OURS}.')
    may_drop = passes_on or (mutable.is_fixed and not _takes_more(mutable))
    if may_drop and (first is None or _are_logits(mutable, first)):
        inputs = tuple(others)  # Logits that are not needed.
    return inputs, None, relax


def _takes_more(mutable: Any) -> bool:
    """Whether a choice takes more than one argument by position."""
    for choice in getattr(mutable, 'choices', nn.ModuleDict()).values():
        parameters = inspect.signature(choice.forward).parameters.values()
        kinds = [p.kind for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        if len(kinds) - kinds.count(inspect.Parameter.VAR_KEYWORD) > 1:
            return True
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            return True
    return False


def _are_logits(mutable: Any, value: Any) -> bool:
    """Whether a value can be an architecture parameter of a mutable."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    own = getattr(type(mutable), 'build_arch_param', None)
    if own is not DifferentiableMutable.build_arch_param:
        return True  # Logits of a user's own form.
    return value.shape == (len(mutable.full_choice_names),) or (
        mutable.is_fixed and value.shape == (mutable.num_choices,)
    )


def _check_lent(mutable: Any, arch_param: Any, relax: Any) -> None:
    """Refuse what is meant for the choices, but has a name of what a mutator lends."""
    if arch_param is not None and not _are_logits(mutable, arch_param):
        came = f'shape {tuple(arch_param.shape)}' if isinstance(arch_param, Tensor) else None
        name, came = 'arch_param', came or repr(arch_param)
        expected = f'the logits of the {len(mutable.full_choice_names)} choices'
    elif relax is not None and not callable(relax):
        name, came, expected = 'relax', repr(relax), 'what relaxes the logits'
    else:
        return
    raise InputError(
        f'In space {mutable.space_id!r}: expected `{name}` to be {expected}, as a mutator '
        f'lends it, but got {came}; an argument of that name that is meant for the choices '
        'has to come by position'
    )


class DifferentiableMutable(MutableModule):
    """A mutable whose choices are mixed by relaxed logits.

    Args:
        with_arch_param: Whether this space has an architecture parameter of
            its own.  Without one the choices are simply summed.
        original: The choice that the network had before there was one to make.  It
            runs by itself as long as no architecture parameter is lent.
        **kwargs: As for the mutable that this class is combined with.

    Attributes:
        reads_positional_logits: Whether logits may come by position, as in MMRazor 0.x;
            otherwise all that does is for the choices.

    Raises:
        SearchSpaceError: An ``original`` that is no choice.
    """

    reads_positional_logits = True

    def __init__(
        self, with_arch_param: bool = True, original: str | None = None, **kwargs: Any
    ) -> None:
        self.original = original
        super().__init__(**kwargs)
        if not isinstance(with_arch_param, bool):
            raise SearchSpaceError(
                f'In space {self.space_id!r}: expected `with_arch_param` to be a bool, '
                f'but got {with_arch_param!r}'
            )
        self.with_arch_param = with_arch_param

    def set_choice_names(self, names: Iterable[str]) -> None:
        given = tuple(names)
        if self.original is not None and self.original not in given:
            raise SearchSpaceError(
                f'In space {self.space_id!r}: expected `original` to be one of the choices '
                f'{", ".join(map(str, given))}, but got {self.original!r}'
            )
        super().set_choice_names(given)

    @property
    def initial_names(self) -> tuple[str, ...]:
        """Names of the choices that run before any mask is set: the original, or all."""
        return self.full_choice_names if self.original is None else (self.original,)

    @property
    def with_arch_param(self) -> bool:
        """Whether the space has an architecture parameter; none once the choice is made."""
        return self._with_arch_param and not self.is_fixed

    @with_arch_param.setter
    def with_arch_param(self, value: bool) -> None:
        self._with_arch_param = value

    def build_arch_param(self) -> nn.Parameter | None:
        """Return logits of shape ``(num_choices,)`` close to zero, 1e-3 N(0, 1)."""
        if not self.with_arch_param:
            return None
        return nn.Parameter(1e-3 * torch.randn(self.num_choices))

    def compute_arch_probs(self, arch_param: Tensor) -> Tensor:
        """Relax logits to weights where no mutator does: softmax.

        A subclass that overrides this keeps its say under every mutator.
        """
        return arch_param.softmax(-1)

    def mixture(self, arch_param: Tensor | None, relax: Relax | None) -> Mixture | None:
        """Return how to mix the choices, or ``None`` if those that run are to be summed.

        Raises:
            BindingError: The space has an architecture parameter and no original, but no
                parameter came.
        """
        if self.is_fixed or not self.with_arch_param:
            return None
        if arch_param is None:
            if self.original is not None:
                return None
            raise BindingError(
                f'The mutable of space {self.space_id!r} got no `arch_param`; call '
                'mutator.prepare_from_supernet(supernet) first, or pass one to forward'
            )
        if relax is not None:
            return relax(arch_param)
        return Mixture(self.compute_arch_probs(arch_param))


class GumbelMutable(DifferentiableMutable):
    """A differentiable mutable that draws its weights by the Gumbel trick.

    Args:
        tau: Temperature, above 0.
        hard: Whether to return one-hot weights with the soft gradient.
        **kwargs: As for :class:`DifferentiableMutable`.
    """

    def __init__(self, tau: float = 1.0, hard: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.set_temperature(tau)
        self.hard = hard

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the next draws.

        Raises:
            SearchSpaceError: Not above 0.
        """
        if not isinstance(temperature, (int, float)) or not temperature > 0:
            raise SearchSpaceError(
                f'In space {self.space_id!r}: expected a temperature above 0, '
                f'but got {temperature!r}'
            )
        self.tau = float(temperature)

    def compute_arch_probs(self, arch_param: Tensor) -> Tensor:
        """Draw weights from the Gumbel-softmax of the logits."""
        return gumbel_softmax(arch_param, self.tau, hard=self.hard)
