"""From any model to a supernet: rules, ties, and the way back."""

from .alternatives import SearchableModule, Skip
from .convert import make_searchable, restore_original

__all__ = ['SearchableModule', 'Skip', 'make_searchable', 'restore_original']
