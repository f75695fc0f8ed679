"""What a retraining ends with: a table of the networks that were compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from rich.table import Table

from ..documents import read_json
from ..engine.jobs import Result
from ..errors import ConfigError

__all__ = ['load_results', 'results_table']


def load_results(path: Path) -> list[Result]:
    """Read the ``results.json`` of a retraining.

    Raises:
        ConfigError: A file that is missing or holds no results.
    """
    content = read_json(path, 'results file', ConfigError)
    try:
        results = [Result(**entry) for entry in (content['found'], *content['random'])]
        for result in results:
            fits = isinstance(result.name, str) and type(result.parameters) is int
            if not fits or not isinstance(result.accuracy, (int, float)):
                raise TypeError(f'{result} is no result')
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f'Expected {str(path)!r} to be the results.json of a retraining, but '
            f'{type(error).__name__}: {error}'
        ) from error
    return results


def results_table(results: Sequence[Result]) -> Table:
    """Return a table of accuracies, with mean and deviation of the random networks."""
    title = 'Test accuracy after training from scratch'
    table = Table(title=title, min_width=len(title))
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
