"""Places in a network where something can be chosen."""

from .aliases import (
    AliasedMutable,
    DiffChoiceRoute,
    DiffMutableOP,
    GumbelChoiceRoute,
    OneHotMutableOP,
    OneShotMutableOP,
)
from .base import MutableModule
from .differentiable import DifferentiableMutable, GumbelMutable
from .edge import DifferentiableEdge, GumbelEdge, MutableEdge
from .live import live_modules, modules_by_choice
from .modules import ModuleMutable
from .op import DifferentiableOP, GumbelOP, MutableOP, OneShotOP
from .partial import PartialChannelOP, PartialChannels
from .placeholder import Placeholder, convert_placeholders
from .plain import ParallelSum, SelectedSum
from .spaces import (
    build_search_spaces,
    find_chosen,
    find_mutables,
    holder_of,
    mutables_inside,
)
from .subnet import dump_subnet, load_subnet, match_subnet
from .traversal import traverse

__all__ = [
    'AliasedMutable',
    'DiffChoiceRoute',
    'DiffMutableOP',
    'DifferentiableEdge',
    'DifferentiableMutable',
    'DifferentiableOP',
    'GumbelChoiceRoute',
    'GumbelEdge',
    'GumbelMutable',
    'GumbelOP',
    'ModuleMutable',
    'MutableEdge',
    'MutableModule',
    'MutableOP',
    'OneHotMutableOP',
    'OneShotMutableOP',
    'OneShotOP',
    'ParallelSum',
    'PartialChannelOP',
    'PartialChannels',
    'Placeholder',
    'SelectedSum',
    'build_search_spaces',
    'convert_placeholders',
    'dump_subnet',
    'find_chosen',
    'find_mutables',
    'holder_of',
    'live_modules',
    'load_subnet',
    'match_subnet',
    'modules_by_choice',
    'mutables_inside',
    'traverse',
]
