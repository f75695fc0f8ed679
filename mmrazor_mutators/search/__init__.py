"""Train weights and architecture parameters together."""

from .bilevel import BilevelSearch
from .curvature import dominant_eigenvalue, hessian_product, largest_eigenvalue
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
    'dominant_eigenvalue',
    'hessian_product',
    'largest_eigenvalue',
    'virtual_step',
]
