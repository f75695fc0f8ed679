"""From any model to a supernet: rules, ties, and the way back."""

from .alternatives import SearchableModule
from .convert import make_searchable, restore_original
from .suggestions import SuggestedRules, suggest_rules

__all__ = [
    'SearchableModule',
    'SuggestedRules',
    'make_searchable',
    'restore_original',
    'suggest_rules',
]
