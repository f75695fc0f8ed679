"""FairDARTS: every choice has a weight of its own, and none has to lose for another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..builder import MUTATORS
from ..errors import ConfigError, did_you_mean
from ..functional import top_names, zero_one_l1, zero_one_l2
from .darts import DartsMutator

__all__ = ['FairDartsMutator']

_ZERO_ONE: dict[str, Callable[[Tensor], Tensor]] = {'l2': zero_one_l2, 'l1': zero_one_l1}


@MUTATORS.register_module()
class FairDartsMutator(DartsMutator):
    r"""Mixes by :math:`w = \sigma(\alpha)`, so that choices do not compete.

    FairDARTS (Chu et al., ECCV 2020), sections 3.2 and 3.3, and the authors'
    code.  All logits begin at 0.  The architecture minimises

    .. math:: L + w_{01} \Big(-\frac{1}{n} \sum_i (\sigma(\alpha_i) - 0.5)^2\Big)

    over the :math:`n` logits of all spaces, which pushes each weight to 0 or
    1.  Of the choices that reach the threshold a subnet keeps the best
    ``num_chosen``: a node may have fewer inputs than that.

    The authors drop an edge below the threshold even where the node loses its
    last one.  A subnet has at least one choice in each space, so here the best
    one stays.  Their candidates are those of DARTS without ``none``.

    Args:
        zero_one_weight: :math:`w_{01}`, at least 0.
        zero_one: ``'l2'`` for the penalty above, ``'l1'`` for absolute values in
            the place of squares.
        threshold: Smallest weight with which a choice is kept, from 0 to 1.
        **kwargs: As for :class:`DartsMutator`.

    Raises:
        ConfigError: An option outside of its range.

    >>> import mmrazor_mutators as mm
    >>> mm.FairDartsMutator().select({'a': 0.9, 'b': 0.95, 'c': 0.8}, 3)
    ['b', 'a']
    """

    paper = 'Chu et al., ECCV 2020'

    def __init__(
        self,
        zero_one_weight: float = 10.0,
        zero_one: Literal['l2', 'l1'] = 'l2',
        threshold: float = 0.85,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not zero_one_weight >= 0:
            raise ConfigError(
                f'Expected `zero_one_weight` to be at least 0, but got {zero_one_weight!r}'
            )
        if zero_one not in _ZERO_ONE:
            raise ConfigError(
                f'{zero_one!r} is not a zero-one loss; {did_you_mean(str(zero_one), _ZERO_ONE)}'
            )
        if not 0 <= threshold <= 1:
            raise ConfigError(f'Expected `threshold` to be from 0 to 1, but got {threshold!r}')
        self.zero_one_weight = float(zero_one_weight)
        self.zero_one = zero_one
        self.threshold = float(threshold)

    def build_arch_params(self, supernet: nn.Module) -> nn.ParameterDict:
        """Return logits of 0 for every space that asks for them."""
        built = super().build_arch_params(supernet)
        for arch_param in built.values():
            nn.init.zeros_(arch_param)
        return built

    def relax(self, arch_param: Tensor) -> Tensor:
        """Return the sigmoid of logits, shape ``(num_choices,)``."""
        return arch_param.sigmoid()

    def choice_probs(self, arch_param: Tensor) -> Tensor:
        """Return the weights of the mixture, shape ``(num_choices,)``."""
        return arch_param.sigmoid()

    def regularization(self) -> Tensor:
        """Add the zero-one loss to what extensions ask for."""
        total, logits = super().regularization(), [*self.kept_arch_params().values()]
        if not logits:
            return total
        penalty = _ZERO_ONE[self.zero_one](torch.cat(logits).sigmoid())
        return total + self.zero_one_weight * penalty

    def select(self, rated: Mapping[str, float], count: int) -> list[str]:
        """Return the best ``count`` of those that reach the threshold, or the best one."""
        best = top_names(rated, count)
        return [name for name in best if rated[name] >= self.threshold] or best[:1]
