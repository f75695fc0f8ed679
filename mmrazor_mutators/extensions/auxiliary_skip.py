"""DARTS-: a skip connection beside each edge, which fades out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from torch import nn

from ..errors import ConfigError, InputError
from ..functional import first_epoch
from ..mutables import DifferentiableOP, MutableModule
from ..mutables.isolation import lend
from ..mutators import Extension
from ..registry import EXTENSIONS
from ..structures import Mismatch, scale, total
from .choices import check_choice_names, check_finite, check_names_occur, named_candidates

__all__ = ['AuxiliarySkip']

_NAME = 'auxiliary_skip'


@EXTENSIONS.register_module()
class AuxiliarySkip(Extension):
    r"""Adds a skip connection to what each edge returns, by a factor that goes to 0.

    DARTS- (Chu et al., ICLR 2021), section 3.2: the skip connection stabilises
    the training of the supernet, and the choice of that name no longer wins
    for that reason.  With the operations :math:`o_i` of an edge,

    .. math::
        \sum_i w_i\, o_i(x) + b_e\, \mathrm{skip}(x), \qquad b_e = b_0\, (1 - e / E')

    with :math:`E'` all epochs.  As in the authors' code :math:`b` is
    :math:`b_0` in the first epoch and :math:`b_0 / E'` in the last one: 0 would
    be reached in the next.  Where it is 0 the skip connection is not run.

    It is a copy of the edge's own candidate, with weights of its own where that
    has any: they are among those of the supernet while it is prepared, and in no
    exported network.  Build the weight optimizer after ``prepare_from_supernet``.

    Args:
        start: :math:`b_0`, at least 0.
        until: The epoch :math:`E'` from which on :math:`b` is 0: an int, or a
            part of all epochs as a float from 0 to 1; by default the number of
            all epochs.
        names: Of the choices that are skip connections.

    Raises:
        ConfigError: An option outside of its range, names that are no choices
            of a :class:`DifferentiableOP`, or a candidate that does not fit
            beside its mutable.

    >>> skip = AuxiliarySkip()
    >>> skip.on_epoch(3, max_epochs=4)
    >>> skip.strength
    0.25
    """

    paper = 'Chu et al., ICLR 2021'

    def __init__(
        self,
        start: float = 1.0,
        until: float | None = None,
        names: Sequence[str] = ('skip_connect',),
    ) -> None:
        super().__init__()
        self.start = check_finite('start', start, 0.0)
        if until is not None:
            check_finite('until', until)
            if until <= 0 or (isinstance(until, float) and until > 1):
                raise ConfigError(
                    'Expected `until` to be an epoch (an int above 0), a part of all epochs (a '
                    f'float up to 1) or None, but got {until!r}'
                )
        self.until = until
        self.names = check_choice_names(names)
        self._hooks: list[Any] = []

    @property
    def strength(self) -> float:
        """The factor of the epoch."""
        until = 1.0 if self.until is None else self.until
        end = max(first_epoch(until, self.max_epochs), 1)
        return self.start * max(1 - self.epoch / end, 0.0)

    def check(self, mutator: Any) -> None:
        """Refuse names that are no choices, and candidates that cannot stand beside."""
        check_names_occur(mutator, self.names)
        skips = self._skips(mutator)
        if not skips:
            raise ConfigError(
                f'Expected {", ".join(self.names)} to be a choice of a DifferentiableOP, but '
                'only other mutables have it'
            )
        for mutable, skip in skips:
            where = f'In space {mutable.space_id!r}: an auxiliary skip connection'
            if any(isinstance(module, MutableModule) for module in skip.modules()):
                raise ConfigError(f'{where} cannot be a copy of a choice that holds mutables')
            if type(mutable).forward is not DifferentiableOP.forward and any(
                True for _ in skip.parameters()
            ):
                raise ConfigError(
                    f'{where} with weights cannot stand beside a {type(mutable).__name__}, '
                    'whose choices may see another input than it does itself'
                )

    def _skips(self, mutator: Any) -> list[tuple[MutableModule, nn.Module]]:
        """Return the mutables in question, each with its first skip connection."""
        first: dict[int, tuple[MutableModule, nn.Module]] = {}
        for mutable, skip in named_candidates(mutator, self.names):
            if isinstance(mutable, DifferentiableOP):
                first.setdefault(id(mutable), (mutable, skip))
        return list(first.values())

    def attach(self, mutator: Any, supernet: nn.Module) -> None:
        """Add the skip connections, as children of the mutables."""
        with ExitStack() as stack:
            # What other extensions have put on a candidate is not for its copy.
            for extension in mutator.extensions:
                stack.enter_context(extension.hidden(mutator, supernet))
            copies = [(mutable, _fresh(skip)) for mutable, skip in self._skips(mutator)]
        for mutable, skip in copies:
            mutable.add_module(_NAME, skip)
            self._hooks.append(mutable.register_forward_hook(self._add, with_kwargs=True))

    def detach(self, mutator: Any) -> None:
        """Take the skip connections away."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for space in mutator.search_spaces.values():
            for mutable in space['modules']:
                mutable._modules.pop(_NAME, None)

    def _add(
        self, mutable: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        strength = self.strength
        if not strength:
            return None
        skip = mutable.get_submodule(_NAME)
        if not args and 'x' in kwargs:
            args, kwargs = (kwargs['x'],), {k: v for k, v in kwargs.items() if k != 'x'}
        call, x, _ = lend(skip, (args, kwargs))
        try:
            return total([output, scale(call(x), strength)])
        except Mismatch as error:
            raise InputError(
                f'In space {mutable.space_id!r}: what a {type(mutable).__name__} returns and '
                f'its auxiliary skip connection cannot be added up, because {error}'
            ) from None


def _fresh(module: nn.Module) -> nn.Module:
    """Return a copy of a module whose weights are drawn anew."""
    fresh = copy.deepcopy(module)
    for part in fresh.modules():
        reset = getattr(part, 'reset_parameters', None)
        if callable(reset):
            reset()
    return fresh
