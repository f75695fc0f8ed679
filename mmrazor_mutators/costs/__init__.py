"""What a network costs, before it is there: parameters, multiply-adds, memory, time."""

from .building import METRICS, Metric, build_cost_model, find_arguments
from .expected import choice_probabilities, cost_model_of, expected_cost
from .model import CostModel, Piece, Term
from .shapes import LayerShape

__all__ = [
    'METRICS',
    'CostModel',
    'LayerShape',
    'Metric',
    'Piece',
    'Term',
    'build_cost_model',
    'choice_probabilities',
    'cost_model_of',
    'expected_cost',
    'find_arguments',
]
