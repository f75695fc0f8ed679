"""Sparse mixtures: weights that become exactly 0 need not be run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..builder import MUTATORS
from ..errors import ConfigError, HostError
from ..functional import differentiable_entmax
from ..typing import Mixture
from .darts import DartsMutator

__all__ = ['SparsemaxMutator']


def _entmax(alpha: float) -> Callable[..., Tensor]:
    """Return the map from logits to weights, of the optional library.

    Raises:
        HostError: The library cannot be imported.
    """
    try:
        import entmax
    except ImportError as error:
        raise HostError(
            'SparsemaxMutator needs entmax, which cannot be imported here '
            f"({error}). Install it with: pip install 'mmrazor-mutators[sparse]'"
        ) from error
    if alpha == 2:
        return partial(entmax.sparsemax, dim=-1)
    if alpha == 1.5:
        return partial(entmax.entmax15, dim=-1)
    return partial(entmax.entmax_bisect, alpha=alpha, dim=-1)


@MUTATORS.register_module()
class SparsemaxMutator(DartsMutator):
    r"""Mixes by the point on the simplex that is nearest to the logits: sparsemax.

    Sparsemax (Martins & Astudillo, ICML 2016) and its kin between softmax and
    it, entmax (Peters et al., ACL 2019), in the place of the softmax of DARTS:

    .. math:: w = \operatorname{argmax}_{p \in \Delta} p^\top a + H_\alpha(p)

    with Tsallis's entropy :math:`H_\alpha`.  Many weights are exactly 0.  What
    weighs 0 is not run, and nothing is lost by that: outside of its support the
    derivative of the map is 0.  A space in which one choice is left weighs it
    with 1, and without weight decay stays as it is.

    Needs the library entmax: ``pip install 'mmrazor-mutators[sparse]'``.

    Args:
        alpha: Above 1 and at most 2; 2 is sparsemax, 1.5 the entmax that has a
            closed form.  Softmax, the limit at 1, is :class:`DartsMutator`.
        **kwargs: As for :class:`DartsMutator`.

    Raises:
        ConfigError: ``alpha`` outside of its range.
        HostError: The library is missing.
    """

    paper = 'Martins & Astudillo, ICML 2016'
    cost = 'paths in the support'

    def __init__(self, alpha: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 1 < alpha <= 2:
            raise ConfigError(
                f'Expected `alpha` to be above 1 and at most 2, but got {alpha!r}; '
                'DartsMutator mixes by softmax, which is the limit at 1'
            )
        self.alpha = float(alpha)
        self._entmax = _entmax(self.alpha)

    def relax(self, arch_param: Tensor) -> Tensor:
        """Return sparse weights, shape ``(num_choices,)``, of logits of that shape."""
        # The library takes no NaN or infinity, which have to show in the loss.
        finite = torch.nan_to_num(arch_param)
        weights = differentiable_entmax(finite, self._entmax, self.alpha)
        return weights + (0 * arch_param.detach()).sum(-1, keepdim=True)

    def choice_probs(self, arch_param: Tensor) -> Tensor:
        """Return the weights, with a hint of softmax that tells the zeros apart.

        Where an ignored choice has all the weight, the logits decide between
        the others, not their order.
        """
        return torch.lerp(self.relax(arch_param), arch_param.softmax(-1), 1e-6)

    def arch_param_for(self, probs: Tensor) -> Tensor:
        """Return the value of an architecture parameter that mixes by ``probs``."""
        return probs ** (self.alpha - 1) / (self.alpha - 1)

    def sample_paths(self, weights: dict[str, Tensor]) -> dict[str, Mixture]:
        """Run what weighs anything; looks at the device once."""
        if not weights or next(iter(weights.values())).is_meta:
            return {}
        stacked = pad_sequence([weight.detach() for weight in weights.values()])
        runs = (stacked != 0).T.tolist()  # NaN is run, so that it is noticed.
        return {
            space_id: Mixture(weight, tuple(i for i, run in enumerate(row) if run))
            for (space_id, weight), row in zip(weights.items(), runs, strict=True)
        }
