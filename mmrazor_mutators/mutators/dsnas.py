"""DSNAS: one path per space, learnt by its score, and early fixing."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..builder import MUTATORS
from ..errors import ConfigError
from ..functional import draw_one_hot, score_gates, top_names
from .darts import DartsMutator
from .one_path import OnePathMutator

__all__ = ['DSNASMutator', 'fix_if_decided']


@MUTATORS.register_module()
class DSNASMutator(OnePathMutator, DartsMutator):
    r"""Draws one path and moves its log-probability by the gradient of its gate.

    DSNAS (Hu et al., CVPR 2020) and its authors' code, with :math:`p =
    \mathrm{softmax}(\alpha)`: :math:`\partial \alpha = \sum_s R_s
    \nabla_\alpha \log p(Z_s)` over all spaces, where :math:`R_s = \partial L /
    \partial Z_s` at the gate :math:`Z_s = 1` of the drawn choice.  Nothing
    else runs, in either step, so ``exact_gates`` would change nothing.  On
    average that is the gradient of the expected loss where the loss is
    affine in the gates of each space; otherwise it is biased.  As in the
    authors' code, there is no temperature and no term in the loss.

    The authors train weights and architecture at once, on the same images:
    ``single_level=True``.

    A space is fixed to its most probable choice at the start of an epoch in
    which that leads by ``fix_threshold``: every other choice is dropped.
    Choices in ``ignore_choices``, which no subnet keeps, neither win nor stand
    in the way of it.  Spaces that keep several choices are not fixed.

    Args:
        fix_threshold: Difference of the two largest probabilities from which
            on a space is fixed, above 0 and at most 1; ``None`` for never.
        **kwargs: As for :class:`OnePathMutator` and :class:`DartsMutator`.

    Raises:
        ConfigError: A threshold outside of its range.
    """

    paper = 'Hu et al., CVPR 2020'
    samples = 'one choice'
    hard = True

    def __init__(self, fix_threshold: float | None = 0.3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if fix_threshold is not None and not 0 < fix_threshold <= 1:
            raise ConfigError(
                'Expected `fix_threshold` to be above 0 and at most 1, or None, but got '
                f'{fix_threshold!r}'
            )
        self.fix_threshold = fix_threshold

    def relax(self, arch_param: Tensor) -> Tensor:
        """Draw one-hot weights, shape ``(num_choices,)``, from logits of that shape."""
        return score_gates(arch_param, draw_one_hot(arch_param))

    def on_epoch(self, epoch: int, max_epochs: int) -> None:
        """Move every schedule to an epoch, and fix the spaces that are decided."""
        super().on_epoch(epoch, max_epochs)
        if self.fix_threshold is not None and not self.restoring:
            for space_id in self.search_spaces:
                if space_id in self.arch_params:
                    fix_if_decided(self, space_id, self.fix_threshold)


def fix_if_decided(mutator: DartsMutator, space_id: str, threshold: float) -> None:
    """Drop all choices but the most probable, if it leads the second by ``threshold``."""
    eligible = mutator._eligible(space_id)
    if len(eligible) < 2 or mutator.search_spaces[space_id]['num_chosen'] > 1:
        return
    scores = mutator._scores(space_id)
    best, second = top_names({name: scores[name] for name in eligible}, 2)
    if scores[best] - scores[second] >= threshold:
        others = [name for name in mutator.kept_choices(space_id) if name != best]
        mutator.drop_choices(space_id, others)
