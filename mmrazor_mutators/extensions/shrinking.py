"""Search spaces that become smaller while the search goes on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigError
from ..functional import linear_schedule, stages_until, top_names
from ..mutables import MutableEdge
from ..mutators import Extension
from ..registry import EXTENSIONS
from .choices import check_finite, check_logits, check_scores, check_stages, choice_scores

__all__ = ['ProgressiveShrinking', 'Shrinking', 'ThresholdPruning']


class Shrinking(Extension):
    """Drops choices at the start of an epoch, each epoch at most once.

    Also where a checkpoint is loaded in the middle of an epoch that is then
    announced again.  A space always keeps as many choices that a subnet may
    keep as it needs.

    Args:
        edges: Whether spaces of edges lose choices too, if they have an
            architecture parameter.
    """

    def __init__(self, edges: bool = False) -> None:
        super().__init__()
        self.edges = bool(edges)
        self._done = -1

    def check(self, mutator: Any) -> None:
        """Refuse a mutator without scores of its choices."""
        check_scores(self, mutator)

    @property
    def temperature(self) -> float:
        """What logits are divided by before choices are scored."""
        return 1.0

    @abstractmethod
    def staying(
        self, scores: Mapping[str, float], needed: list[str], num_choices: int
    ) -> Iterable[str]:
        """Return the choices of a space that stay in this epoch, ``needed`` among them.

        Args:
            scores: Of the choices that were not dropped.
            needed: The best that a subnet may keep, as many as it keeps.
            num_choices: How many choices there were when the search began.
        """

    def begin_epoch(self, mutator: Any) -> None:
        """Drop what does not stay."""
        if not mutator.search_spaces or self._done == self.epoch:
            return
        plain = choice_scores(mutator)
        for space_id, scores in choice_scores(mutator, self.temperature).items():
            space = mutator.search_spaces[space_id]
            first = space['modules'][0]
            if first.is_fixed or (isinstance(first, MutableEdge) and not self.edges):
                continue
            # Scores that were sharpened may all be 0 but for the best.
            eligible = {
                name: score
                for name, score in plain[space_id].items()
                if name not in mutator.ignore_choices
            }
            needed = top_names(eligible, space['num_chosen'])
            stay = set(self.staying(scores, needed, len(space['choice_names'])))
            dropped = [name for name in scores if name not in stay]
            if dropped:
                mutator.drop_choices(space_id, dropped)
        self._done = self.epoch

    def get_extra_state(self) -> dict[str, Any]:
        """Return what ``state_dict`` holds."""
        return {**super().get_extra_state(), 'done': self._done}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`get_extra_state` was called."""
        super().set_extra_state(state)
        self._done = state.get('done', -1)


@EXTENSIONS.register_module()
class ProgressiveShrinking(Shrinking):
    """Leaves each space only its best choices, fewer from stage to stage.

    P-DARTS (Chen et al., ICCV 2019), section 3.2, goes from 8 to 5 and 3
    choices after 25 and 50 of 75 epochs; DrNAS (Chen et al., ICLR 2021),
    section 3.3, from 8 to 4 (DARTS space) or 5 to 3 (NAS-Bench-201) at half
    time.  Choices are compared by the mutator's ``choice_probs``, those in
    ``ignore_choices`` like the others, as in the authors' codes.

    The authors of P-DARTS begin each stage with a deeper network and new
    parameters; here the search goes on with those that there are.

    Args:
        keep: ``{start: number of choices}``; a start is an epoch as an int, or
            a part of all epochs as a float between 0 and 1.
        edges: Whether spaces of edges shrink too, if they have an architecture
            parameter.

    Raises:
        ConfigError: A ``keep`` of another form, a number below 1, or a mutator
            without ``choice_probs``.
    """

    paper = 'Chen et al., ICCV 2019'

    def __init__(self, keep: Mapping[float, int], edges: bool = False) -> None:
        super().__init__(edges)
        self.keep = check_stages('keep', keep)
        for start, count in self.keep.items():
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ConfigError(
                    'Expected the values of `keep` to be ints of at least 1, but got '
                    f'{count!r} for {start!r}'
                )

    def staying(
        self, scores: Mapping[str, float], needed: list[str], num_choices: int
    ) -> Iterable[str]:
        """Return the best choices, as many as the stage keeps."""
        stages = stages_until(self.keep, self.epoch, self.max_epochs)
        count = min([len(scores), *(stage.value for stage in stages)])
        others = {name: score for name, score in scores.items() if name not in needed}
        return [*needed, *top_names(others, max(count - len(needed), 0))]


@EXTENSIONS.register_module()
class ThresholdPruning(Shrinking):
    r"""Drops every choice whose score, sharper from epoch to epoch, is under a threshold.

    ASAP (Noy et al., AISTATS 2020), section 3: the score is the softmax of
    :math:`\alpha / T` with the temperature :math:`T = T_0 \beta^e`, the
    threshold :math:`\theta / N` for the :math:`N` choices that the space began
    with, and nothing is dropped until :math:`T` is below a grace temperature.
    The mutator goes on to mix in its own way: a temperature of the mixture is
    the mutator's to anneal.

    Args:
        threshold: :math:`\theta` in the last epoch, from 0 to 1.
        start_threshold: That in the first epoch, linear between; by default
            ``threshold``, as in the paper.
        temperature: :math:`T_0`, above 0.
        decay: :math:`\beta`, above 0.
        grace: Nothing is dropped before the temperature is below.
        edges: Whether spaces of edges lose choices too, if they have an
            architecture parameter.

    Raises:
        ConfigError: An option outside of its range, or a mutator without
            ``choice_probs``.
    """

    paper = 'Noy et al., AISTATS 2020'

    def check(self, mutator: Any) -> None:
        """Refuse a mutator without logits, which a temperature could sharpen."""
        super().check(mutator)
        check_logits(self, mutator)

    def __init__(
        self,
        threshold: float = 0.4,
        start_threshold: float | None = None,
        temperature: float = 1.6,
        decay: float = 0.95,
        grace: float = 1.0,
        edges: bool = False,
    ) -> None:
        super().__init__(edges)
        start = threshold if start_threshold is None else start_threshold
        for name, value in (('threshold', threshold), ('start_threshold', start)):
            if not check_finite(name, value, 0.0) <= 1:
                raise ConfigError(f'Expected `{name}` to be from 0 to 1, but got {value!r}')
        for name, value in (('temperature', temperature), ('decay', decay), ('grace', grace)):
            if not check_finite(name, value) > 0:
                raise ConfigError(f'Expected `{name}` to be above 0, but got {value!r}')
        self.start_threshold, self.end_threshold = float(start), float(threshold)
        self.start_temperature, self.decay = float(temperature), float(decay)
        self.grace = float(grace)

    @property
    def threshold(self) -> float:
        """The threshold of the epoch, before it is divided by the number of choices."""
        return linear_schedule(
            self.start_threshold, self.end_threshold, self.epoch, self.max_epochs
        )

    @property
    def temperature(self) -> float:
        """The temperature of the epoch."""
        return self.start_temperature * self.decay**self.epoch

    def staying(
        self, scores: Mapping[str, float], needed: list[str], num_choices: int
    ) -> Iterable[str]:
        """Return the choices over the threshold; all of them before the grace is over."""
        if self.temperature >= self.grace:
            return scores
        least = self.threshold / num_choices
        return [*needed, *(name for name, score in scores.items() if score >= least)]
