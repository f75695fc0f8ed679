"""Compare several configs with random networks, over several seeds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from ...checks import check_count
from ...distributed import world_size
from ...errors import ConfigError, NASError
from .. import signals
from ..lock import alone_in_work_dir
from .parts import keep
from .runs import Run, as_row, plan_seed, run_plan

__all__ = ['compare', 'config_names']


def config_names(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return what configs are called in a comparison: by their folder and file.

    Raises:
        ConfigError: Two configs of one name.

    >>> config_names(['configs/darts/digits.py', 'configs/gdas/digits.py'])
    ['darts/digits', 'gdas/digits']
    """
    names: dict[str, str] = {}
    for given in paths:
        path = os.fspath(given)
        whole = Path(path).resolve()
        name = f'{whole.parent.name}/{whole.stem}'.lstrip('/')
        if name in names:
            raise ConfigError(
                f'The configs {names[name]!r} and {path!r} are both called {name!r}, by their '
                'folder and file: give each once, and rename one that differs'
            )
        names[name] = path
    return [*names]


@signals.listening()
@alone_in_work_dir
def compare(
    configs: Mapping[str, Config],
    num_seeds: int,
    work_dir: Path,
    *,
    num_random: int = 1,
    console: Console | None = None,
    tell: Callable[[list[Run]], None] = lambda runs: None,
) -> list[Run]:
    """Run what is missing of a comparison with random networks.

    All configs are checked, and whatever ``work_dir`` holds of them, before the first part is
    run. Seed by seed, so that the first table comes early.

    Args:
        configs: By their names; see :func:`config_names`.
        num_seeds: Of each config: 0, 1 and so on.
        work_dir: Gets a folder for each config, seed and part, and ``runs.jsonl``.
        num_random: Random networks for each config and seed.
        console: Where to show the progress.
        tell: Is given all runs that are finished, whenever another one is.

    Returns:
        The runs, config by config.

    Raises:
        ConfigError: A config that cannot be compared, or parts of another one.
        NASError: Whatever is wrong with the data, a search or a training.
    """
    check_count('num_seeds', num_seeds)
    if world_size() > 1 or int(os.environ.get('WORLD_SIZE', '1')) > 1:
        raise ConfigError(
            'Expected one process to compare configs, but there are '
            f'{os.environ.get("WORLD_SIZE", world_size())} of torchrun: start it without, or '
            'let the verbs search and retrain use them'
        )
    plans = []
    for name, cfg in configs.items():
        for seed in range(num_seeds):
            with _naming(name):
                plans.append(plan_seed(cfg, seed, work_dir, name=name, num_random=num_random))
    runs: dict[int, Run] = {}
    finished: list[Run] = []
    for index, plan in sorted(enumerate(plans), key=lambda item: item[1].seed):
        runs[index] = run_plan(plan, console=console)
        finished = [run for _, run in sorted(runs.items())]
        lines = [json.dumps(as_row(run)) for run in finished]
        keep(work_dir / 'runs.jsonl', '\n'.join(lines) + '\n')
        tell(finished)
    return finished


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Let an error say of which config it is."""
    try:
        yield
    except NASError as error:
        if name not in str(error):
            error.args = (f'{name}: {error}',)
        raise
