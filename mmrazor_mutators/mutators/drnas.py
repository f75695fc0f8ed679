"""DrNAS: the weights of a mixture are drawn from a Dirichlet distribution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..builder import MUTATORS
from ..errors import ConfigError
from ..functional import (
    dirichlet_concentration,
    dirichlet_kl_to_uniform,
    dirichlet_sample,
)
from .darts import DartsMutator

__all__ = ['DrNASMutator']


@MUTATORS.register_module()
class DrNASMutator(DartsMutator):
    r"""Mixes by a draw from :math:`\mathrm{Dir}(\mathrm{elu}(\alpha) + 1)`.

    DrNAS (Chen et al., ICLR 2021), sections 2.2 and 2.3.  There is one draw per
    space and forward pass, whose gradient is the implicit one.  The architecture
    minimises

    .. math:: L + \lambda \sum_{spaces} KL(\mathrm{Dir}(\beta) \,\|\, \mathrm{Dir}(1))

    with :math:`\beta = \mathrm{elu}(\alpha) + 1`.  The largest
    :math:`\mathrm{softmax}(\alpha)` wins, as in the authors' code, which lets
    ``none`` win as well: pass ``ignore_choices=()`` for that.

    In the authors' code the divergence is one of two ways to hold the logits
    back.  The other one, its default, is weight decay of the architecture
    optimizer (1e-3): set ``kl_weight=0`` then.  With the divergence that is 0.

    The shrinking of the space half way is the extension
    ``ProgressiveShrinking``.  The other half of the progressive variant, partial
    channels that grow from 1/6 to 1/4 on the way, is left out.

    Args:
        kl_weight: :math:`\lambda`, at least 0.
        count_dropped: Whether choices that were dropped count in the divergence, as in the
            authors' code; they have a logit still.
        **kwargs: As for :class:`DartsMutator`.

    Raises:
        ConfigError: A weight below 0.

    >>> import mmrazor_mutators as mm
    >>> _ = torch.manual_seed(0)
    >>> mm.DrNASMutator().relax(torch.zeros(3)).sum()
    tensor(1.)
    """

    paper = 'Chen et al., ICLR 2021'
    samples = 'Dirichlet weights'

    def __init__(
        self, kl_weight: float = 1e-3, count_dropped: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not kl_weight >= 0:
            raise ConfigError(f'Expected `kl_weight` to be at least 0, but got {kl_weight!r}')
        if not isinstance(count_dropped, bool):
            raise ConfigError(
                f'Expected `count_dropped` to be True or False, but got {count_dropped!r}'
            )
        self.kl_weight = float(kl_weight)
        self.count_dropped = count_dropped

    def relax(self, arch_param: Tensor) -> Tensor:
        """Draw weights, shape ``(num_choices,)``, from logits of that shape."""
        return dirichlet_sample(dirichlet_concentration(arch_param))

    def regularization(self) -> Tensor:
        """Add the divergences of all spaces to what extensions ask for."""
        total = super().regularization()
        if not self.kl_weight:
            return total
        by_size: dict[int, list[Tensor]] = {}
        params = self._searched_params() if self.count_dropped else self.kept_arch_params()
        for logits in params.values():
            by_size.setdefault(len(logits), []).append(logits)
        for group in by_size.values():  # A distribution per space, many at once.
            beta = dirichlet_concentration(torch.stack(group))
            total = total + self.kl_weight * dirichlet_kl_to_uniform(beta).sum()
        return total
