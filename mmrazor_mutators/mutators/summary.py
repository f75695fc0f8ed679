"""What a mutator shows of itself: its spaces, their choices and the weights of these."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..costs import choice_probabilities
from ..sheets import Sheet

__all__ = ['Summarized']


class Summarized(nn.Module):
    """A module that has search spaces, and shows them as a table once it has any."""

    search_spaces: Any

    def summary(self) -> Sheet:
        """Return the spaces with their choices, the likeliest first, as a table.

        >>> import mmrazor_mutators as mm
        >>> choices = dict(linear=nn.Linear(2, 2), tanh=nn.Tanh())
        >>> supernet = mm.DifferentiableOP(space_id='a', choices=choices)
        >>> mutator = mm.DartsMutator()
        >>> mutator.prepare_from_supernet(supernet)
        >>> with torch.no_grad():
        ...     _ = mutator.arch_params['a'].copy_(torch.tensor([0.0, 1.0]))
        >>> mutator.summary()
        DartsMutator: 1 space, 2 choices
          space  chooses  choices
          a      1 of 2   tanh 73%, linear 27%
        """
        spaces = self.search_spaces
        with torch.no_grad():
            weights = choice_probabilities(self) if spaces else {}
        rows, total = [], 0
        for space_id, space in spaces.items():
            names = space['choice_names']
            total += len(names)
            pairs = zip(names, weights[space_id].tolist(), strict=True)
            ordered = sorted(pairs, key=lambda pair: -pair[1])
            told = ', '.join(f'{name} {weight:.0%}' for name, weight in ordered)
            rows.append([space_id, f'{space["num_chosen"]} of {len(names)}', told])
        title = f'{type(self).__name__}: {_count(len(spaces), "space")}, {total} choices'
        return Sheet(title, ['space', 'chooses', 'choices'], rows)

    def __repr__(self) -> str:
        return repr(self.summary()) if vars(self).get('search_spaces') else super().__repr__()

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _count(number: int, what: str) -> str:
    return f'{number} {what}' if number == 1 else f'{number} {what}s'
