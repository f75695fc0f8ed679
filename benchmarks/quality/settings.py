"""What is searched where, how long, and with which seeds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from mmrazor_mutators.engine.config import load_config

from ..rows import ROOT
from .methods import METHODS

__all__ = ['DATA', 'SIZES', 'SPACES', 'Size', 'config_of', 'settings_of']

SPACES = {'nasbench201': 'NAS-Bench-201', 'darts': 'DARTS'}
DATA = {'fashion_mnist': 'Fashion-MNIST', 'digits': 'digits'}


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        seeds: Of the runs.
        epochs: Of a search, by data set; methods with cheaper steps get more of them.
        search_images: Of each class in each half of the training split; ``None`` for all.
        batch: Of a search.
        arch_lr: Of the architecture parameters.
        weight_lr: Of the weights.
        channels: Of the first stage.
        cells: Of each stage of NAS-Bench-201.
        layers: Of the DARTS space.
        pixels: To which images of Fashion-MNIST are shrunk; 28 leaves them alone.
        retrain_epochs: Of the network found and of all that it is compared with.
        retrain_images: Of each class; ``None`` for all.
        num_random: Random networks for each seed.
        ranked: Cells whose order is compared with the table's.
        ranking_images: On which paths are measured.
    """

    seeds: tuple[int, ...]
    epochs: Mapping[str, int]
    search_images: Mapping[str, int | None]
    batch: int
    arch_lr: float
    weight_lr: float
    channels: int
    cells: int
    layers: int
    pixels: int
    retrain_epochs: int
    retrain_images: Mapping[str, int | None]
    num_random: int
    ranked: int
    ranking_images: int


SIZES = {
    # For the tests: nothing is learnt.
    'short': Size(
        seeds=(0,),
        epochs={'fashion_mnist': 1, 'digits': 1},
        search_images={'fashion_mnist': 4, 'digits': 4},
        batch=20,
        arch_lr=1e-2,
        weight_lr=0.05,
        channels=2,
        cells=1,
        layers=3,
        pixels=14,
        retrain_epochs=1,
        retrain_images={'fashion_mnist': 4, 'digits': 4},
        num_random=1,
        ranked=4,
        ranking_images=20,
    ),
    # A night on two cores.
    'default': Size(
        seeds=(0, 1, 2, 3, 4),
        epochs={'fashion_mnist': 4, 'digits': 7},
        search_images={'fashion_mnist': 128, 'digits': None},
        batch=32,
        arch_lr=1e-2,
        weight_lr=0.05,
        channels=8,
        cells=1,
        layers=3,
        pixels=14,
        retrain_epochs=10,
        retrain_images={'fashion_mnist': 200, 'digits': None},
        num_random=3,
        ranked=200,
        ranking_images=500,
    ),
    # Days on two cores: as the benchmark's supernet is, but for the number of epochs.
    'large': Size(
        seeds=(0, 1, 2, 3, 4),
        epochs={'fashion_mnist': 50, 'digits': 50},
        search_images={'fashion_mnist': 1000, 'digits': None},
        batch=64,
        arch_lr=3e-3,
        weight_lr=0.025,
        channels=16,
        cells=5,
        layers=8,
        pixels=28,
        retrain_epochs=50,
        retrain_images={'fashion_mnist': None, 'digits': None},
        num_random=5,
        ranked=200,
        ranking_images=1000,
    ),
}


def config_of(space: str, data: str, method: str, size: Size) -> Config:
    """Return the config of a search by a method, with the section for retraining.

    Args:
        space: One of :data:`SPACES`.
        data: One of :data:`DATA`.
        method: One of :data:`METHODS`.
        size: One of :data:`SIZES`.
    """
    cfg = load_config(ROOT / 'configs' / '_base_' / f'{space}_{data}.py')
    how = METHODS[method]
    images = {'images_per_class': size.search_images[data]}
    epochs = size.epochs[data] * how.passes
    depth = {'num_cells': size.cells} if space == 'nasbench201' else {'num_layers': size.layers}
    changes: dict[str, Any] = {
        'train_cfg.max_epochs': epochs,
        'train_dataloader': {'batch_size': size.batch, 'dataset': images},
        'train_cfg.arch_dataloader': {'batch_size': size.batch, 'dataset': images},
        'model.architecture': {'base_channels': size.channels, **depth},
        # `none` never wins, as with the authors of DARTS; random networks are without it too.
        'model.mutator.ignore_choices': ['zero', 'none'],
        'optim_wrapper.architecture.optimizer.lr': size.weight_lr,
        'optim_wrapper.mutator.optimizer.lr': size.arch_lr,
        'retrain.train_cfg.max_epochs': size.retrain_epochs,
        'retrain.train_dataloader.dataset.images_per_class': size.retrain_images[data],
        # As it is in this process; each run has one of its own.
        'env_cfg': {'mp_cfg': {'mp_start_method': multiprocessing.get_start_method()}},
    }
    if method != 'SPOS':
        changes['model.arch_start_epoch'] = round(how.warm_up * epochs)
    cfg.merge_from_dict(changes)
    cfg.merge_from_dict({**how.changes, **how.in_space.get(space, {})})
    if method == 'SPOS':
        side = 8 if data == 'digits' else size.pixels
        cfg.model['input_shape'] = (1, side, side)
    if data == 'fashion_mnist' and size.pixels < 28:
        _shrink(cfg, size.pixels)
    return cfg


def _shrink(cfg: Config, pixels: int) -> None:
    """Let all images be shrunk before anything else is done with them."""
    for loader in (cfg.train_dataloader, cfg.train_cfg.arch_dataloader, cfg.test_dataloader):
        steps = loader['dataset'].get('transform') or []
        loader['dataset']['transform'] = [{'type': 'ResizeShortEdge', 'size': pixels}, *steps]


def settings_of(size: Size, data: str, method: str) -> dict[str, Any]:
    """Return what is written into a row about how it was run."""
    how = METHODS.get(method, METHODS['DARTS'])
    return {
        'epochs': size.epochs[data] * how.passes,
        'search_images_per_class': how.changes.get(
            'train_dataloader.dataset.images_per_class', size.search_images[data]
        ),
        'batch': size.batch,
        'arch_lr': how.changes.get('optim_wrapper.mutator.optimizer.lr', size.arch_lr),
        'weight_lr': size.weight_lr,
        'channels': size.channels,
        'pixels': size.pixels if data == 'fashion_mnist' else 8,
        'retrain_epochs': size.retrain_epochs,
        'retrain_images_per_class': size.retrain_images[data],
    }
