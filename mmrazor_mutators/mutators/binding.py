"""Lend architecture parameters to mutables, and take them back.

``bind`` puts a ``functools.partial`` around the class-level ``forward`` of
every mutable, ``is_bound`` tells whether one is there, and ``release``
removes it.  What is lent is the parameter itself and a :class:`SpaceRelaxation`,
which turns it into weights once per forward pass of the supernet, however many
mutables share the space.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BindingError, InputError, SearchSpaceError
from ..mutables import MutableModule, find_mutables
from ..typing import Mixture, SearchSpaces

__all__ = ['ForwardScope', 'SpaceRelaxation', 'bind', 'is_bound', 'release']


def _in_backward() -> bool:
    """Whether autograd is running, as when a checkpointed segment is recomputed."""
    return torch._C._current_graph_task_id() != -1


class ForwardScope:
    """Knows when a forward pass of the supernet begins and ends.

    The mixtures are made when the outermost module of the supernet's trunk is
    entered, and hold until that happens again: a segment that is recomputed
    during the backward pass sees the draw of its forward pass.  For segments
    inside of the supernet that needs ``checkpoint(..., use_reentrant=False)``,
    since the older kind cannot share weights between segments; and where another
    pass may come before the backward pass, ``Recomputed`` in its place.

    Args:
        relax_spaces: Makes the mixtures of all spaces for one forward pass.
    """

    def __init__(self, relax_spaces: Callable[[], dict[str, Mixture]]) -> None:
        self._relax_spaces = relax_spaces
        self._mixtures: dict[str, Mixture] = {}
        self._fixed: dict[str, Mixture] = {}
        self._given: dict[str, Mixture] = {}
        self._entered: list[int] = []

    @property
    def mixtures(self) -> dict[str, Mixture]:
        """The mixtures of the pass that is running, or came last."""
        return self._mixtures

    @property
    def is_open(self) -> bool:
        """Whether mixtures of a forward pass are there to be used."""
        return bool(self._entered) or (bool(self._mixtures) and _in_backward())

    def enter(self, level: int, *_: Any) -> None:
        """Begin a forward pass, unless a module further up the trunk has done so.

        Args:
            level: How far below the supernet the entered module is.
        """
        # What is not above it was left without a word, by an interrupt.
        self._entered = [above for above in self._entered if above < level]
        if not self._entered:
            # A pass that is recomputed as a whole draws again, from the random
            # state that the checkpoint has restored.
            if not _in_backward():
                self._given = dict(self._fixed)
            self._mixtures = {**self._relax_spaces(), **self._given}
        self._entered.append(level)

    def leave(self, level: int, *_: Any) -> None:
        """End what :meth:`enter` began, also when the forward pass raised."""
        self._entered = [above for above in self._entered if above < level]

    @contextmanager
    def fixing(self, mixtures: Mapping[str, Mixture]) -> Iterator[None]:
        """Use the given mixtures instead of relaxed ones."""
        previous = self._fixed
        self._fixed = {**previous, **mixtures}
        try:
            yield
        finally:
            self._fixed = previous

    def remember(self) -> Callable[[], AbstractContextManager[None]]:
        """Return what opens a block in which the pass that is running now goes on.

        A segment that is recomputed then sees the mixtures of its own pass,
        even if another pass has begun since.
        """
        return partial(self._going_on, self._mixtures if self.is_open else {}, self._entered)

    @contextmanager
    def _going_on(self, mixtures: dict[str, Mixture], entered: list[int]) -> Iterator[None]:
        current = self._mixtures, self._entered
        self._mixtures, self._entered = mixtures, list(entered)
        try:
            yield
        finally:
            self._mixtures, self._entered = current

    def mixture(self, space_id: str) -> Mixture | None:
        """Return the mixture of a space, or ``None`` outside of any forward pass."""
        if not self.is_open:
            # A mutable that is called by itself: should it be recomputed, then without
            # the mixtures of an older pass.
            self._mixtures = {}
            return self._fixed.get(space_id)
        return self._mixtures.get(space_id)

    def __getstate__(self) -> dict[str, Any]:
        # Mixtures belong to a graph, which can be neither copied nor pickled.
        return {**self.__dict__, '_mixtures': {}, '_given': {}, '_fixed': {}, '_entered': []}


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


def check_spaces(spaces: SearchSpaces, arch_params: Iterable[str]) -> None:
    """Refuse spaces that nothing can be learnt of, and mutables that cannot be bound.

    Args:
        spaces: Those of a supernet.
        arch_params: Ids of the spaces with a parameter; none are left for a retraining.

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
    for space_id in arch_params:
        for mutable in spaces[space_id]['modules']:
            check_bindable(mutable)


def bind(mutable: MutableModule, arch_param: nn.Parameter, relax: SpaceRelaxation) -> None:
    """Lend ``arch_param`` to ``mutable``.

    A mutable whose ``forward`` takes no ``relax`` gets the parameter alone
    and relaxes it by itself, as in MMRazor 0.x.

    Raises:
        BindingError: Something is bound to it already, or it takes no
            ``arch_param``.
    """
    check_bindable(mutable)
    forward = type(mutable).forward
    lent: dict[str, Any] = {'arch_param': arch_param}
    if _takes(mutable, 'relax'):
        lent['relax'] = relax
    mutable.__dict__['forward'] = partial(forward.__get__(mutable), **lent)


def release(mutable: nn.Module) -> None:
    """Take back what :func:`bind` lent; the class-level ``forward`` shows again."""
    if is_bound(mutable):
        del mutable.__dict__['forward']


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


def trunk(supernet: nn.Module) -> list[nn.Module]:
    """Return the modules that contain every mutable, from the root downward.

    Whichever of them is called first, by itself or through a wrapper, begins
    a forward pass.
    """
    mutables = {id(m) for m in find_mutables(supernet)}
    modules = [supernet]
    while True:
        holding_all = [
            child
            for child in modules[-1].children()
            if mutables <= {id(m) for m in find_mutables(child)}
        ]
        if not holding_all:
            return modules
        modules.append(holding_all[0])


def hook_trunk(supernet: nn.Module, scope: ForwardScope) -> list[Any]:
    """Let ``scope`` see the forward passes of ``supernet``; return the hooks' handles."""
    handles = []
    for level, module in enumerate(trunk(supernet)):
        enter, leave = partial(scope.enter, level), partial(scope.leave, level)
        handles.append(module.register_forward_pre_hook(enter, prepend=True))
        handles.append(module.register_forward_hook(leave, always_call=True))
    return handles
