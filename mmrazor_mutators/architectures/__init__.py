"""Supernets, backbones and their heads."""

from .darts_backbone import DartsBackbone
from .darts_cell import DartsCell, DartsNode
from .darts_supernet import DARTS_OPERATIONS, DartsSupernet
from .heads import AuxiliaryModule, ClassifierHead
from .image_classifier import GlobalAveragePooling, ImageClassifier
from .linear_head import DartsSubnetClsHead, LinearClsHead
from .nasbench201 import NasBench201Cell, NasBench201Reduction, NasBench201Supernet
from .nasbench201_string import (
    NASBENCH201_OPERATIONS,
    arch_string_to_subnet,
    subnet_to_arch_string,
)
from .searchable_mobilenet import SearchableMobileNet
from .searchable_shufflenet_v2 import SearchableShuffleNetV2
from .wrappers import (
    BaseArchitecture,
    MMClsArchitecture,
    MMDetArchitecture,
    MMSegArchitecture,
)

__all__ = [
    'DARTS_OPERATIONS',
    'NASBENCH201_OPERATIONS',
    'AuxiliaryModule',
    'BaseArchitecture',
    'ClassifierHead',
    'DartsBackbone',
    'DartsCell',
    'DartsNode',
    'DartsSubnetClsHead',
    'DartsSupernet',
    'GlobalAveragePooling',
    'ImageClassifier',
    'LinearClsHead',
    'MMClsArchitecture',
    'MMDetArchitecture',
    'MMSegArchitecture',
    'NasBench201Cell',
    'NasBench201Reduction',
    'NasBench201Supernet',
    'SearchableMobileNet',
    'SearchableShuffleNetV2',
    'arch_string_to_subnet',
    'subnet_to_arch_string',
]
