"""Penalties on the architecture alone, by a weight that may change with the epoch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..functional import absolute_sum, choice_entropy, half_squared_norm, linear_schedule
from ..mutators import Extension
from ..registry import EXTENSIONS
from .choices import check_finite, check_logits, check_scores

__all__ = ['EntropyRegularizer', 'L1Regularizer', 'L2Regularizer', 'Regularizer']


class Regularizer(Extension):
    """Adds :meth:`measure` times a weight, linear from the first epoch to the last.

    Choices that were dropped do not count.

    Args:
        weight: The weight of every epoch, unless one of the others is given.
        start: The weight in the first epoch.
        end: The weight in the last epoch.

    Raises:
        ConfigError: A weight that is no finite number, or below :attr:`minimum`.
    """

    minimum: float = 0.0

    def __init__(
        self, weight: float = 1e-3, start: float | None = None, end: float | None = None
    ) -> None:
        super().__init__()
        given = {
            'weight': weight,
            'start': weight if start is None else start,
            'end': weight if end is None else end,
        }
        checked = {
            name: check_finite(name, value, self.minimum) for name, value in given.items()
        }
        self.start, self.end = checked['start'], checked['end']

    @property
    def weight(self) -> float:
        """The weight of the epoch."""
        return linear_schedule(self.start, self.end, self.epoch, self.max_epochs)

    def check(self, mutator: Any) -> None:
        """Refuse a mutator without logits."""
        check_logits(self, mutator)

    @abstractmethod
    def measure(self, mutator: Any, logits: Mapping[str, Tensor]) -> Tensor:
        """Return what is penalised, a scalar.

        Args:
            mutator: The mutator.
            logits: ``{space_id: logits}`` of what was not dropped; not empty.
        """

    def penalty(self, mutator: Any) -> Tensor | None:
        """Return the weighted measure, or ``None`` where the weight is 0."""
        logits = mutator.kept_arch_params()
        if not self.weight or not logits:
            return None
        return self.weight * self.measure(mutator, logits)


@EXTENSIONS.register_module()
class EntropyRegularizer(Regularizer):
    r"""Adds the entropy of the choices, which makes them more decided.

    The entropy term of DA2S (Tian et al., Pattern Recognition 2021), section
    3.3, which shrinks what is lost when a subnet is read off:

    .. math::
        w\, \mathrm{mean}_s \Big(-\sum_i p_{s,i} \log p_{s,i}\Big)

    with :math:`p_s` the mutator's ``choice_probs``, divided by their sum where
    that is not 1.  A negative weight keeps the search open instead.

    Args:
        weight: The weight of every epoch, unless one of the others is given.
        start: The weight in the first epoch.
        end: The weight in the last epoch.

    Raises:
        ConfigError: A weight that is no finite number, or a mutator without
            ``choice_probs``.
    """

    paper = 'Tian et al., Pattern Recognition 2021'
    minimum = float('-inf')

    def check(self, mutator: Any) -> None:
        """Refuse a mutator without scores of its choices."""
        check_scores(self, mutator)

    def measure(self, mutator: Any, logits: Mapping[str, Tensor]) -> Tensor:
        """Return the mean entropy over the spaces."""
        entropies = [choice_entropy(mutator.choice_probs(each)) for each in logits.values()]
        return torch.stack(entropies).mean()


@EXTENSIONS.register_module()
class L2Regularizer(Regularizer):
    r"""Adds half the squares of all logits.

    .. math:: \frac{w}{2} \sum_s \lVert\alpha_s\rVert^2

    What weight decay by :math:`w` is to Adam and SGD: DARTS (Liu et al., ICLR
    2019), section 3.1, decays the architecture by 1e-3.  In contrast to
    ``weight_decay`` of the optimizer it can change with the epoch, and is part
    of the loss that is logged.  It is the sum over spaces and choices, so that
    the pull on a logit does not depend on how many there are.

    Args:
        weight: The weight of every epoch, unless one of the others is given.
        start: The weight in the first epoch.
        end: The weight in the last epoch.

    Raises:
        ConfigError: A weight below 0.
    """

    paper = 'Liu et al., ICLR 2019'

    def measure(self, mutator: Any, logits: Mapping[str, Tensor]) -> Tensor:
        """Return half of the sum of squares."""
        return torch.stack([half_squared_norm(each) for each in logits.values()]).sum()


@EXTENSIONS.register_module()
class L1Regularizer(Regularizer):
    r"""Adds the sizes of all logits.

    .. math:: w \sum_s \sum_i |\alpha_{s,i}|

    Pulls each logit to exactly 0 where the loss does not care; the sum over
    spaces and choices, as in :class:`L2Regularizer`.

    Args:
        weight: The weight of every epoch, unless one of the others is given.
        start: The weight in the first epoch.
        end: The weight in the last epoch.

    Raises:
        ConfigError: A weight below 0.
    """

    def measure(self, mutator: Any, logits: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the sizes."""
        return torch.stack([absolute_sum(each) for each in logits.values()]).sum()
