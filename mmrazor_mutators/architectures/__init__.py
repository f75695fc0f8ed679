"""Supernets, backbones and their heads."""

from .darts_backbone import DartsBackbone
from .darts_cell import DartsCell, DartsNode
from .darts_supernet import DARTS_OPERATIONS, DartsSupernet
from .heads import AuxiliaryModule, ClassifierHead
from .nasbench201 import NasBench201Cell, NasBench201Reduction, NasBench201Supernet
from .nasbench201_string import (
    NASBENCH201_OPERATIONS,
    arch_string_to_subnet,
    subnet_to_arch_string,
)

__all__ = [
    'DARTS_OPERATIONS',
    'NASBENCH201_OPERATIONS',
    'AuxiliaryModule',
    'ClassifierHead',
    'DartsBackbone',
    'DartsCell',
    'DartsNode',
    'DartsSupernet',
    'NasBench201Cell',
    'NasBench201Reduction',
    'NasBench201Supernet',
    'arch_string_to_subnet',
    'subnet_to_arch_string',
]
