"""Lend architecture parameters to mutables, and take them back.

``bind`` puts a ``functools.partial`` around the class-level ``forward`` of
every mutable, ``is_bound`` tells whether one is there, and ``release``
removes it.  What is lent is the parameter itself and a :class:`SpaceRelaxation`,
which turns it into weights once per forward pass of the supernet, however many
mutables share the space.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..errors import BindingError, InputError, SearchSpaceError
from ..mutables import DifferentiableMutable, MutableModule
from ..typing import Mixture, SearchSpaces
from .passes import ForwardScope

__all__ = ['SpaceRelaxation', 'bind', 'is_bound', 'rebind', 'release']


class SpaceRelaxation:
    """Turns the logits of one space into a mixture; lent to its mutables.

    Args:
        space_id: The space.
        arch_param: Its logits, shape ``(num_choices,)``.
        relax: Makes a mixture of other logits, or outside of a forward pass
            of the supernet.
        scope: Holds the mixtures of the forward pass that is running.
    """

    def __init__(
        self,
        space_id: str,
        arch_param: nn.Parameter,
        relax: Callable[[str, Tensor], Mixture],
        scope: ForwardScope,
    ) -> None:
        self._space_id = space_id
        self._arch_param = arch_param
        self._relax = relax
        self._scope = scope

    def remember(self) -> Callable[[], AbstractContextManager[None]]:
        """Return what opens a block in which the current pass goes on; for a recomputation."""
        return self._scope.remember()

    def of(self, replaced: Mapping[int, nn.Parameter]) -> SpaceRelaxation:
        """Return the same for what, by the id of the old, stands for its parameter now."""
        arch_param = replaced.get(id(self._arch_param), self._arch_param)
        return SpaceRelaxation(self._space_id, arch_param, self._relax, self._scope)

    def __call__(self, arch_param: Tensor) -> Mixture:
        """Return the mixture, shared within a forward pass."""
        if arch_param is self._arch_param:
            mixture = self._scope.mixture(self._space_id)
            if mixture is not None:
                return mixture
        return self._relax(self._space_id, arch_param)


def is_bound(mutable: nn.Module) -> bool:
    """Whether an architecture parameter is lent to ``mutable``."""
    forward = mutable.__dict__.get('forward')
    return isinstance(forward, partial) and 'arch_param' in forward.keywords


def _takes(mutable: MutableModule, name: str) -> bool:
    """Whether the ``forward`` of a mutable takes an argument of that name."""
    parameters = inspect.signature(type(mutable).forward).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return name in parameters or takes_any


def check_bindable(mutable: MutableModule) -> None:
    """Refuse a mutable that something is bound to already, or that cannot be bound.

    Raises:
        BindingError: See :func:`bind`.
    """
    if is_bound(mutable):
        raise BindingError(
            f'The mutable of space {mutable.space_id!r} is bound to a mutator already; call '
            'release(supernet) on that mutator before preparing the supernet again'
        )
    if not _takes(mutable, 'arch_param'):
        raise BindingError(
            f'The mutable of space {mutable.space_id!r} has an architecture parameter, but '
            f'{type(mutable).__name__}.forward takes no argument `arch_param`'
        )


def check_spaces(spaces: SearchSpaces, to_bind: Iterable[MutableModule]) -> None:
    """Refuse spaces that nothing can be learnt of, and mutables that cannot be bound.

    Args:
        spaces: Those of a supernet.
        to_bind: Mutables with a parameter; none are left for a retraining.

    Raises:
        SearchSpaceError: Every mutable is one that never has such a parameter.
        BindingError: See :func:`bind`.
    """
    mutables = [space['modules'][0] for space in spaces.values()]
    if not any(hasattr(mutable, 'build_arch_param') for mutable in mutables):
        kinds = ', '.join(sorted({type(mutable).__name__ for mutable in mutables}))
        raise SearchSpaceError(
            'Expected at least one space whose mutables can have an architecture parameter, '
            f'but all of {", ".join(map(repr, spaces))} are {kinds}; use DifferentiableOP in '
            'the placeholder_mapping, or search these paths with an OneShotMutator'
        )
    for mutable in to_bind:
        check_bindable(mutable)


def bind(
    mutable: MutableModule, arch_param: nn.Parameter, relax: SpaceRelaxation | None
) -> None:
    """Lend ``arch_param`` to ``mutable``.

    A mutable whose ``forward`` takes no ``relax``, or without one to lend, gets the
    parameter alone and relaxes it by itself, as in MMRazor 0.x.

    Raises:
        BindingError: Something is bound to it already, or it takes no
            ``arch_param``.
    """
    check_bindable(mutable)
    forward = type(mutable).forward
    lent: dict[str, Any] = {'arch_param': arch_param}
    if relax is not None and _takes(mutable, 'relax'):
        lent['relax'] = relax
    mutable.__dict__['forward'] = partial(forward.__get__(mutable), **lent)


def rebind(mutable: nn.Module, replaced: Mapping[int, nn.Parameter]) -> None:
    """Lend parameters in the place of others, however those were bound.

    Args:
        mutable: Something may be bound to it.
        replaced: The new ones, by the id of the old.
    """
    forward: Any = mutable.__dict__.get('forward')
    if not is_bound(mutable):
        return
    lent = {
        name: value.of(replaced)
        if isinstance(value, SpaceRelaxation)
        else replaced.get(id(value), value)
        for name, value in forward.keywords.items()
    }
    args = [replaced.get(id(value), value) for value in forward.args]
    mutable.__dict__['forward'] = partial(forward.func, *args, **lent)


def lend_relaxation(mutable: MutableModule, relax: SpaceRelaxation) -> None:
    """Lend what relaxes where code for MMRazor 0.x has bound a parameter without it."""
    forward: Any = mutable.__dict__.get('forward')
    if is_bound(mutable) and 'relax' not in forward.keywords and _takes(mutable, 'relax'):
        mutable.__dict__['forward'] = partial(forward, relax=relax)


def is_lent(mutable: nn.Module, params: Iterable[nn.Parameter]) -> bool:
    """Whether one of the parameters is lent to ``mutable``."""
    forward: Any = mutable.__dict__.get('forward')
    if not is_bound(mutable):
        return False
    return any(forward.keywords['arch_param'] is param for param in params)


def release(mutable: nn.Module) -> None:
    """Take back what :func:`bind` lent; the class-level ``forward`` shows again."""
    if is_bound(mutable):
        del mutable.__dict__['forward']


def relaxes_itself(mutable: MutableModule) -> bool:
    """Whether the mutable's class has a relaxation of its own, as in MMRazor 0.x."""
    own = getattr(type(mutable), 'compute_arch_probs', None)
    return own is not None and own is not DifferentiableMutable.compute_arch_probs


def given_mixture(weights: Tensor | Mixture, mutables: Sequence[MutableModule]) -> Mixture:
    """Return weights that a user gives as a mixture, if the mutables can be told it.

    Raises:
        InputError: Weights of the wrong shape.
        BindingError: A mutable that relaxes by itself.
    """
    space_id, expected = mutables[0].space_id, (len(mutables[0].full_choice_names),)
    mixture = weights if isinstance(weights, Mixture) else Mixture(weights)
    given = mixture.weights
    if not isinstance(given, Tensor) or tuple(given.shape) != expected:
        came = tuple(given.shape) if isinstance(given, Tensor) else repr(given)
        raise InputError(
            f'In space {space_id!r}: expected weights of shape {expected}, but got {came}'
        )
    for mutable in mutables:
        if not _takes(mutable, 'relax'):
            raise BindingError(
                f'In space {space_id!r}: weights cannot be given to a mutable that relaxes by '
                f'itself; {type(mutable).__name__}.forward takes no argument `relax`'
            )
    return mixture
