"""The backbones under the path that MMRazor v0.2.0 has for them."""

from ..darts_backbone import DartsBackbone
from ..searchable_mobilenet import SearchableMobileNet
from ..searchable_shufflenet_v2 import SearchableShuffleNetV2

__all__ = ['DartsBackbone', 'SearchableMobileNet', 'SearchableShuffleNetV2']
