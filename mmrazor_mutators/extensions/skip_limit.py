"""P-DARTS: at most so many skip connections in the network found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..checks import check_count
from ..errors import ConfigError
from ..mutators import Extension
from ..registry import EXTENSIONS
from ..typing import Subnet
from .choices import check_choice_names, check_names_occur, check_scores, choice_scores

__all__ = ['SkipLimit']


@EXTENSIONS.register_module()
class SkipLimit(Extension):
    """Vetoes the weakest skip connection until there are few enough.

    P-DARTS (Chen et al., ICCV 2019), section 3.3, as in the authors' code: of
    the skip connections in the subnet the one with the smallest weight is
    ruled out, and the subnet is read off anew, which may bring other edges and
    other operations.  Where a space has nothing else to offer the skip
    connection stays, so there may be more in the end.

    Args:
        max_skips: How many may stay, at least 0.
        names: Of the choices that are skip connections.
        prefix: What the ids of the spaces begin with that are counted, by
            default the normal cells; ``''`` for all of them.

    Raises:
        ConfigError: A limit that is no int of at least 0, a mutator without
            ``choice_probs``, or names that are no choices of such spaces.
    """

    paper = 'Chen et al., ICCV 2019'

    def __init__(
        self,
        max_skips: int = 2,
        names: Sequence[str] = ('skip_connect',),
        prefix: str = 'normal',
    ) -> None:
        super().__init__()
        check_count('max_skips', max_skips, minimum=0)
        if not isinstance(prefix, str):
            raise ConfigError(f'Expected `prefix` to be a string, but got {prefix!r}')
        self.max_skips = max_skips
        self.names = check_choice_names(names)
        self.prefix = prefix

    def check(self, mutator: Any) -> None:
        """Refuse a mutator without scores, and names that are no choices."""
        check_scores(self, mutator)
        check_names_occur(mutator, self.names, self.prefix)

    def veto(self, mutator: Any, subnet: Subnet) -> Iterable[tuple[str, str]]:
        """Return the weakest skip connection if there are too many."""
        skips = [
            (space_id, name)
            for space_id, choice in subnet.items()
            if space_id.startswith(self.prefix)
            for name in choice['chosen']
            if name in self.names
        ]
        if len(skips) <= self.max_skips:
            return ()
        scores = choice_scores(mutator)
        weights = {
            (space_id, name): scores[space_id][name]
            for space_id, name in skips
            if space_id in scores and self._has_others(mutator, space_id)
        }
        return [min(weights, key=lambda skip: weights[skip])] if weights else ()

    def _has_others(self, mutator: Any, space_id: str) -> bool:
        """Whether a space can do without any skip connection."""
        others = [
            name
            for name in mutator.kept_choices(space_id)
            if name not in {*self.names, *mutator.ignore_choices}
        ]
        return len(others) >= mutator.search_spaces[space_id]['num_chosen']
