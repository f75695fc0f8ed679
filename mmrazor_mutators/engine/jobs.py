"""The jobs behind the command line: search, retrain, export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner, set_random_seed
from rich.console import Console
from torch import nn

from ..algorithms import SPOS
from ..builder import build_architecture, build_mutator
from ..errors import ConfigError
from ..registry import MODELS
from ..typing import Subnet
from . import signals
from .checkpoints import has_begun
from .config import retrain_config
from .draws import draw_in
from .hooks import (
    EpochSeedHook,
    PeakMemoryHook,
    ProgressHook,
    SearchMonitorHook,
    SearchSubnetHook,
)
from .lock import alone_in_work_dir
from .lost_ranks import naming_lost_ranks
from .reading_off import read_off
from .results import Result, write_results
from .resuming import BeginHook, check_same_run, config_text
from .runner import build_runner

__all__ = ['Result', 'retrain', 'search']


@signals.listening()
@alone_in_work_dir
@naming_lost_ranks
def search(
    cfg: Config,
    work_dir: Path,
    *,
    resume: bool = False,
    resume_changed: bool = False,
    launcher: str = 'none',
    console: Console | None = None,
    watch: Mapping[str, Any] | None = None,
    hooks: Sequence[Hook] = (),
) -> Subnet:
    """Search as a config says.

    Args:
        cfg: The config.
        work_dir: Where to write ``subnet.yaml``, ``config.py``, the log and
            the checkpoints, of which ``last.pth`` is the last, and what is noted of
            each epoch.
        resume: Whether to go on from the latest checkpoint in ``work_dir``.
        resume_changed: Whether to do so although the config decides otherwise.
        launcher: ``'none'`` or ``'pytorch'``.
        console: Where to show the progress.
        watch: Options of the :class:`SearchMonitorHook`.
        hooks: Beside those of the config.

    Returns:
        The subnet found.

    Raises:
        NASError: Whatever is wrong with the config, the data or the search.
    """
    check_training_parts(cfg)
    model = build_model(cfg, cfg.model)
    if not getattr(model, 'searching', False):
        raise ConfigError(
            'Expected `model` to be a search, but it has no mutator or says retraining=True; '
            'see configs/darts/digits.py'
        )
    begin = prepare_work_dir(work_dir, cfg, resume, resume_changed)
    progress = ProgressHook('search', console=console)
    learns = hasattr(model.mutator, 'arch_params')
    if learns or isinstance(model, SPOS):
        memory = PeakMemoryHook(progress.console)
        # Of a one-shot search nothing is known before its evolution.
        found = [SearchSubnetHook()] if learns else []
        noted = SearchMonitorHook.beside(cfg.get('custom_hooks'), watch or {})
        own = [begin, EpochSeedHook(), *found, *noted, progress, memory, *hooks]
        runner = build_runner(cfg, model, work_dir, own, resume=resume, launcher=launcher)
        train(runner, progress)
    else:
        name = type(model.mutator).__name__
        begin.before_train()
        progress.console.print(f'{name} has no architecture parameters: nothing to train')
    return read_off(model, work_dir, progress.console)


@signals.listening()
@alone_in_work_dir
@naming_lost_ranks
def retrain(
    cfg: Config,
    subnet: Subnet,
    work_dir: Path,
    *,
    compare_random: int = 0,
    resume: bool = False,
    resume_changed: bool = False,
    launcher: str = 'none',
    console: Console | None = None,
    name: str = 'found',
) -> list[Result]:
    """Train the network of a subnet from scratch, and random ones in the same way.

    Args:
        cfg: The config, with a ``retrain`` section or for retraining itself.
        subnet: What to train.
        work_dir: Where to write ``results.json``, the resolved config, the log
            and the checkpoints, of which ``last.pth`` is the last.
        compare_random: How many random networks of the same space, and within its budget, to
            train.
        resume: Whether to go on from the latest checkpoints.
        resume_changed: Whether to do so although config or subnet decide otherwise.
        launcher: ``'none'`` or ``'pytorch'``.
        console: Where to show the progress.
        name: What to call the network of the subnet.

    Returns:
        The results, that of the subnet first.

    Raises:
        NASError: Whatever is wrong with the config, the data or the training.
    """
    cfg = retraining_config(cfg)
    subnets = {name: subnet}
    if compare_random:
        drawn = draw_in(space_of(cfg), range(compare_random)).subnets
        subnets |= {f'random {seed}': network for seed, network in enumerate(drawn)}
    results: list[Result] = []
    for number, (name, candidate) in enumerate(subnets.items()):
        own = candidate is subnet
        folder = work_dir if own else work_dir / name.replace(' ', '_')
        model = build_model(cfg, {**cfg.model, 'retraining': True, 'mutable_cfg': candidate})
        # The run may have been stopped before this random network was begun.
        goes_on = resume and (own or has_begun(folder))
        kept = candidate if own else None
        begin = prepare_work_dir(folder, cfg, goes_on, resume_changed, kept)
        begin.subnet = candidate
        part = number, len(subnets)
        progress = ProgressHook(f'train {name}', console=console, part=part)
        runner = build_runner(
            cfg,
            model,
            folder,
            [begin, EpochSeedHook(), progress],
            resume=goes_on,
            launcher=launcher,
        )
        train(runner, progress)
        metrics = runner.test()
        if 'accuracy' not in metrics:
            raise ConfigError(
                'Expected `test_evaluator` to tell an "accuracy", as dict(type="Accuracy") '
                f'does, but it tells {", ".join(metrics) or "nothing"}'
            )
        results.append(Result(name, float(metrics['accuracy']), count_parameters(model)))
        if is_main_process():
            write_results(work_dir / 'results.json', results)
    return results


def retraining_config(cfg: Config) -> Config:
    """Return the config of a retraining, with all that one needs beside a model.

    Raises:
        ConfigError: A part is missing, or it is the config of a search.
    """
    cfg = retrain_config(cfg)
    check_training_parts(cfg)
    if 'arch_dataloader' in cfg.train_cfg:
        raise ConfigError(
            'Expected a config for retraining, but `train_cfg` has an arch_dataloader, as a '
            'search does, and there is no `retrain` section; of MMRazor v0.2.0 take the config '
            'with retraining=True'
        )
    if not cfg.get('test_dataloader'):
        raise ConfigError(
            'Expected the config to have a `test_dataloader` to report accuracy on'
        )
    return cfg


def check_training_parts(cfg: Config) -> None:
    """Check that a config has what a training needs beside a model.

    Raises:
        ConfigError: A part is missing.
    """
    for name in ('train_dataloader', 'train_cfg', 'optim_wrapper'):
        if not cfg.get(name):
            raise ConfigError(
                f'Expected the config to have a `{name}`, but it has '
                f'{", ".join(sorted(cfg))}; see configs/darts/digits.py'
            )


def build_model(cfg: Config, model_cfg: Any) -> Any:
    """Build a model after seeding, so that the seed decides on its weights."""
    randomness = cfg.get('randomness') or {}
    seed = randomness.get('seed')
    if seed is not None:
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ConfigError(
                f'Expected the seed to be an int from 0 to {2**32 - 1}, but got {seed!r}'
            )
        set_random_seed(seed)
    return MODELS.build(model_cfg)


def space_of(cfg: Config) -> Any:
    """Return a mutator that was prepared from the architecture of a config."""
    mutator = build_mutator(cfg.model['mutator'])
    mutator.prepare_from_supernet(build_architecture(cfg.model['architecture']))
    return mutator


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained weights."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def prepare_work_dir(
    work_dir: Path,
    cfg: Config,
    resume: bool,
    resume_changed: bool = False,
    subnet: Subnet | None = None,
) -> BeginHook:
    """Make a work directory.

    Returns:
        The hook that writes the resolved config into it when the run begins.

    Raises:
        ConfigError: It cannot be made, there is nothing to resume, or what is to be
            resumed was begun otherwise.
    """
    if resume and not has_begun(work_dir):
        raise ConfigError(
            f'There is nothing to resume in {str(work_dir)!r}: no run was begun there; '
            'start without --resume'
        )
    text = config_text(cfg)
    if resume and not resume_changed:
        check_same_run(work_dir, cfg, subnet)
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f'Cannot write into the work directory {str(work_dir)!r}: {error.strerror}'
        ) from error
    return BeginHook(work_dir, text)


def train(runner: Runner, progress: ProgressHook) -> None:
    """Run the training; the progress bar goes away whatever happens."""
    try:
        runner.train()
    finally:
        signals.requests.in_steps = False
        progress.close()
