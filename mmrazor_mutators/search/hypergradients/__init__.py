"""Ways to differentiate the architecture loss through the weights; one method a file."""

from .base import ArchGradient, BilevelProblem, Hypergradient
from .cg import ConjugateGradient
from .exact import Exact
from .finite_difference import FiniteDifference
from .first_order import FirstOrder
from .neumann import Neumann

__all__ = [
    'ArchGradient',
    'BilevelProblem',
    'ConjugateGradient',
    'Exact',
    'FiniteDifference',
    'FirstOrder',
    'Hypergradient',
    'Neumann',
]
