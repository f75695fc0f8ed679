"""Mutators that learn architecture parameters by gradient descent."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..builder import MUTATORS
from ..distributed import same_draws
from ..errors import SearchSpaceError, did_you_mean
from ..mutables import find_mutables
from ..typing import Mixture, Subnet
from .binding import (
    SpaceRelaxation,
    bind,
    check_spaces,
    given_mixture,
    lend_relaxation,
    relaxes_itself,
    release,
)
from .dropping import DroppingMutator
from .extensible import ExtensibleMutator
from .logits import LogitInit, check_init, keep_fitting, start_logits
from .passes import ForwardScope, hook_trunk

__all__ = ['DifferentiableMutator']


@MUTATORS.register_module()
class DifferentiableMutator(ExtensibleMutator, DroppingMutator):
    """Owns the architecture parameters of a supernet and lends them to its mutables.

    A subclass says how logits become weights (:meth:`relax`) and how a subnet
    is read off (:meth:`search_subnet`).

    Args:
        init: Where logits start: ``{wildcard of space ids: {choice: logit}}``.  All others
            start close to 0.  ``'original'`` stands for the choice that a network had before,
            as in ``init={'*': {'original': 2.0}}``; the last wildcard that fits decides.  In
            the place of ``{choice: logit}`` may stand a list or a tensor of all logits, the
            name of a choice (its logit is then 2), or a function of ``(space_id,
            choice_names)`` that returns one of these; a name or a function alone is for all
            spaces.
        **kwargs: As for :class:`ExtensibleMutator` and :class:`BaseMutator`.

    Attributes:
        arch_params: ``nn.ParameterDict``, ``{space_id: logits}`` with logits
            of shape ``(num_choices,)``.  Spaces without an architecture
            parameter (``with_arch_param=False``) are not in it.
        paper: Where the method was published, for lists.
        samples: What is drawn at random in each forward pass, for lists.
        cost: What a forward pass runs, for lists: ``'all paths'``,
            ``'one path'``, ``'two paths'`` ...
    """

    paper: str = ''
    samples: str = 'nothing'
    cost: str = 'all paths'

    def __init__(self, init: LogitInit | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.init = check_init(init)
        self.arch_params = nn.ParameterDict()
        self._scope = ForwardScope(self.relax_spaces)
        self._hooks: list[Any] = []

    def prepare_from_supernet(self, supernet: nn.Module) -> None:
        """Fill the placeholders, list the spaces and bind one parameter to each.

        Preparing again after :meth:`release` keeps the parameters, so that an
        optimizer over them stays valid.  Errors are those of :class:`BaseMutator`, and a
        BindingError where the supernet is bound already.
        """
        super().prepare_from_supernet(supernet)

    def _take_over(self, supernet: nn.Module) -> None:
        built = self.build_arch_params(supernet)
        check_spaces(self.search_spaces, [m for m in self._mutables if m.space_id in built])
        start_logits(self, built, self.init)
        self._check_extensions()
        keep_fitting(self.arch_params, built)
        try:
            self.modify_supernet_forward(supernet)
            self._lend_relaxations()
            self._hooks = hook_trunk(supernet, self._scope)
            self._attach_extensions(supernet)
        except BaseException:
            self._unbind()
            raise
        self._mask_dropped()

    def build_arch_params(self, supernet: nn.Module) -> nn.ParameterDict:
        """Return new logits for every space of ``supernet`` that asks for them.

        They are created where the supernet's parameters are, in their dtype.
        """
        like = next((p for p in supernet.parameters() if p.is_floating_point()), torch.empty(0))
        arch_params = nn.ParameterDict()
        for mutable in find_mutables(supernet):
            build = getattr(mutable, 'build_arch_param', None)
            if build is None or mutable.space_id in arch_params:
                continue
            arch_param = build()
            if arch_param is not None:
                arch_params[mutable.space_id] = nn.Parameter(arch_param.detach().to(like))
        return arch_params

    def _searched_params(self) -> dict[str, nn.Parameter]:
        """Return the parameter of each space; a subclass may keep others of its own there."""
        return {sid: p for sid, p in self.arch_params.items() if sid in self.search_spaces}

    def modify_supernet_forward(self, supernet: nn.Module) -> None:
        """Bind its architecture parameter into the ``forward`` of every mutable.

        One of a space that :meth:`build_search_spaces` leaves out relaxes by itself.
        """
        ours = {id(mutable) for mutable in self._mutables}
        for mutable in find_mutables(supernet):
            if mutable.space_id in self.arch_params:
                if id(mutable) in ours:
                    release(mutable)  # Called once more, with other parameters.
                bind(
                    mutable,
                    self.arch_params[mutable.space_id],
                    self._relaxation_of(mutable.space_id),
                )

    def _relaxation_of(self, space_id: str) -> SpaceRelaxation | None:
        if space_id not in self.search_spaces or space_id not in self.arch_params:
            return None
        arch_param = self.arch_params[space_id]
        return SpaceRelaxation(space_id, arch_param, self._relax_space, self._scope)

    def _lend_relaxations(self) -> None:
        for mutable in self._mutables:
            relax = self._relaxation_of(mutable.space_id)
            if relax is not None:
                lend_relaxation(mutable, relax)

    def _unbind(self) -> None:
        self._detach_extensions()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for mutable in self._mutables:
            release(mutable)

    def release(self, supernet: nn.Module) -> None:
        """Take everything back that was lent; ``arch_params`` stay with this mutator.

        Raises:
            BindingError: This mutator was not prepared from ``supernet``.
        """
        self._check_prepared(supernet)
        self._unbind()
        super().release(supernet)

    def deploy_subnet(self, supernet: nn.Module, subnet_dict: Subnet) -> None:
        """Make the choices of a subnet, in place, and release what remains.

        Raises:
            SubnetError: The subnet does not fit the search space; nothing is
                changed then.
        """
        before = self.search_spaces, self._mutables
        super().deploy_subnet(supernet, subnet_dict)
        if not before[0]:
            return
        after = self.search_spaces, self._mutables
        self.search_spaces, self._mutables = before
        self._unbind()
        self.search_spaces, self._mutables = after

    def export_subnet(self, supernet: nn.Module, subnet_dict: Subnet) -> nn.Module:
        """Return the network of a subnet as a new, plain module; see :class:`BaseMutator`."""
        # The hooks lead to this mutator, which has no business in the copy.
        hooked = bool(self._hooks)
        for hook in self._hooks:
            hook.remove()
        try:
            with self._extensions_hidden(supernet):
                return super().export_subnet(supernet, subnet_dict)
        finally:
            if hooked:
                self._hooks = hook_trunk(supernet, self._scope)

    def relax(self, arch_param: Tensor) -> Tensor:
        """Turn logits into the weights of a mixture: softmax.

        This is the method that a new algorithm overrides.  It is called once
        per space and forward pass, however many mutables share the space.

        Args:
            arch_param: Logits, shape ``(num_choices,)``.

        Returns:
            Weights of the choices, shape ``(num_choices,)``, differentiable
            with respect to ``arch_param``.
        """
        return arch_param.softmax(-1)

    def sample_paths(self, weights: dict[str, Tensor]) -> dict[str, Mixture]:
        """Return the mixtures of those spaces in which not every choice runs.

        Called once per forward pass with the weights of all spaces, so that
        one look at the device serves them all.  By default every choice runs
        that was not dropped.
        """
        return {}

    @property
    def mixtures(self) -> dict[str, Mixture]:
        """What the forward pass that came last has mixed with; empty before the first."""
        return self._scope.mixtures

    def relax_spaces(self) -> dict[str, Mixture]:
        """Relax every space for one forward pass."""
        return self._mixtures(self._searched_params())

    def _relax_space(self, space_id: str, arch_param: Tensor) -> Mixture:
        return self._mixtures({space_id: arch_param})[space_id]

    def _mixtures(self, arch_params: Mapping[str, Tensor]) -> dict[str, Mixture]:
        weights, ours = {}, {}
        device = next(iter(arch_params.values()), torch.empty(0)).device
        with same_draws(device):
            for space_id, arch_param in arch_params.items():
                space = self.search_spaces[space_id]
                own = relaxes_itself(space['modules'][0])
                relax = space['modules'][0].compute_arch_probs if own else self.relax
                weights[space_id] = self._dropped.relax(
                    space_id, space['choice_names'], arch_param, relax
                )
                if not own:
                    ours[space_id] = weights[space_id]
            mixtures = self.sample_paths(ours)
        return {
            space_id: mixtures.get(space_id) or Mixture(weight, self._kept_or_none(space_id))
            for space_id, weight in weights.items()
        }

    @contextmanager
    def mixing(self, weights: Mapping[str, Tensor | Mixture]) -> Iterator[None]:
        """Mix with the given weights instead of relaxed logits, inside of a ``with`` block.

        Weights from outside reach places that a bound parameter cannot, such
        as ``torch.func`` transforms or a discrete choice inside the supernet.

        Args:
            weights: ``{space_id: weights}``, of shape ``(num_choices,)`` each.
                Other spaces are relaxed as always.

        Raises:
            SearchSpaceError: A space without an architecture parameter.
            InputError: Weights of the wrong shape.
            BindingError: A mutable that relaxes by itself.
        """
        mixtures = {}
        for space_id, weight in weights.items():
            if space_id not in self.arch_params or space_id not in self.search_spaces:
                raise SearchSpaceError(
                    f'There is no architecture parameter of a space {space_id!r}; '
                    f'{did_you_mean(space_id, self.arch_params)}'
                )
            mixtures[space_id] = given_mixture(weight, self.search_spaces[space_id]['modules'])
        with self._scope.fixing(mixtures):
            yield

    def after_arch_step(self) -> None:
        """Mend the architecture parameters after their optimizer's step."""

    def get_extra_state(self) -> dict[str, Any]:
        """Return what ``state_dict`` holds beside the parameters."""
        return {**super().get_extra_state(), 'dropped': self._dropped.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`get_extra_state` was called."""
        self._dropped.set_state(self._check_dropped(state.get('dropped', {})))
        self._mask_dropped()
        super().set_extra_state(state)

    @abstractmethod
    def search_subnet(self) -> Subnet:
        """Read the best subnet off the architecture parameters.

        Returns:
            ``{space_id: {'chosen': [choice names], ...}}``, safe to write as
            YAML.
        """
