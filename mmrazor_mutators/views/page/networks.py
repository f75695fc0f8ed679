"""The network found and the random ones beside it: choices, layers and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from ...blame import reason_of
from ...engine.config import load_config, retrain_config
from ...engine.jobs import Result
from ...engine.picturing import network_of_config
from ...errors import NASError
from ...mutables import load_subnet
from ..network_rows import NetworkView, short
from ..networks import view_network
from .records import Records

__all__ = ['Compared', 'Networks', 'compare', 'look_at', 'verdict']


class Compared(NamedTuple):
    """A network that was trained.

    Attributes:
        name: ``'found'``, ``'random 0'`` and so on.
        accuracy: On the test split, in percent.
        parameters: Number of weights.
        macs: Multiply-adds for a sample in a few letters, empty where nobody knows.
        place: Between the worst and the best of them, from 0 to 1.
    """

    name: str
    accuracy: float
    parameters: int
    macs: str
    place: float


@dataclass
class Networks:
    """What building the networks has told.

    Attributes:
        view: Of the network found, ``None`` where it cannot be built.
        macs: Multiply-adds of trained networks by their names.
    """

    view: NetworkView | None = None
    macs: dict[str, float] = field(default_factory=dict)


def look_at(records: Records, fail: Callable[[str], Any]) -> Networks:
    """Build the networks as the config says, and count what they cost.

    Args:
        records: Of a work directory; its config is run, as when its network is trained.
        fail: Is told what could not be built.
    """
    networks, run = Networks(), records.run
    if run is None or records.subnet is None or not run.values:
        return networks
    with _telling(fail, 'The layers of the network and their costs are not shown'):
        cfg = retrain_config(load_config(run.folder / 'config.py'))
        supernet, example = network_of_config(cfg)
        networks.view = view_network(supernet, records.subnet, example)
        networks.macs['found'] = networks.view.macs
        trained = records.retraining
        for result in records.results[1:]:
            if trained is None:
                break
            path = Path(trained.folder, result.name.replace(' ', '_'), 'subnet.yaml')
            if path.is_file():
                view = view_network(supernet, load_subnet(path), example)
                networks.macs[result.name] = view.macs
    return networks


@contextmanager
def _telling(fail: Callable[[str], Any], what: str) -> Iterator[None]:
    try:
        yield
    except NASError as error:
        fail(f'{what}: {error}')
    except Exception as error:  # A config is code, which may raise anything.
        fail(f'{what}: {reason_of(error)}')


def compare(results: list[Result], networks: Networks) -> list[Compared]:
    """Return the networks that were trained, the one found first."""
    accuracies = [result.accuracy for result in results]
    low = min(accuracies, default=0.0)
    span = max(accuracies, default=0.0) - low
    return [
        Compared(
            result.name,
            result.accuracy,
            result.parameters,
            short(networks.macs[result.name]) if result.name in networks.macs else '',
            (result.accuracy - low) / span if span else 0.5,
        )
        for result in results
    ]


def verdict(results: list[Result]) -> str:
    """Say how the network found fares beside random ones.

    >>> verdict([Result('found', 97.5, 10), Result('random 0', 96.0, 9)])
    'The network found is 1.50 points above the one random network beside it.'
    >>> verdict([Result('found', 95.0, 10), Result('random 0', 96.0, 9), Result('r', 96.5, 9)])
    'The network found is 1.25 points below the mean of 2 random networks, 96.25% ± 0.35: \
this search did no better than chance.'
    """
    found, others = results[0].accuracy, [result.accuracy for result in results[1:]]
    if not others:
        return (
            'No random network was trained beside it: whether the search helped is not known.'
        )
    difference = found - mean(others)
    where = 'above' if difference > 0 else 'below'
    told = f'The network found is {abs(difference):.2f} points {where} '
    if len(others) == 1:
        told += 'the one random network beside it'
    else:
        told += (
            f'the mean of {len(others)} random networks, {mean(others):.2f}% '
            f'± {stdev(others):.2f}'
        )
    better = sum(accuracy > found for accuracy in others)
    if difference <= 0:
        return f'{told}: this search did no better than chance.'
    if better:
        told += f'; {better} of them {"is" if better == 1 else "are"} better'
    return f'{told}.'
