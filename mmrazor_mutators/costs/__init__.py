"""What a network costs, before it is there: parameters, multiply-adds, memory, time."""

from .building import METRICS, Metric, build_cost_model, find_arguments
from .by_clock import scaled, settle_by_clock
from .expected import choice_probabilities, cost_model_of, expected_cost
from .latency import latency_model, profile_latency
from .latency_file import LatencyFile
from .model import Chosen, CostModel, Piece, Term
from .parts import Conditions
from .scores import score_terms, space_conditions
from .shapes import LayerShape
from .solver import Bound, best_choices, extreme_cost
from .timing import time_call, time_in_turns
from .within import check_possible, choose_within

__all__ = [
    'METRICS',
    'Bound',
    'Chosen',
    'Conditions',
    'CostModel',
    'LatencyFile',
    'LayerShape',
    'Metric',
    'Piece',
    'Term',
    'best_choices',
    'build_cost_model',
    'check_possible',
    'choice_probabilities',
    'choose_within',
    'cost_model_of',
    'expected_cost',
    'extreme_cost',
    'find_arguments',
    'latency_model',
    'profile_latency',
    'scaled',
    'score_terms',
    'settle_by_clock',
    'space_conditions',
    'time_call',
    'time_in_turns',
]
