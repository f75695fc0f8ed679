"""What a retraining ends with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from ..durable import write_durably

__all__ = ['Result', 'write_results']


class Result(NamedTuple):
    """How a network fared that was trained from scratch.

    Attributes:
        name: ``'found'`` or ``'random 0'`` and so on.
        accuracy: On the test split, in percent.
        parameters: Number of trained weights.
    """

    name: str
    accuracy: float
    parameters: int


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Write ``results.json``; the network found comes first, random ones follow."""
    found, others = results[0], [result.accuracy for result in results[1:]]
    content: dict[str, Any] = {
        'found': found._asdict(),
        'random': [result._asdict() for result in results[1:]],
    }
    if others:
        content['random_mean'] = mean(others)
        content['random_std'] = stdev(others) if len(others) > 1 else 0.0
    write_durably(path, json.dumps(content, indent=2) + '\n')
