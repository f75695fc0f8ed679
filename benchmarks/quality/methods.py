"""The methods that are compared: what differs from DARTS, first order, in the config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ['BASELINES', 'METHODS', 'Method']

Changes = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A method of search.

    Attributes:
        changes: To the config of DARTS.
        in_space: More of them in one space, by its name.
        passes: How many times as many epochs it gets, since its steps are so much cheaper.
        warm_up: Share of the epochs in which the weights alone are trained.
        data: What it is run on; of digits every search has all images.
    """

    changes: Changes = field(default_factory=dict)
    in_space: dict[str, Changes] = field(default_factory=dict)
    passes: int = 1
    warm_up: float = 0.2
    data: tuple[str, ...] = ('fashion_mnist', 'digits')


def _on_all_images(mutator: Changes) -> Method:
    return Method(
        {
            'train_dataloader.dataset.images_per_class': None,
            'train_cfg.arch_dataloader.dataset.images_per_class': None,
            'optim_wrapper.mutator.optimizer.lr': 3e-3,
            **{f'model.mutator.{key}': value for key, value in mutator.items()},
        },
        warm_up=0.25,
        data=('fashion_mnist',),
    )


def _with(*extensions: Changes) -> Method:
    return Method({'model.mutator.extensions': list(extensions)})


_ONE_SHOT: Changes = {
    'model.type': 'SPOS',
    'model.mutator': {
        '_delete_': True,
        'type': 'OneShotMutator',
        'ignore_choices': ['zero', 'none'],
    },
    'train_cfg.type': 'OneShotTrainLoop',
    'train_cfg.arch_dataloader': {
        'batch_size': 250,
        'sampler': {'shuffle': False},
        'dataset': {'transform': [{'type': 'Normalize'}]},
    },
    'train_cfg.calibration_batches': 4,
    'optim_wrapper': {
        '_delete_': True,
        'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9, 'weight_decay': 3e-4},
        'clip_grad': {'max_norm': 5},
    },
    'param_scheduler': {'_delete_': True, 'type': 'CosineAnnealingLR'},
}

METHODS: dict[str, Method] = {
    'DARTS': Method(),
    'DARTS, finite difference': Method({'model.hypergradient': 'finite_difference'}),
    'DARTS, exact': Method({'model.hypergradient': 'exact'}),
    'DARTS, longer warm-up': Method(warm_up=0.5),
    # On the DARTS space the authors lend no gradient to what was not drawn.
    'GDAS': Method(
        {'model.mutator.type': 'GDASMutator'},
        {
            'darts': {
                'model.mutator.lend_unchosen': False,
                'model.architecture.pool_norm': False,
            }
        },
        passes=3,
        warm_up=0.3,
    ),
    # One path at a time overfits a part of the images: those without weights learn nothing by
    # heart, so that they win.
    'GDAS, all images': _on_all_images({'type': 'GDASMutator'}),
    # Their code lends a gradient to what was not drawn, as if it had returned ones.
    'GDAS, all images, nothing lent': _on_all_images(
        {'type': 'GDASMutator', 'lend_unchosen': False}
    ),
    'PC-DARTS': Method(
        {'model.mutator.type': 'PCDartsMutator', 'model.mutator.channel_proportion': 2},
        warm_up=0.3,
    ),
    'DrNAS': Method(
        {
            'model.mutator.type': 'DrNASMutator',
            'optim_wrapper.mutator.optimizer.weight_decay': 0,
        }
    ),
    'FairDARTS': Method(
        {
            'model.mutator.type': 'FairDartsMutator',
            'optim_wrapper.mutator.optimizer.lr': 5e-2,
        }
    ),
    'beta-DARTS': _with({'type': 'BetaDecay'}),
    'DARTS-': _with({'type': 'AuxiliarySkip'}),
    'SDARTS': _with({'type': 'RandomPerturbation'}),
    'ReinMax': Method({'model.mutator.type': 'ReinMaxMutator'}, passes=2),
    'ReinMax, all images': _on_all_images({'type': 'ReinMaxMutator'}),
    'SPOS': Method(_ONE_SHOT, passes=3),
}

BASELINES = ('random search', 'ResNet')
"""What a search has to beat: see :mod:`.baselines`."""
