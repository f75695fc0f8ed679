"""Pure functions on tensors and numbers; nothing here knows a module."""

from .relaxations import gumbel_noise, gumbel_softmax, one_hot_argmax, straight_through
from .schedules import exponential_schedule, linear_schedule
from .selection import top_names

__all__ = [
    'exponential_schedule',
    'gumbel_noise',
    'gumbel_softmax',
    'linear_schedule',
    'one_hot_argmax',
    'straight_through',
    'top_names',
]
