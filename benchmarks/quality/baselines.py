"""What a search has to beat: a search at random as long as it, and a network made by hand."""

from __future__ import annotations

import time
from io import StringIO
from typing import Any

from mmengine.config import Config
from rich.console import Console

from mmrazor_mutators.engine.comparing import Plan
from mmrazor_mutators.engine.draws import draw_from
from mmrazor_mutators.engine.jobs import build_model, count_parameters, retrain
from mmrazor_mutators.search.memory import peak_of_process
from mmrazor_mutators.typing import Subnet

from .table import subnet_of

__all__ = ['RESIDUAL_CELL', 'hand_made', 'peak_mib', 'search_randomly']

RESIDUAL_CELL = '303101'
"""A residual block: two 3x3 convolutions in a row beside a skip connection (Dong & Yang)."""


def search_randomly(plan: Plan, seconds: float) -> tuple[Subnet, dict[str, Any]]:
    """Train random networks one after the other, and keep the best.

    Li & Talwalkar, UAI 2019, section 4.  Each is trained on the weights' half of the data for
    a fifth of the epochs of a retraining and measured on the other half, until the
    time is up; the one that is being trained then is the last.

    Args:
        plan: Of a search in the same space.
        seconds: Of the processor.

    Returns:
        The best, and what it took.
    """
    cfg = Config(plan.search.cfg.to_dict())
    training, testing = (
        {**loader['dataset']}
        for loader in (cfg.train_dataloader, cfg.train_cfg['arch_dataloader'])
    )
    cfg.merge_from_dict(
        {
            'retrain.train_cfg.max_epochs': max(1, cfg.retrain['train_cfg']['max_epochs'] // 5),
            'retrain.train_dataloader.dataset': {'_delete_': True, **training},
            'retrain.test_dataloader.dataset': {'_delete_': True, **testing},
        }
    )
    begun = time.process_time()
    model = build_model(cfg, cfg.model)
    tried: list[tuple[float, Subnet]] = []
    while not tried or time.process_time() - begun < seconds:
        # Others than those of the comparison, whose seeds are small.
        seed = 10**6 * (1 + plan.seed) + len(tried)
        subnet = draw_from(model, cfg.train_cfg, seed, 1).subnets[0]
        folder = plan.folder / 'tried' / str(len(tried))
        (result,) = retrain(cfg, subnet, folder, console=Console(file=StringIO()))
        tried.append((result.accuracy, subnet))
    best = max(tried, key=lambda pair: pair[0])[1]
    return best, {
        'tried': len(tried),
        'cpu_seconds': time.process_time() - begun,
        'peak_mib': peak_mib(),
    }


def hand_made(plan: Plan, parameters: int) -> dict[str, Any]:
    """Train a residual network of about as many parameters, like a network that was found.

    Args:
        plan: Of a search on the same data.
        parameters: As many.
    """
    cfg = Config(plan.search.cfg.to_dict())
    subnet = subnet_of(RESIDUAL_CELL)
    space = {
        'type': 'NasBench201Supernet',
        **{key: cfg.model['architecture'][key] for key in ('in_channels', 'num_classes')},
        'num_cells': 1,
    }
    sizes = {}
    for channels in range(1, 129):
        cfg.model['architecture'] = {**space, 'base_channels': channels}
        built = {**cfg.model, 'retraining': True, 'mutable_cfg': subnet}
        built['architecture'] = {**built['architecture'], 'affine': True}
        sizes[channels] = count_parameters(build_model(cfg, built))
        if sizes[channels] >= parameters:
            break
    channels = min(sizes, key=lambda each: abs(sizes[each] - parameters))
    cfg.model['architecture'] = {**space, 'base_channels': channels}
    folder = plan.folder / 'network'
    (result,) = retrain(cfg, subnet, folder, console=Console(file=StringIO()), name='ResNet')
    return {'accuracy': round(result.accuracy, 2), 'parameters': result.parameters}


def peak_mib() -> int | None:
    """Return the most memory that this process has held, in MiB."""
    peak = peak_of_process('cpu')
    return None if peak is None else round(peak.num_bytes / 2**20)
