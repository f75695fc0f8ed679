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
from .plain import ParallelSum, SelectedSum, Skip
from .plan import Member, SearchPlan, Tie, arguments_of, find_plans, plan_of, set_plan
from .searchable_layers import (
    SearchableLayer,
    call_norms,
    make_searchable_layer,
    restore_layer,
)
from .settling import members_by_layer, network_of, settle_layer
from .sizes import DifferentiableChannel, DifferentiableKernel
from .spaces import (
    build_search_spaces,
    find_chosen,
    find_mutables,
    holder_of,
    mutables_inside,
)
from .subnet import dump_subnet, load_subnet, match_subnet
from .torch_classes import our_classes_kept, use_torch_classes
from .traversal import traverse
from .value import DifferentiableValue

__all__ = [
    'AliasedMutable',
    'DiffChoiceRoute',
    'DiffMutableOP',
    'DifferentiableChannel',
    'DifferentiableEdge',
    'DifferentiableKernel',
    'DifferentiableMutable',
    'DifferentiableOP',
    'DifferentiableValue',
    'GumbelChoiceRoute',
    'GumbelEdge',
    'GumbelMutable',
    'GumbelOP',
    'Member',
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
    'SearchPlan',
    'SearchableLayer',
    'SelectedSum',
    'Skip',
    'Tie',
    'arguments_of',
    'build_search_spaces',
    'call_norms',
    'convert_placeholders',
    'dump_subnet',
    'find_chosen',
    'find_mutables',
    'find_plans',
    'holder_of',
    'live_modules',
    'load_subnet',
    'make_searchable_layer',
    'match_subnet',
    'members_by_layer',
    'modules_by_choice',
    'mutables_inside',
    'network_of',
    'our_classes_kept',
    'plan_of',
    'restore_layer',
    'set_plan',
    'settle_layer',
    'traverse',
    'use_torch_classes',
]
