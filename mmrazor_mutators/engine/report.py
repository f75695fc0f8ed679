"""What a retraining ends with: a table of the networks that were compared."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from rich.table import Table

from .jobs import Result

__all__ = ['results_table']


def results_table(results: Sequence[Result]) -> Table:
    """Return a table of accuracies, with mean and deviation of the random networks."""
    table = Table(title='Test accuracy after training from scratch')
    table.add_column('network')
    table.add_column('accuracy', justify='right')
    table.add_column('parameters', justify='right')
    for name, accuracy, parameters in results:
        table.add_row(name, f'{accuracy:.2f}%', f'{parameters:,}')
    others = [result.accuracy for result in results[1:]]
    if len(others) > 1:
        table.add_section()
        table.add_row('random, mean', f'{mean(others):.2f}% ± {stdev(others):.2f}', '')
    return table
