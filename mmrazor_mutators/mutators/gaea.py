"""GAEA: architecture parameters that are probabilities, moved along the simplex."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..builder import MUTATORS
from ..functional import renormalized
from ..optim import ExponentiatedGradient
from .darts import DartsMutator

__all__ = ['GAEAMutator']


@MUTATORS.register_module()
class GAEAMutator(DartsMutator):
    r"""Mixes by architecture parameters that are the weights themselves.

    GAEA (Li et al., ICLR 2021), section 3: each parameter is a point on the
    simplex, in the middle at first, and
    :class:`~mmrazor_mutators.ExponentiatedGradient` steps it, as in
    ``optimizer=dict(type='ExponentiatedGradient', lr=0.1)``; other optimizers
    are refused, since they leave the simplex.

    The weights are :math:`p`, and their gradient is that of :math:`p`, as in the
    authors' code; a sum that is not quite 1 is divided by as a constant.  When
    choices are dropped, their share goes to the others, so the sum stays 1.

    Args:
        **kwargs: As for :class:`DartsMutator`.

    >>> import mmrazor_mutators as mm
    >>> supernet = mm.DifferentiableOP(
    ...     space_id='a', choices=dict(skip=nn.Identity(), relu=nn.ReLU())
    ... )
    >>> mutator = mm.GAEAMutator()
    >>> mutator.prepare_from_supernet(supernet)
    >>> mutator.arch_params['a'].data
    tensor([0.5000, 0.5000])
    """

    paper = 'Li et al., ICLR 2021'
    has_logits = False
    arch_optimizer_types = (ExponentiatedGradient,)

    def build_arch_params(self, supernet: nn.Module) -> nn.ParameterDict:
        """Return uniform probabilities for every space that asks for a parameter."""
        built = super().build_arch_params(supernet)
        for arch_param in built.values():
            nn.init.constant_(arch_param, 1 / arch_param.numel())
        return built

    def arch_param_for(self, probs: Tensor) -> Tensor:
        """Return the value of an architecture parameter that mixes by ``probs``."""
        return probs

    def relax(self, arch_param: Tensor) -> Tensor:
        """Return probabilities, shape ``(num_choices,)``, divided by their sum."""
        total = arch_param.detach().sum(-1, keepdim=True)
        # The gradient of a sum would shift all others, which the step's lower bound sees.
        return arch_param / torch.where(total == 0, torch.ones_like(total), total)

    def choice_probs(self, arch_param: Tensor) -> Tensor:
        """Return the weights of the mixture, shape ``(num_choices,)``."""
        return renormalized(arch_param)

    def drop_choices(self, space_id: str, names: Iterable[str]) -> None:
        """Take choices out of the search for good, and share what they weighed.

        Raises:
            SearchSpaceError: An unknown space or choice, or too few left.
        """
        super().drop_choices(space_id, names)
        if space_id in self.arch_params:
            arch_param = self.arch_params[space_id]
            with torch.no_grad():
                kept = torch.zeros_like(arch_param)
                kept[list(self.kept_indices(space_id))] = 1
                arch_param.copy_(renormalized(arch_param * kept))
