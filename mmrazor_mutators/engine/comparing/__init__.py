"""Algorithms against random networks: the same space, data, schedule and seeds for both."""

from ..draws import Draws
from .jobs import compare, config_names
from .parts import keep
from .runs import Plan, Run, plan_seed, run_plan, run_seed
from .summaries import Summary, summarize

__all__ = [
    'Draws',
    'Plan',
    'Run',
    'Summary',
    'compare',
    'config_names',
    'keep',
    'plan_seed',
    'run_plan',
    'run_seed',
    'summarize',
]
