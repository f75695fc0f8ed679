"""One family of errors: catching :class:`NASError` catches them all.

Every message says what was expected, what came, where (usually the
``space_id``) and what to do about it.  The concrete classes also inherit the
built-in that fits, so that ``except ValueError`` and the like keep working in
code that does not know this library.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    'BindingError',
    'ConfigError',
    'DataError',
    'HostError',
    'InputError',
    'NASError',
    'NonFiniteLossError',
    'RankLostError',
    'SearchSpaceError',
    'SubnetError',
    'UnknownTypeError',
]


class NASError(Exception):
    """Base class of every error that this library raises on purpose."""


class ConfigError(NASError, ValueError):
    """A config, or an argument given in its place, cannot be used."""


class UnknownTypeError(ConfigError, KeyError):
    """A ``type`` that no registry knows."""

    # ``KeyError`` shows the repr of its argument, which would quote the message.
    __str__ = Exception.__str__


class SearchSpaceError(NASError, ValueError):
    """The mutables of a supernet do not make up a search space."""


class BindingError(NASError, RuntimeError):
    """A supernet is bound already, or is not bound where it should be."""


class SubnetError(NASError, ValueError):
    """A subnet does not fit the search space, or its file cannot be read."""


class InputError(NASError, ValueError):
    """A tensor or a batch has the wrong shape or form."""


class NonFiniteLossError(NASError, ArithmeticError):
    """A loss or its gradient is NaN or infinite, so no step was taken.

    Attributes:
        agreed: Whether all ranks of a distributed run raise it in this step.
        of_gradient: Whether the losses were finite, of all ranks that agreed.
    """

    agreed = True
    of_gradient = False


class RankLostError(NASError, RuntimeError):
    """Another rank of a distributed run has died or does not answer.

    Attributes:
        told: Whether another rank says so already.
    """

    told = False


class DataError(NASError, OSError):
    """A data set is missing or is not in the expected format."""


class HostError(NASError, ImportError):
    """A package that is needed here is missing or too old."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """List the candidates, with the closest spelling first.

    >>> did_you_mean('skip_conect', ['none', 'skip_connect'])
    "did you mean 'skip_connect'? Known: none, skip_connect"
    >>> did_you_mean('conv', [])
    'none are known'
    """
    known = list(candidates)
    if not known:
        return 'none are known'
    close = difflib.get_close_matches(name, known, n=1)
    hint = f'did you mean {close[0]!r}? ' if close else ''
    return f'{hint}Known: {", ".join(known)}'
