"""How to go on from a work directory: the commands, as they can be pasted."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from .records import Records, Run

__all__ = ['Command', 'commands_of']

_PROGRAM = 'mmrazor-mutators'
_RANDOM = 3
"""How many random networks a fair comparison takes at least."""


class Command(NamedTuple):
    """A command.

    Attributes:
        what: It does.
        line: To paste; lines that end in a backslash go on in the next one.
    """

    what: str
    line: str


def commands_of(records: Records) -> list[Command]:
    """Return what can be done next, the most likely first."""
    if records.front is not None and records.run is None:
        metric, points = records.front
        return [
            Command(
                f'Look at the search under {metric} of {p.budget:g}', _line('report', p.folder)
            )
            for p in points
        ]
    search, retraining = records.search, records.retraining
    found: list[Command] = []
    if search is not None and search.values:
        found += _of_search(records, search)
    if retraining is not None and retraining.values:
        found += _of_retraining(records, retraining)
    subnet = records.run.folder / 'subnet.yaml' if records.run else None
    if subnet is not None and records.subnet is not None:
        line = _line('show', subnet, '--out', records.folder / 'cells.png')
        found.append(Command('Draw the network into a file', line))
    return found


def _of_search(records: Records, search: Run) -> list[Command]:
    folder, config = search.folder, search.folder / 'config.py'
    if search.state == 'running':
        return [Command('Write this page anew', _line('report', folder))]
    if search.state == 'stopped':
        resume = _line('search', config, '--work-dir', folder, '--resume')
        return [Command('Go on with the search', resume)]
    if records.subnet is None or records.retraining is not None:
        return []
    trained, subnet = folder / 'retrain', folder / 'subnet.yaml'
    retrain = _line(
        'retrain',
        config,
        '--subnet',
        subnet,
        '--work-dir',
        trained,
        '--compare-random',
        _RANDOM,
    )
    commands = [Command('Train the network from scratch, beside random ones', retrain)]
    if (folder / 'last.pth').is_file():
        line = _export(config, subnet, folder / 'last.pth', folder)
        commands.append(Command('Export it with the weights of the search', line))
    return commands


def _of_retraining(records: Records, run: Run) -> list[Command]:
    folder, config = run.folder, run.folder / 'config.py'
    subnet = folder / 'subnet.yaml'
    randoms = max(len(records.results) - 1, len([*folder.glob('random_*')]))
    if run.state == 'running':
        return [Command('Write this page anew', _line('report', records.folder))]
    again = ['retrain', config, '--subnet', subnet, '--work-dir', folder]
    if run.state == 'stopped':
        more = ['--compare-random', randoms] if randoms else []
        return [Command('Go on with the training', _line(*again, *more, '--resume'))]
    commands = []
    if (folder / 'last.pth').is_file():
        line = _export(config, subnet, folder / 'last.pth', records.folder)
        commands.append(Command('Export the trained network', line))
    if randoms < _RANDOM:
        line = _line(*again, '--compare-random', _RANDOM, '--resume')
        commands.append(Command(f'Compare it with {_RANDOM} random networks', line))
    return commands


def _export(config: Path, subnet: Path, checkpoint: Path, folder: Path) -> str:
    out = folder / 'found.onnx'
    return _line('export', config, '--subnet', subnet, '--checkpoint', checkpoint, '--out', out)


def _line(*words: object) -> str:
    """Return a command, each of its options in a line of its own."""
    line = _PROGRAM
    for word in map(str, words):
        line += f' \\\n    {word}' if word.startswith('--') else f' {shlex.quote(word)}'
    return line
