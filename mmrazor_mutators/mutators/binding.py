"""Lend architecture parameters to mutables, and take them back.

``bind`` puts a ``functools.partial`` around the class-level ``forward`` of
every mutable, ``is_bound`` tells whether one is there, and ``release``
removes it.  What is lent is the parameter itself and a :class:`SpaceRelaxation`,
which turns it into weights once per forward pass of the supernet, however many
mutables share the space.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BindingError
from ..mutables import MutableModule, find_mutables
from ..typing import Mixture

__all__ = ['ForwardScope', 'SpaceRelaxation', 'bind', 'is_bound', 'release']


def _in_backward() -> bool:
    """Whether autograd is running, as when a checkpointed segment is recomputed."""
    return torch._C._current_graph_task_id() != -1


class ForwardScope:
    """Knows when a forward pass of the supernet begins and ends.

    The mixtures are made when the outermost module of the supernet's trunk is
    entered, and hold until that happens again: a segment that is recomputed
    during the backward pass sees the draw of its forward pass.

    Args:
        relax_spaces: Makes the mixtures of all spaces for one forward pass.
    """

    def __init__(self, relax_spaces: Callable[[], dict[str, Mixture]]) -> None:
        self._relax_spaces = relax_spaces
        self._mixtures: dict[str, Mixture] = {}
        self._fixed: dict[str, Mixture] = {}
        self._depth = 0

    @property
    def is_open(self) -> bool:
        """Whether mixtures of a forward pass are there to be used."""
        return self._depth > 0 or (bool(self._mixtures) and _in_backward())

    def enter(self, *_: Any) -> None:
        """Begin a forward pass, unless one of the trunk's modules has done so."""
        if self._depth == 0 and not _in_backward():
            self._mixtures = self._relax_spaces()
        self._depth += 1

    def leave(self, *_: Any) -> None:
        """End what :meth:`enter` began, also when the forward pass raised."""
        self._depth = max(self._depth - 1, 0)

    @contextmanager
    def fixing(self, mixtures: Mapping[str, Mixture]) -> Iterator[None]:
        """Use the given mixtures instead of relaxed ones."""
        previous = self._fixed
        self._fixed = {**previous, **mixtures}
        try:
            yield
        finally:
            self._fixed = previous

    def mixture(self, space_id: str) -> Mixture | None:
        """Return the mixture of a space, or ``None`` outside of any forward pass."""
        if space_id in self._fixed:
            return self._fixed[space_id]
        return self._mixtures.get(space_id) if self.is_open else None

    def __getstate__(self) -> dict[str, Any]:
        # Mixtures belong to a graph, which can be neither copied nor pickled.
        return {**self.__dict__, '_mixtures': {}, '_fixed': {}, '_depth': 0}


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


def bind(mutable: MutableModule, arch_param: nn.Parameter, relax: SpaceRelaxation) -> None:
    """Lend ``arch_param`` to ``mutable``.

    A mutable whose ``forward`` takes no ``relax`` gets the parameter alone
    and relaxes it by itself, as in MMRazor 0.x.

    Raises:
        BindingError: Something is bound to it already, or it takes no
            ``arch_param``.
    """
    if is_bound(mutable):
        raise BindingError(
            f'The mutable of space {mutable.space_id!r} is bound to a mutator already; call '
            'release(supernet) on that mutator before preparing the supernet again'
        )
    forward = type(mutable).forward
    accepted = inspect.signature(forward).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    if 'arch_param' not in accepted and not takes_any:
        raise BindingError(
            f'The mutable of space {mutable.space_id!r} has an architecture parameter, but '
            f'{type(mutable).__name__}.forward takes no argument `arch_param`'
        )
    lent: dict[str, Any] = {'arch_param': arch_param}
    if 'relax' in accepted:
        lent['relax'] = relax
    mutable.__dict__['forward'] = partial(forward.__get__(mutable), **lent)


def release(mutable: nn.Module) -> None:
    """Take back what :func:`bind` lent; the class-level ``forward`` shows again."""
    if is_bound(mutable):
        del mutable.__dict__['forward']


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
    for module in trunk(supernet):
        handles.append(module.register_forward_pre_hook(scope.enter, prepend=True))
        handles.append(module.register_forward_hook(scope.leave, always_call=True))
    return handles
