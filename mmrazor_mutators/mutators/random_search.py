"""Random search: what every other mutator has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..builder import MUTATORS
from ..errors import ConfigError
from ..typing import Subnet
from .base import BaseMutator, check_ignored

__all__ = ['RandomMutator']


@MUTATORS.register_module()
class RandomMutator(BaseMutator):
    """Draws a subnet at random: the honest baseline, which learns nothing.

    Li & Talwalkar, UAI 2019, section 4: a space may be so good that a random
    network of it does as well as one found by a search.  In each space every
    choice is equally likely, ``ignore_choices`` excepted.  There is nothing to
    train, so a search job ends at once.

    Args:
        seed: Of the draw, an int.
        ignore_choices: Names of choices that a subnet never keeps.
        **kwargs: As for :class:`BaseMutator`.

    Raises:
        ConfigError: A seed that is no int.
        SearchSpaceError: ``ignore_choices`` is no list of names.

    >>> import mmrazor_mutators as mm
    >>> from torch import nn
    >>> supernet = mm.DifferentiableOP(
    ...     space_id='a', choices=dict(none=nn.Identity(), skip=nn.Identity())
    ... )
    >>> mutator = mm.RandomMutator(seed=3)
    >>> mutator.prepare_from_supernet(supernet)
    >>> mutator.search_subnet()
    {'a': {'chosen': ['skip']}}
    """

    paper = 'Li & Talwalkar, UAI 2019'
    samples = 'a subnet'
    cost = 'nothing'

    def __init__(
        self, seed: int = 0, ignore_choices: Sequence[str] = ('zero', 'none'), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if type(seed) is not int:
            raise ConfigError(f'Expected `seed` to be an int, but got {seed!r}')
        self.seed = seed
        self.ignore_choices = check_ignored(ignore_choices)

    def search_subnet(self) -> Subnet:
        """Return the random subnet of the seed, always the same.

        Raises:
            SearchSpaceError: ``ignore_choices`` leaves nothing to choose.
        """
        return self.random_subnet(self.seed)
