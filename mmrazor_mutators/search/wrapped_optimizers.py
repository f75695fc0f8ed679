"""Optimizers that the loops of other libraries have wrapped."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from torch.optim import Optimizer

from ..errors import ConfigError

__all__ = ['bare', 'check_counted']

_LIGHTNING = ('lightning.pytorch', 'pytorch_lightning')


def bare(optimizer: Any) -> Any:
    """Return what Lightning or Accelerate have put into a wrapper, which counts its steps.

    The wrapper takes the steps.  Its class is no other's, and not all of them load a
    state into what is inside.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> bare(sgd) is sgd
    True
    """
    inner = getattr(optimizer, 'optimizer', None)
    return bare(inner) if isinstance(inner, Optimizer) and inner is not optimizer else optimizer


def check_counted(search: Any) -> None:
    """Refuse the bare optimizers of Lightning's trainer, whose steps it does not count.

    A trainer that has counted no step saves no checkpoint.  It is looked at in the first step
    of a search, which the trainer's loop has called.

    Raises:
        ConfigError: Optimizers that the trainer has wrapped, without their wrappers.
    """
    if vars(search).get('_is_counted') or not any(name in sys.modules for name in _LIGHTNING):
        return
    trainer = _trainer_above(sys._getframe(1))
    theirs = {id(optimizer) for optimizer in getattr(trainer, 'optimizers', ())}
    for name in ('weight_optimizer', 'arch_optimizer'):
        if id(getattr(search, name)) in theirs:
            raise ConfigError(
                f"`{name}` of the search is one of Lightning's trainer without its wrapper, so "
                'that `global_step` would stay 0 and no checkpoint be saved; set '
                '`automatic_optimization = False` and give the search *self.optimizers()'
            )
    search._is_counted = True


def _trainer_above(frame: FrameType | None) -> Any:
    """Return the trainer that one of the calling functions belongs to, if there is one."""
    while frame is not None:
        if str(frame.f_globals.get('__name__')).startswith(_LIGHTNING):
            owner = frame.f_locals.get('self')
            if '.loops.' in type(owner).__module__:
                return getattr(owner, 'trainer', None)
        frame = frame.f_back
    return None
