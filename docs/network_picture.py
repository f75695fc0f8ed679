"""Draw docs/images/network.png: a network of examples/models.py, found by a seed.

python docs/network_picture.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import mmrazor_mutators as mm
from mmrazor_mutators.views.draw_networks import draw_network
from mmrazor_mutators.views.networks import view_network

ROOT = Path(__file__).resolve().parents[1]
RULES = [
    {'match': 'layers.*.conv1', 'width': [0.25, 0.5, 0.75, 1.0], 'kernel_size': [1, 3]},
    {'match': ['layers.1', 'layers.3', 'layers.5'], 'depth': True},
]


def main() -> None:
    """Write the picture."""
    sys.path.insert(0, str(ROOT))
    from examples.models import ResNet

    torch.manual_seed(0)
    images = torch.randn(1, 3, 32, 32)
    supernet = mm.make_searchable(ResNet(in_channels=3), RULES, images)
    mutator = mm.RandomMutator(seed=3)
    mutator.prepare_from_supernet(supernet)
    view = view_network(supernet, mutator.search_subnet())
    draw_network(view, ROOT / 'docs' / 'images' / 'network.png')


if __name__ == '__main__':
    main()
