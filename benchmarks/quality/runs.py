"""One run of one method: search, look up, compare orders, train; each part is done once."""

from __future__ import annotations

import json
import time
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from mmrazor_mutators.architectures import subnet_to_arch_string
from mmrazor_mutators.durable import write_durably
from mmrazor_mutators.engine.comparing import Plan, plan_seed, run_plan
from mmrazor_mutators.engine.jobs import search
from mmrazor_mutators.mutables import dump_subnet, load_subnet
from mmrazor_mutators.typing import Subnet

from ..rows import Results, Row, circumstances
from .baselines import hand_made, peak_mib, search_randomly
from .methods import METHODS
from .ranking import drawn_cells, rank_correlations
from .settings import SIZES, config_of, settings_of
from .table import accuracies

__all__ = ['PARTS', 'Task', 'parts_of', 'run_and_keep', 'run_task']

PARTS = ('search', 'ranking', 'training')


class Task(NamedTuple):
    """What there is to run.

    Attributes:
        size: One of :data:`SIZES`.
        space: One of :data:`SPACES`.
        data: One of :data:`DATA`.
        method: One of :data:`METHODS`, or a baseline.
        seed: Of all that is random.
    """

    size: str
    space: str
    data: str
    method: str
    seed: int


def parts_of(task: Task) -> tuple[str, ...]:
    """Return the parts that there are of a run."""
    if task.method == 'ResNet':
        return ('training',)
    ranked = task.space == 'nasbench201' and task.method in METHODS
    return PARTS if ranked else ('search', 'training')


def run_task(task: Task, part: str, out: Path) -> Row:
    """Do one part of a run, if it was not done, and return what is now known of it.

    Args:
        task: The run.
        part: One of :data:`PARTS`; the later ones need that the search is over.
        out: Folder of all runs.
    """
    torch.set_num_threads(1)
    plan = plan_of(task, out)
    row: Row = {**task._asdict(), **circumstances()}
    row['settings'] = settings_of(SIZES[task.size], task.data, task.method)
    if part == 'search':
        row |= _search(task, plan, out)
    elif part == 'ranking':
        row |= _ranking(task, plan, out)
    elif task.method == 'ResNet':
        # Of the same seed, run now if only its row is left.
        darts = _training(plan_of(task._replace(method='DARTS'), out))
        row |= hand_made(plan, darts['parameters'])
    else:
        row |= _training(plan)
    return row


def run_and_keep(task: Task, part: str, out: Path, results: Results, lock: Any) -> None:
    """Do one part of a run, and put what is known of it into the file of results."""
    row = run_task(task, part, out)
    with lock:
        results.put([row])


def plan_of(task: Task, out: Path) -> Plan:
    """Return the parts of a run; baselines have the space and the schedules of DARTS."""
    size, method = SIZES[task.size], task.method
    cfg = config_of(task.space, task.data, method if method in METHODS else 'DARTS', size)
    folder = out / task.size / task.space / task.data
    name = method.replace(', ', '_').replace(' ', '_')
    return plan_seed(cfg, task.seed, folder, name=name, num_random=size.num_random)


def _search(task: Task, plan: Plan, out: Path) -> Row:
    part = plan.search
    # Where its time was not taken, since a comparison had to search first, it is done anew.
    if 'cpu_seconds' not in (part.facts or {}):
        if task.method == 'random search':
            darts = task._replace(method='DARTS')
            took = _search(darts, plan_of(darts, out), out)['search_cpu_seconds']
            subnet, facts = search_randomly(plan, took)
            part.folder.mkdir(parents=True, exist_ok=True)
            dump_subnet(subnet, part.folder / 'subnet.yaml')
        else:
            begun = time.process_time()
            search(part.cfg, part.folder, console=quiet())  # Anew, since its time counts.
            facts = {'cpu_seconds': time.process_time() - begun, 'peak_mib': peak_mib()}
        part.finish(**facts, seconds=facts['cpu_seconds'])
    facts = part.facts or {}
    row = {
        'search_cpu_seconds': round(facts['cpu_seconds'], 1),
        'peak_mib': facts['peak_mib'],
        'subnet': names_of(load_subnet(part.folder / 'subnet.yaml')),
    }
    if 'tried' in facts:
        row['tried'] = facts['tried']
    if task.space == 'nasbench201':
        row['cell'] = cell = subnet_to_arch_string(row.pop('subnet'))
        row['table'] = {name: round(a, 2) for name, a in accuracies(cell).items()}
    return row


def names_of(subnet: Subnet) -> Subnet:
    """Return a subnet without anything but what was chosen."""
    return {space: {'chosen': list(entry['chosen'])} for space, entry in subnet.items()}


def _ranking(task: Task, plan: Plan, out: Path) -> Row:
    path = plan.folder / 'kendall.json'
    if not path.is_file():
        _search(task, plan, out)  # Its row may be there where its checkpoints are not.
        size = SIZES[task.size]
        cells = drawn_cells(size.ranked)
        found = rank_correlations(
            plan.search.cfg, plan.search.folder, cells, size.ranking_images
        )
        write_durably(path, json.dumps(found) + '\n')
    kendall = json.loads(path.read_text(encoding='utf-8'))
    return {'kendall': {k: v if v is None else round(v, 3) for k, v in kendall.items()}}


def _training(plan: Plan) -> Row:
    run = run_plan(plan, console=quiet())
    return {
        'accuracy': round(run.accuracy, 2),
        'parameters': run.parameters,
        'random_accuracies': [round(value, 2) for value in run.random_accuracies],
        'random_parameters': list(run.random_parameters),
    }


def quiet() -> Console:
    """Return a console that nobody looks at."""
    return Console(file=StringIO())
