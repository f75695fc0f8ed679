"""Train weights and architecture parameters together."""

from .bilevel import BilevelSearch
from .complexity import SubnetCosts
from .curvature import dominant_eigenvalue, hessian_product, largest_eigenvalue
from .evolution import Evolution
from .evolution_state import Scored
from .execution import Execution
from .hypergradients import (
    ConjugateGradient,
    Exact,
    FiniteDifference,
    FirstOrder,
    Hypergradient,
    Neumann,
)
from .memory import peak_bytes
from .monitor import SearchMonitor
from .norm_statistics import calibrate_batch_norm
from .virtual_step import virtual_step

__all__ = [
    'BilevelSearch',
    'ConjugateGradient',
    'Evolution',
    'Exact',
    'Execution',
    'FiniteDifference',
    'FirstOrder',
    'Hypergradient',
    'Neumann',
    'Scored',
    'SearchMonitor',
    'SubnetCosts',
    'calibrate_batch_norm',
    'dominant_eigenvalue',
    'hessian_product',
    'largest_eigenvalue',
    'peak_bytes',
    'virtual_step',
]
