"""Train weights and architecture parameters together."""

from .bilevel import BilevelSearch
from .hypergradients import (
    ConjugateGradient,
    Exact,
    FiniteDifference,
    FirstOrder,
    Hypergradient,
    Neumann,
)
from .virtual_step import virtual_step

__all__ = [
    'BilevelSearch',
    'ConjugateGradient',
    'Exact',
    'FiniteDifference',
    'FirstOrder',
    'Hypergradient',
    'Neumann',
    'virtual_step',
]
