"""From any model to a supernet: rules, ties, and the way back."""

from .alternatives import SearchableModule
from .architecture import build_searchable
from .convert import make_searchable, restore_original
from .suggestions import SuggestedRules, suggest_rules

__all__ = [
    'SearchableModule',
    'SuggestedRules',
    'build_searchable',
    'make_searchable',
    'restore_original',
    'suggest_rules',
]
