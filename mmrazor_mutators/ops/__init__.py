"""Candidate operations: what a mutable can choose from."""

from .base import BaseOP
from .blocks import FactorizedReduce, StandardConv
from .common import Identity
from .darts_series import (
    DartsDilConv,
    DartsPoolBN,
    DartsSepConv,
    DartsSkipConnect,
    DartsZero,
)
from .mobilenet_series import MBBlock
from .nasbench201 import (
    NasBench201AvgPool,
    NasBench201Conv,
    NasBench201SkipConnect,
    NasBench201Zero,
)
from .shufflenet_series import ShuffleBlock, ShuffleXception

__all__ = [
    'BaseOP',
    'DartsDilConv',
    'DartsPoolBN',
    'DartsSepConv',
    'DartsSkipConnect',
    'DartsZero',
    'FactorizedReduce',
    'Identity',
    'MBBlock',
    'NasBench201AvgPool',
    'NasBench201Conv',
    'NasBench201SkipConnect',
    'NasBench201Zero',
    'ShuffleBlock',
    'ShuffleXception',
    'StandardConv',
]
