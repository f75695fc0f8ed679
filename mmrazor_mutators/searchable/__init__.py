"""From any model to a supernet: rules, ties, and the way back."""

from .alternatives import SearchableModule
from .convert import make_searchable, restore_original

__all__ = ['SearchableModule', 'make_searchable', 'restore_original']
