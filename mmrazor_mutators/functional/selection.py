"""Rules that read a discrete choice off continuous scores."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ['top_names']


def top_names(scores: Mapping[str, float], count: int) -> list[str]:
    """Return the ``count`` names with the largest scores, best first.

    The order of ``scores`` settles ties.

    >>> top_names({'a': 0.1, 'b': 0.3, 'c': 0.2}, 2)
    ['b', 'c']
    """
    return sorted(scores, key=lambda name: -scores[name])[:count]
