"""What a search shows of itself."""

from __future__ import annotations

from typing import Any

from ..sheets import Sheet

__all__ = ['SummarizedSearch']


class SummarizedSearch:
    """A search that shows as a table what it works with and where it stands."""

    def summary(self) -> Sheet:
        """Return settings and progress as a table."""
        search: Any = self
        weights = sum(x.numel() for x in search.weights)
        logits = sum(x.numel() for x in search.arch_params)
        count = len(search.mutator.search_spaces)
        spaces = f'{count} space' + 's' * (count != 1)
        method = type(search.hypergradient).__name__
        rows = [
            ['supernet', f'{type(search.supernet).__name__}, {weights:,} weights in training'],
            [
                'mutator',
                f'{type(search.mutator).__name__}, {spaces}, '
                f'{logits:,} architecture parameters',
            ],
            ['weights by', _told(search.weight_optimizer)],
            ['architecture by', _told(search.arch_optimizer)],
            ['hypergradient', 'single level' if search.single_level else method],
            [
                'gradients up to',
                'any norm' if search.grad_clip is None else str(search.grad_clip),
            ],
            [
                'architecture steps',
                f'from epoch {search.arch_start_epoch}, one in {search.arch_interval}',
            ],
            ['done', f'epoch {search.epoch}, iteration {search.iteration}'],
        ]
        return Sheet(type(self).__name__, ['what', 'is'], rows)

    def __repr__(self) -> str:
        return repr(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _told(optimizer: Any) -> str:
    rates = sorted({float(group['lr']) for group in optimizer.param_groups})
    return f'{type(optimizer).__name__}, lr {", ".join(f"{rate:g}" for rate in rates)}'
