"""The data sets in the hands of the host: built from a config, shuffled and collated."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from mmengine.runner import Runner

from mmrazor_mutators.datasets import Digits
from mmrazor_mutators.errors import ConfigError
from mmrazor_mutators.registry import DATASETS, copy_config

pytest.importorskip('sklearn')

LOADER = {
    'batch_size': 32,
    'num_workers': 0,
    'sampler': {'type': 'DefaultSampler', 'shuffle': True},
    'collate_fn': {'type': 'default_collate'},
    'dataset': {
        'type': 'mmrazor_mutators.Digits',
        'split': 'weights',
        'images_per_class': 10,
        'transform': [{'type': 'RandomCrop', 'padding': 1}, {'type': 'Normalize'}],
    },
}


def test_the_runner_builds_a_loader():
    config = copy_config(LOADER)
    loader = Runner.build_dataloader(config, seed=0)
    assert config == LOADER
    batches = list(loader)
    assert [type(batch) for batch in batches] == [list] * 4
    assert [images.shape for images, _ in batches] == [(32, 1, 8, 8)] * 3 + [(4, 1, 8, 8)]
    images, labels = batches[0]
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    counts = torch.cat([labels for _, labels in batches]).bincount()
    assert counts.tolist() == [10] * 10


def test_a_loader_gives_the_samples_of_the_data_set():
    config = copy_config(LOADER)
    config['sampler']['shuffle'] = False
    config['dataset']['transform'] = {'type': 'Normalize'}
    loader = Runner.build_dataloader(config, seed=0)
    dataset = Digits('weights', images_per_class=10, transform={'type': 'Normalize'})
    images = torch.cat([images for images, _ in loader])
    labels = torch.cat([labels for _, labels in loader])
    for index, (image, label) in enumerate(dataset):
        torch.testing.assert_close(images[index], image, rtol=0, atol=0)
        assert labels[index] == label


@pytest.mark.parametrize('workers', [0, 2])
def test_a_seed_repeats_a_run(workers):
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        config = {**copy_config(LOADER), 'num_workers': workers}
        runs.append(list(Runner.build_dataloader(config, seed=5)))
    torch.testing.assert_close(*runs, rtol=0, atol=0)


def test_a_data_set_that_nobody_knows():
    with pytest.raises(ConfigError, match=r"'Digitz' is not a registered dataset.*'Digits'"):
        DATASETS.build({'type': 'Digitz', 'split': 'train'})


@pytest.mark.parametrize('name', ['Digits', 'FashionMNIST', 'CIFAR10'])
def test_an_argument_that_nobody_knows(name):
    with pytest.raises(ConfigError, match=f"{name} takes no argument 'spilt'.*'split'"):
        DATASETS.build({'type': name, 'spilt': 'train'})


LAZY = """
import sys
from mmrazor_mutators.registry import DATASETS, TRANSFORMS
print('mmrazor_mutators.datasets' in sys.modules)
print(DATASETS.get('Digits').__name__, TRANSFORMS.get('Cutout').__name__)
print('sklearn' in sys.modules)
"""


def test_a_lookup_imports_the_data_sets_and_no_more():
    command = [sys.executable, '-W', 'ignore', '-c', LAZY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['False', 'Digits', 'Cutout', 'False']
