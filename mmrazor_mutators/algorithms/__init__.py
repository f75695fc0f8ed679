"""Searches as models that a runner can drive."""

from .base import BaseAlgorithm
from .darts import Darts
from .spos import SPOS

__all__ = ['SPOS', 'BaseAlgorithm', 'Darts']
