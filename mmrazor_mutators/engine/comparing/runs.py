"""One seed of one config: a search, the network found, and random networks trained alike."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from mmengine.config import Config
from rich.console import Console

from ...checks import check_count
from ...errors import ConfigError
from ...mutables import load_subnet
from ...registry import MUTATORS
from ...typing import Subnet
from ..draws import Draws, draw_from, limits_text
from ..hooks.seconds import SecondsHook
from ..jobs import build_model, check_training_parts, retrain, retraining_config, search
from .parts import Part, fingerprint, finished_alike

__all__ = ['Plan', 'Run', 'plan_seed', 'run_plan', 'run_seed']


@dataclass(frozen=True)
class Run:
    """How one seed of one config fared.

    Attributes:
        config: Its name.
        seed: Of the search and of all trainings.
        accuracy: Of the network found, on the test split, in percent.
        parameters: Of the network found.
        random_accuracies: Of random networks that were trained alike.
        random_parameters: Of the same ones.
        limits: What random networks were held to, as the network found was; empty where they
            are of the whole space.
        search_seconds: What the search took.
        folder: Where the parts are.
    """

    config: str
    seed: int
    accuracy: float
    parameters: int
    random_accuracies: tuple[float, ...]
    random_parameters: tuple[int, ...]
    limits: str
    search_seconds: float
    folder: str

    @property
    def random_accuracy(self) -> float | None:
        """The mean of the random networks; ``None`` without any."""
        return fmean(self.random_accuracies) if self.random_accuracies else None


@dataclass(frozen=True)
class Plan:
    """What there is to do for one seed of one config; all of it was checked.

    Attributes:
        name: Of the config.
        seed: Of all parts.
        work_dir: Of the comparison.
        search: The search.
        found: The training of what it finds.
        randoms: The trainings of random networks.
        draws: These networks.
    """

    name: str
    seed: int
    work_dir: Path
    search: Part
    found: Part
    randoms: tuple[Part, ...]
    draws: Draws

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        return self.search.folder.parent


def run_seed(
    cfg: Config,
    seed: int,
    work_dir: Path,
    *,
    name: str,
    num_random: int = 1,
    console: Console | None = None,
) -> Run:
    """Search, train the network found and random ones, as far as that was not done before.

    Args:
        cfg: Of a search, with a ``retrain`` section.
        seed: Of the search and of all trainings, in place of the config's.
        work_dir: Of the comparison; the parts are below ``NAME/seed_SEED``.
        name: Of the config, such as ``'darts/digits'``; unique in ``work_dir``.
        num_random: How many random networks to train.
        console: Where to show the progress.

    Raises:
        ConfigError: The config cannot be compared, or ``work_dir`` holds parts of another one.
        NASError: Whatever is wrong with the data, the search or the trainings.
    """
    plan = plan_seed(cfg, seed, work_dir, name=name, num_random=num_random)
    return run_plan(plan, console=console)


def plan_seed(
    cfg: Config, seed: int, work_dir: Path, *, name: str, num_random: int = 1
) -> Plan:
    """Return what :func:`run_seed` would do; nothing is changed.

    Raises:
        ConfigError: As for :func:`run_seed`.
        NASError: The space of the search cannot be built.
    """
    check_count('num_random', num_random, 0)
    cfg = with_seed(cfg, check_count('seed', seed, 0))
    model = _searching_model(cfg, name)
    training = retraining_config(cfg)
    folder = work_dir / name / f'seed_{seed}'
    draws = draw_from(model, cfg.train_cfg, seed, num_random)
    randoms = [
        Part(folder / f'random_{index}', training, subnet)
        for index, subnet in enumerate(draws.subnets)
    ]
    plan = Plan(
        name,
        seed,
        work_dir,
        Part(folder / 'search', cfg),
        Part(folder / 'found', training),
        tuple(randoms),
        draws,
    )
    for part in (plan.search, plan.found, *plan.randoms):
        part.check()
    return plan


def with_seed(cfg: Config, seed: int) -> Config:
    """Return a config with another seed; a mutator that draws by one of its own gets it too."""
    changed = Config(cfg.to_dict())
    changed.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}
    mutator = dict(cfg.model.get('mutator') or {})
    kind = MUTATORS.get(mutator['type']) if isinstance(mutator.get('type'), str) else None
    if kind is not None and 'seed' in inspect.signature(kind).parameters:
        changed.model['mutator'] = {**mutator, 'seed': seed}
    return changed


def _searching_model(cfg: Config, name: str) -> Any:
    if 'retrain' not in cfg:
        raise ConfigError(
            f'Expected the config {name!r} to have a `retrain` section, which says how the '
            f'network found is trained, but it has {", ".join(sorted(cfg))}; see '
            'configs/_base_/short_retraining.py'
        )
    check_training_parts(cfg)
    model = build_model(cfg, cfg.model)
    if not getattr(model, 'searching', False):
        raise ConfigError(
            f'Expected `model` of the config {name!r} to be a search, but it has no mutator or '
            'says retraining=True; see configs/darts/digits.py'
        )
    return model


def run_plan(plan: Plan, *, console: Console | None = None) -> Run:
    """Run the parts of a plan that are missing, and return how they fared.

    A part that was interrupted goes on; one that is finished is not run again. A training that
    was done in another part already, with the same network, seed, data and schedule, as random
    networks of one space are for several algorithms, is taken from there.
    """
    console = console or Console()
    subnet = _searched(plan, console)
    found = Part(plan.found.folder, plan.found.cfg, subnet)
    found.check()
    for title, part in [
        ('found', found),
        *((f'random {index}', part) for index, part in enumerate(plan.randoms)),
    ]:
        _train(plan, part, title, console)
    return Run(
        config=plan.name,
        seed=plan.seed,
        accuracy=float(found.number('accuracy')),
        parameters=int(found.number('parameters')),
        random_accuracies=tuple(float(part.number('accuracy')) for part in plan.randoms),
        random_parameters=tuple(int(part.number('parameters')) for part in plan.randoms),
        limits=limits_text(plan.draws.limits),
        search_seconds=float(plan.search.number('seconds')),
        folder=str(plan.folder),
    )


def _searched(plan: Plan, console: Console) -> Subnet:
    part = plan.search
    if part.facts is None:
        _say(console, plan, 'search', part.begun)
        counting = SecondsHook()
        begun = time.perf_counter()
        search(part.cfg, part.folder, resume=part.begun, console=console, hooks=[counting])
        # What has nothing to train has no hooks either.
        part.finish(seconds=counting.seconds or time.perf_counter() - begun)
    return load_subnet(part.folder / 'subnet.yaml')


def _train(plan: Plan, part: Part, title: str, console: Console) -> None:
    if part.facts is not None or part.subnet is None:
        return
    mark = fingerprint(part.cfg, part.subnet)
    same = None if mark is None or part.begun else finished_alike(plan.work_dir, mark)
    if same is not None:
        facts, folder = same
        part.adopt(facts, folder.relative_to(plan.work_dir))
        _say(console, plan, f'{title}: as in {folder.relative_to(plan.work_dir)}', False)
        return
    _say(console, plan, title, part.begun)
    (result,) = retrain(
        part.cfg, part.subnet, part.folder, resume=part.begun, console=console, name=title
    )
    part.finish(accuracy=result.accuracy, parameters=result.parameters, fingerprint=mark)


def _say(console: Console, plan: Plan, what: str, goes_on: bool) -> None:
    line = f'{plan.name}, seed {plan.seed}: {what}{", goes on" if goes_on else ""}'
    console.print(line, highlight=False, soft_wrap=True, markup=False)


def as_row(run: Run) -> Mapping[str, Any]:
    """Return a run as JSON holds it."""
    return {**vars(run), 'random_accuracy': run.random_accuracy}
