"""What a supernet believes of cells, against what the table says of them.

Yu et al., "Evaluating the search phase of neural architecture search", ICLR 2020: a search
can be no better than the order in which its supernet puts the networks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmrazor_mutators.algorithms import SPOS
from mmrazor_mutators.engine.exporting import load_weights
from mmrazor_mutators.engine.jobs import build_model
from mmrazor_mutators.mutators import OneShotMutator
from mmrazor_mutators.registry import DATASETS

from .table import subnet_of, table

__all__ = ['drawn_cells', 'kendall', 'rank_correlations']

Batch = tuple[torch.Tensor, torch.Tensor]


def drawn_cells(count: int, seed: int = 0) -> list[str]:
    """Return cells of the table, drawn without replacement, always the same of a seed."""
    return random.Random(seed).sample(sorted(table('cifar10')), count)


def kendall(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Return Kendall's tau-b; ``None`` where one of both orders nothing.

    >>> round(kendall([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]), 3)
    0.333
    """
    from scipy.stats import kendalltau

    if len(set(ours)) < 2 or len(set(theirs)) < 2:
        return None
    return float(kendalltau(ours, theirs).statistic)


def batches_of(dataset: Any, images: int, seed: int, size: int = 250) -> list[Batch]:
    """Return some images of a data set, drawn with a seed of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        chosen = torch.randperm(len(dataset))[:images]
        samples = dataset.__getitems__(chosen.tolist())
    pairs = (samples[i : i + size] for i in range(0, len(samples), size))
    return [
        (torch.stack([image for image, _ in part]), torch.tensor([label for _, label in part]))
        for part in pairs
    ]


def believed_by_logits(mutator: Any, cells: Sequence[str]) -> list[float]:
    """Return the log-probability of each cell, the sum of those of its operations."""
    scores = {}
    for edge in subnet_of(cells[0]):
        names = mutator.search_spaces[edge]['choice_names']
        logs = mutator.scores(edge).detach().clamp_min(1e-12).log().tolist()
        scores[edge] = dict(zip(names, logs, strict=True))
    return [
        sum(scores[edge][entry['chosen'][0]] for edge, entry in subnet_of(cell).items())
        for cell in cells
    ]


def rank_correlations(
    cfg: Config, work_dir: Path, cells: Sequence[str], images: int
) -> dict[str, float | None]:
    """Return Kendall's tau between each belief of a supernet and the table of CIFAR-10.

    Args:
        cfg: Of the search.
        work_dir: Of the search, which is over.
        cells: As the table names them.
        images: How many of the architecture's half paths are measured on.

    Returns:
        ``logits``: of the probability that the architecture parameters give a cell.
        ``paths``: of the accuracy of its path with the weights of the supernet, with batch
        norms as they are. ``recalibrated``: the same with the statistics of the path itself.
        ``averaged``: recalibrated, with the mean of the weights after each of the epochs that
        are kept, the last two. What a method has not is left out.
    """
    truth = [table('cifar10')[cell] for cell in cells]
    model = build_model(cfg, cfg.model)
    model.load_state_dict(load_weights(work_dir / 'last.pth'))
    beliefs: dict[str, list[float]] = {}
    mutator = model.mutator
    if hasattr(mutator, 'arch_params'):
        beliefs['logits'] = believed_by_logits(mutator, cells)
    if mutator.for_retraining() is mutator:  # It has the candidates of the table.
        beliefs |= _believed_by_paths(cfg, model, work_dir, cells, images)
    return {name: kendall(values, truth) for name, values in beliefs.items()}


def mean_of(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of states; what is counted is that of the last one.

    >>> mean_of(
    ...     [
    ...         {'w': torch.tensor(1.0), 'n': torch.tensor(1)},
    ...         {'w': torch.tensor(4.0), 'n': torch.tensor(2)},
    ...     ]
    ... )
    {'w': tensor(2.5000), 'n': tensor(2)}
    """
    return {
        key: torch.stack([state[key] for state in states]).mean(0)
        if value.is_floating_point()
        else value
        for key, value in states[-1].items()
    }


def _believed_by_paths(
    cfg: Config, model: Any, work_dir: Path, cells: Sequence[str], images: int
) -> dict[str, list[float]]:
    architecture = {**cfg.model['architecture']}
    spos = SPOS(architecture, OneShotMutator(), input_shape=(1, 8, 8))
    spos.architecture.load_state_dict(model.architecture.state_dict())
    seed = cfg.randomness['seed']
    halves = {
        'weights': cfg.train_dataloader['dataset'],
        'arch': cfg.train_cfg['arch_dataloader']['dataset'],
    }
    measured, calibration = (
        batches_of(DATASETS.build(dict(halves[half])), images, seed)
        for half in ('arch', 'weights')
    )

    def believed(batches: Sequence[Batch]) -> list[float]:
        return [spos.score(subnet_of(cell), measured, batches) for cell in cells]

    found = {'paths': believed([]), 'recalibrated': believed(calibration)}
    kept = sorted(work_dir.glob('epoch_*.pth'), key=lambda path: int(path.stem[6:]))
    model.load_state_dict(mean_of([load_weights(path) for path in kept]))
    spos.architecture.load_state_dict(model.architecture.state_dict())
    return {**found, 'averaged': believed(calibration)}
