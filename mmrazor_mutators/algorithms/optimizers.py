"""What a search needs of the optimizer wrappers that a runner brings."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from ..errors import ConfigError
from .legacy_steps import LEGACY_GRAD_CLIP

__all__ = ['clipping_of', 'optimizer_of']

_HINT = (
    "optim_wrapper=dict(constructor='SeparateOptimWrapperConstructor', architecture=..., "
    'mutator=...) makes them'
)


def optimizer_of(optim_wrapper: Any, name: str) -> Optimizer:
    """Return the optimizer of one entry of an ``OptimWrapperDict``.

    The wrapper counts its steps, which the host's schedulers ask for.  In place
    of it there may be a plain dict of optimizers, as in MMRazor v0.2.0.

    Raises:
        ConfigError: There is no such entry, or its wrapper does something
            that a search does not, as mixed precision or accumulation.
    """
    try:
        wrapper = optim_wrapper[name]
    except (AssertionError, KeyError, TypeError) as error:
        raise ConfigError(
            'Expected the optimizer wrapper of a search to be a dict of "architecture" and '
            f'"mutator", but it has no {name!r}; {_HINT}'
        ) from error
    if isinstance(wrapper, Optimizer):
        return wrapper
    if type(wrapper).__name__ != 'OptimWrapper' or wrapper._accumulative_counts != 1:
        raise ConfigError(
            f'Expected the optimizer wrapper of {name!r} to be a plain OptimWrapper with '
            f'accumulative_counts=1, which is all that a search supports (its model has '
            f'`accumulate` and `autocast`), but got '
            f'{type(wrapper).__name__} with accumulative_counts='
            f'{wrapper._accumulative_counts}'
        )
    if not hasattr(wrapper, '_counts_steps'):
        wrapper._counts_steps = wrapper.optimizer.register_step_post_hook(
            lambda *_: setattr(wrapper, '_global_step', getattr(wrapper, '_global_step', 0) + 1)
        )
    return wrapper.optimizer


def clipping_of(wrapper: Any, grad_clip: float | None) -> float | None:
    """Return the largest norm of a gradient, or ``None`` for no limit.

    Args:
        wrapper: Whose ``clip_grad`` holds if ``grad_clip`` is not given; a bare
            optimizer stands for MMRazor v0.2.0, which clips at 5.
        grad_clip: The limit, if it is given.

    Raises:
        ConfigError: ``clip_grad`` asks for something other than a norm.
    """
    if isinstance(wrapper, Optimizer):
        return LEGACY_GRAD_CLIP if grad_clip is None else grad_clip
    clip_grad = wrapper.clip_grad_kwargs
    if grad_clip is not None or not clip_grad:
        return grad_clip
    plain = {'max_norm': clip_grad.get('max_norm'), 'norm_type': 2}
    if plain['max_norm'] is None or {**plain, **clip_grad} != plain:
        raise ConfigError(
            'Expected `clip_grad` of a search to be dict(max_norm=...), but got '
            f'{dict(clip_grad)!r}'
        )
    return float(plain['max_norm'])
