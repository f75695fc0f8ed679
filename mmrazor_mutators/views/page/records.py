"""What a work directory holds: read as data, without running anything of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...documents import read_json, read_text
from ...engine.checkpoints import has_begun, latest_facts
from ...engine.costing import FrontPoint
from ...engine.evolution import OneShotTrainLoop, read_evolution
from ...engine.jobs import Result
from ...engine.lock import holder_of
from ...engine.resuming import values_of
from ...errors import ConfigError, NASError
from ...mutables import load_subnet
from ...typing import Subnet
from ..history import History, read_history
from ..report import load_results

__all__ = ['Records', 'Run', 'read_records']

_NUMBERS = (int, float)


@dataclass
class Run:
    """A search or a training, as its directory tells of it.

    Attributes:
        folder: Where it is.
        values: What its ``config.py`` assigns; empty where there is none.
        text: Of that file.
        process: The process that is at work in it, ``None`` if there is none.
        unit: What is counted, ``'epoch'`` or ``'step'``.
        reached: How many the newest checkpoint has finished; ``None`` without one.
        total: How many the config asks for, ``None`` where that is not known.
        done: Whether it has finished.
    """

    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    text: str = ''
    process: int | None = None
    unit: str = 'epoch'
    reached: int | None = None
    total: int | None = None
    done: bool = False

    @property
    def state(self) -> str:
        """``'running'``, ``'finished'`` or ``'stopped'``."""
        if self.process is not None:
            return 'running'
        return 'finished' if self.done else 'stopped'


@dataclass
class Records:
    """All that was found in a work directory.

    Attributes:
        folder: The directory.
        search: The search in it, ``None`` if it has none.
        retraining: The training of the network found, ``None`` if there is none.
        history: Of the search, epoch by epoch.
        subnet: What was found.
        results: Of the networks that were trained, the one found first.
        evolution: The state of an evolution over paths.
        front: Metric and points of a front.
        missing: What is not there or cannot be read, a sentence each.
    """

    folder: Path
    search: Run | None = None
    retraining: Run | None = None
    history: History | None = None
    subnet: Subnet | None = None
    results: list[Result] = field(default_factory=list)
    evolution: Mapping[str, Any] | None = None
    front: tuple[str, list[FrontPoint]] | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def run(self) -> Run | None:
        """The search, or the training where there is no search."""
        return self.search or self.retraining


def read_records(folder: Path) -> Records:
    """Read a work directory, whatever state it is in.

    Args:
        folder: Of a search, with its retraining in ``retrain``; of a retraining alone; or
            of a front.

    Raises:
        ConfigError: There is no such directory, or nothing of a run in it.
    """
    if not folder.is_dir():
        raise ConfigError(
            f'There is no work directory {str(folder)!r}; expected one that search, retrain '
            'or front has written'
        )
    records = Records(folder)
    trained = folder if (folder / 'results.json').exists() else folder / 'retrain'
    if trained.is_dir():
        records.retraining = _read_run(trained, records.missing)
        _read_results(records, trained)
    if trained != folder and (has_begun(folder) or (folder / 'subnet.yaml').exists()):
        records.search = _read_run(folder, records.missing)
        loop = records.search.values.get('train_cfg')
        if loop is not None and 'arch_dataloader' not in _mapping(loop):
            # A training that has no results yet.
            records.retraining, records.search = records.search, None
    if records.retraining is not None:
        # After its epochs it is tested, and then random networks have their turn.
        records.retraining.done = bool(records.results)
    _read_front(records)
    if records.run is None and records.front is None:
        raise ConfigError(
            f'There is nothing of a run in {str(folder)!r}: expected config.py, checkpoints '
            'or subnet.yaml, as search and retrain write them'
        )
    _read_found(records)
    return records


def _read_run(folder: Path, missing: list[str]) -> Run:
    run = Run(folder, process=holder_of(folder))
    path = folder / 'config.py'
    try:
        run.text = read_text(path)
        run.values = values_of(run.text)
    except OSError:
        if run.process is None:  # Else it is about to be written.
            missing.append(f'There is no {path}: the settings of this run are not known.')
    except ValueError as error:
        missing.append(f'{path} is not as it was written: {error}.')
    facts, broken = latest_facts(folder)
    missing += [f'The checkpoint {folder / name} is not whole.' for name in _names(broken)]
    loop = _mapping(run.values.get('train_cfg'))
    if type(loop.get('max_epochs')) is not int and type(loop.get('max_iters')) is int:
        run.unit = 'step'
    total = loop.get('max_epochs' if run.unit == 'epoch' else 'max_iters')
    run.total = total if type(total) is int else None
    if facts is not None:
        run.reached = facts.epoch if run.unit == 'epoch' else facts.step
    if run.reached is not None and run.total is not None:
        run.done = run.reached >= run.total
    if not run.done and (folder / 'subnet.yaml').is_file():
        run.done = _has_ended_early(run)
    if facts is None and not (broken or run.done or run.process is not None):
        missing.append(f'There is no checkpoint in {folder}: no weights are kept.')
    return run


def _has_ended_early(run: Run) -> bool:
    """Whether a search has found its subnet before its last epoch."""
    if not (run.folder / 'run_number').exists():
        return run.reached is None  # There was nothing to train.
    extensions = _mapping(_mapping(run.values.get('model')).get('mutator')).get('extensions')
    kinds = [str(_mapping(extension).get('type')) for extension in extensions or ()]
    last, subnet = run.folder / 'last.pth', run.folder / 'subnet.yaml'
    return (
        any(kind.endswith('EarlyStopping') for kind in kinds)
        and last.is_file()
        # Within an epoch it is the checkpoint that comes last.
        and subnet.stat().st_mtime_ns > last.stat().st_mtime_ns
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _names(broken: list[str]) -> list[str]:
    return [line.split(':')[0] for line in broken]


def _read_results(records: Records, folder: Path) -> None:
    path = folder / 'results.json'
    if not path.exists():
        return
    try:
        records.results = load_results(path)
    except NASError as error:
        records.missing.append(f'{error}.')


def _read_front(records: Records) -> None:
    path = records.folder / 'front.json'
    if not path.exists():
        return
    try:
        content = read_json(path, 'front', ConfigError)
        points = [FrontPoint(**point) for point in content['points']]
        numbers = [n for p in points for n in (p.budget, p.limit, p.cost, p.accuracy)]
        if not points or not all(isinstance(number, _NUMBERS) for number in numbers):
            raise TypeError('expected at least one point, of numbers')
        records.front = str(content['metric']), points
    except NASError as error:
        records.missing.append(f'{error}.')
    except (KeyError, TypeError) as error:
        records.missing.append(f'{path} is no front: {error}.')


def _read_found(records: Records) -> None:
    """Read the subnet and the evolution of the search."""
    run = records.run
    if run is None:
        return
    search = records.search
    one_shot = search is not None and _is_one_shot(search)
    if search is not None and search.reached is not None and not one_shot:
        _read_history(records)
    path = run.folder / 'subnet.yaml'
    if path.exists():
        try:
            records.subnet = load_subnet(path)
        except NASError as error:
            records.missing.append(f'{error}.')
    elif not (one_shot and search is not None and search.state != 'finished'):
        records.missing.append(f'There is no {path}: nothing was found yet.')
    path = run.folder / 'evolution.json'
    if path.exists():
        try:
            state = read_evolution(path)
            numbers: list[Any] = []
            for entry in state['evaluated']:
                numbers += [entry['score'], entry['epoch'], *entry['costs'].values()]
            if not all(isinstance(number, _NUMBERS) for number in numbers):
                raise TypeError('expected scores, generations and costs to be numbers')
            records.evolution = state
        except NASError as error:
            records.missing.append(f'{error}.')
        except (KeyError, TypeError, AttributeError) as error:
            records.missing.append(f'{path} is no evolution: {error}.')
    if search is not None and one_shot and search.done and records.subnet is None:
        search.done = False  # Its epochs are those of the supernet alone.


def _read_history(records: Records) -> None:
    try:
        records.history = read_history(records.folder)
        records.missing += [f'{problem}.' for problem in records.history.problems]
    except NASError as error:
        records.missing.append(f'{error}.')


def _is_one_shot(run: Run) -> bool:
    kind = str(_mapping(run.values.get('train_cfg')).get('type'))
    return kind.rpartition('.')[2] == OneShotTrainLoop.__name__
