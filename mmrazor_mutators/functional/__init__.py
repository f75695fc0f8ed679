"""Pure functions on tensors and numbers; nothing here knows a module."""

from .channels import channel_shuffle, rejoin_channels
from .dirichlet import dirichlet_concentration, dirichlet_kl_to_uniform, dirichlet_sample
from .divisible import make_divisible
from .entmax import differentiable_entmax
from .expected_cost import (
    expected_cost,
    fbnet_cost_loss,
    fbnet_cost_sum_loss,
    linear_cost_loss,
    log_cost_product_loss,
)
from .gates import draw_one_hot, draw_pair, keep_mass, pair_gates, score_gates
from .local_averages import has_risen, local_averages
from .paired import Estimate, Interval, estimate, paired_interval
from .penalties import absolute_sum, choice_entropy, half_squared_norm, log_partition
from .reinmax import reinmax, reinmax_gates
from .relaxations import gumbel_noise, gumbel_softmax, one_hot_argmax, straight_through
from .schedules import exponential_schedule, linear_schedule
from .selection import top_names
from .simplex import exponentiated_gradient, renormalized
from .simplex_projection import clip_to_simplex
from .stages import Stage, decaying_dropout_rate, first_epoch, stages_until
from .zero_one import zero_one_l1, zero_one_l2

__all__ = [
    'Estimate',
    'Interval',
    'Stage',
    'absolute_sum',
    'channel_shuffle',
    'choice_entropy',
    'clip_to_simplex',
    'decaying_dropout_rate',
    'differentiable_entmax',
    'dirichlet_concentration',
    'dirichlet_kl_to_uniform',
    'dirichlet_sample',
    'draw_one_hot',
    'draw_pair',
    'estimate',
    'expected_cost',
    'exponential_schedule',
    'exponentiated_gradient',
    'fbnet_cost_loss',
    'fbnet_cost_sum_loss',
    'first_epoch',
    'gumbel_noise',
    'gumbel_softmax',
    'half_squared_norm',
    'has_risen',
    'keep_mass',
    'linear_cost_loss',
    'linear_schedule',
    'local_averages',
    'log_cost_product_loss',
    'log_partition',
    'make_divisible',
    'one_hot_argmax',
    'pair_gates',
    'paired_interval',
    'reinmax',
    'reinmax_gates',
    'rejoin_channels',
    'renormalized',
    'score_gates',
    'stages_until',
    'straight_through',
    'top_names',
    'zero_one_l1',
    'zero_one_l2',
]
