"""beta-DARTS: keep the weights of the choices close to each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..functional import log_partition
from ..mutators import Extension
from ..registry import EXTENSIONS
from .choices import check_finite, check_logits

__all__ = ['BetaDecay']


@EXTENSIONS.register_module()
class BetaDecay(Extension):
    r"""Adds the log of the softmax's denominator, by a weight that grows.

    beta-DARTS (Ye et al., CVPR 2022), section 3.3, with the mean over all
    spaces and :math:`e` of :math:`E` epochs,

    .. math::
        w_e\, \mathrm{mean}_s \log \sum_i e^{\alpha_{s,i}}, \qquad
        w_e = w_{min} + (w_{max} - w_{min})\, e / E

    As in the authors' code the last epoch falls short of :math:`w_{max}` by one
    part in :math:`E`.  There the weight is :math:`50 e / 100` in all searches:
    up to 50 in the 100 epochs on NAS-Bench-201, up to 25 in the 50 on the DARTS
    space.  Choices that were dropped do not count.

    Args:
        max_weight: :math:`w_{max}`, at least 0.
        min_weight: :math:`w_{min}`, at least 0.

    Raises:
        ConfigError: A weight below 0.

    >>> decay = BetaDecay(max_weight=50.0)
    >>> decay.on_epoch(1, max_epochs=4)
    >>> decay.weight
    12.5
    """

    paper = 'Ye et al., CVPR 2022'

    def __init__(self, max_weight: float = 50.0, min_weight: float = 0.0) -> None:
        super().__init__()
        self.max_weight = check_finite('max_weight', max_weight, 0.0)
        self.min_weight = check_finite('min_weight', min_weight, 0.0)

    @property
    def weight(self) -> float:
        """The weight of the epoch."""
        grown = self.epoch / self.max_epochs
        return self.min_weight + (self.max_weight - self.min_weight) * grown

    def check(self, mutator: Any) -> None:
        """Refuse a mutator without logits."""
        check_logits(self, mutator)

    def penalty(self, mutator: Any) -> Tensor | None:
        """Return the weighted mean over the spaces, or ``None`` where the weight is 0."""
        logits = mutator.kept_arch_params().values()
        if not self.weight or not logits:
            return None
        return self.weight * torch.stack([log_partition(each) for each in logits]).mean()
