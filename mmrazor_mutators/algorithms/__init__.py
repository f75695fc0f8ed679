"""Searches as models that a runner can drive."""

from .darts import Darts

__all__ = ['Darts']
