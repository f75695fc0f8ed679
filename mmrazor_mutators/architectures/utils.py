"""Placeholders under the path that MMRazor v0.2.0 has for them."""

from ..mutables.placeholder import Placeholder

__all__ = ['Placeholder']
