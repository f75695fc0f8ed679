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
from ..typing import Mixture, Subnet
from .binding import (
    SpaceRelaxation,
    bind,
    check_spaces,
    given_mixture,
    rebind,
    relaxes_itself,
    release,
)
from .dropping import DroppingMutator
from .extensible import ExtensibleMutator
from .logits import LogitInit, check_init, start_logits
from .passes import ForwardScope, hook_trunk

__all__ = ['DifferentiableMutator']


def _rebind_after_loading(mutator: DifferentiableMutator, _: Any) -> None:
    """Bind what ``load_state_dict(..., assign=True)`` has put in the place of parameters."""
    mutator._rebind()


@MUTATORS.register_module()
class DifferentiableMutator(ExtensibleMutator, DroppingMutator):
    """Owns the architecture parameters of a supernet and lends them to its mutables.

    A subclass says how logits become weights (:meth:`relax`) and how a subnet
    is read off (:meth:`search_subnet`).

    Args:
        init: Where logits start: ``{wildcard of space ids: {choice: logit}}``.  All others
            start close to 0.  ``'original'`` stands for the choice that a network had before,
            as in ``init={'*': {'original': 2.0}}``; the last wildcard that fits decides.
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
        self.register_load_state_dict_post_hook(_rebind_after_loading)

    def prepare_from_supernet(self, supernet: nn.Module) -> None:
        """Fill the placeholders, list the spaces and bind one parameter to each.

        Preparing again after :meth:`release` keeps the parameters, so that an
        optimizer over them stays valid.  Errors are those of :class:`BaseMutator`, and a
        BindingError where the supernet is bound already.
        """
        super().prepare_from_supernet(supernet)

    def _take_over(self, supernet: nn.Module) -> None:
        built = self.build_arch_params(supernet)
        check_spaces(self.search_spaces, [sid for sid in built if sid in self.search_spaces])
        start_logits(self, built, self.init)
        self._check_extensions()
        self._keep_arch_params(built)
        try:
            self.modify_supernet_forward(supernet)
            self._hooks = hook_trunk(supernet, self._scope)
            self._attach_extensions(supernet)
        except BaseException:
            self._unbind()
            raise
        self._mask_dropped()

    def build_arch_params(self, supernet: nn.Module) -> nn.ParameterDict:
        """Return new logits for every space that asks for them.

        They are created where the supernet's parameters are, in their dtype.
        """
        like = next((p for p in supernet.parameters() if p.is_floating_point()), torch.empty(0))
        arch_params = nn.ParameterDict()
        for space_id, space in self.search_spaces.items():
            mutable = space['modules'][0]
            build = getattr(mutable, 'build_arch_param', None)
            arch_param = build() if build is not None else None
            if arch_param is not None:
                arch_params[space_id] = nn.Parameter(arch_param.detach().to(like))
        return arch_params

    def _keep_arch_params(self, built: nn.ParameterDict) -> None:
        """Take over ``built``, but keep each parameter of ours that still fits."""
        for space_id in list(self.arch_params):
            if (
                space_id not in built
                or built[space_id].shape != self.arch_params[space_id].shape
            ):
                del self.arch_params[space_id]
        for space_id, arch_param in built.items():
            if space_id not in self.arch_params or space_id not in self.search_spaces:
                self.arch_params[space_id] = arch_param

    def _searched_params(self) -> dict[str, nn.Parameter]:
        """Return the parameter of each space; a subclass may keep others of its own there."""
        return {sid: p for sid, p in self.arch_params.items() if sid in self.search_spaces}

    def modify_supernet_forward(self, supernet: nn.Module) -> None:
        """Bind its architecture parameter into the ``forward`` of every mutable."""
        for space_id, arch_param in self._searched_params().items():
            relax = SpaceRelaxation(space_id, arch_param, self._relax_space, self._scope)
            for mutable in self.search_spaces[space_id]['modules']:
                bind(mutable, arch_param, relax)

    def _release_mutables(self) -> None:
        for space in self.search_spaces.values():
            for mutable in space['modules']:
                release(mutable)

    def _unbind(self) -> None:
        self._detach_extensions()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._release_mutables()

    def _rebind(self) -> None:
        """Lend what has become another object, in the way in which it was lent before."""
        for space_id, arch_param in self._searched_params().items():
            for mutable in self.search_spaces[space_id]['modules']:
                rebind(mutable, arch_param)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        # Some moves between devices replace parameters instead of changing them.
        result = super()._apply(*args, **kwargs)
        self._rebind()
        return result

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
        spaces = self.search_spaces
        super().deploy_subnet(supernet, subnet_dict)
        if not spaces:
            return
        remaining, self.search_spaces = self.search_spaces, spaces
        self._unbind()
        self.search_spaces = remaining

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
        self._dropped.set_state(state.get('dropped', {}))
        self._mask_dropped()
        super().set_extra_state(state)

    @abstractmethod
    def search_subnet(self) -> Subnet:
        """Read the best subnet off the architecture parameters.

        Returns:
            ``{space_id: {'chosen': [choice names], ...}}``, safe to write as
            YAML.
        """
