"""Backbones and heads under the paths that MMRazor v0.2.0 has for them."""

from .backbones import DartsBackbone, SearchableMobileNet, SearchableShuffleNetV2
from .heads import DartsSubnetClsHead

__all__ = [
    'DartsBackbone',
    'DartsSubnetClsHead',
    'SearchableMobileNet',
    'SearchableShuffleNetV2',
]
